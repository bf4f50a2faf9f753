//! The commands that serve. Their help has the settings that are used most.

use clap::Args as Flags;

use crate::settings_list::most_used;

/// Flags as settings: the name of each, and its value if it was given.
pub(super) type Given<'a> = Vec<(&'static str, &'a Option<String>)>;

#[derive(Debug, Flags)]
#[command(after_help = most_used(
    "up",
    &["GHL_CLIENT_ID", "GHL_CLIENT_SECRET", "GHL_REDIRECT_URI", "GHL_SCOPES", "EVERGREEN_EVENTS_URL", "EVERGREEN_LOG"],
    examples!(
        "evergreen up",
        "evergreen up --listen 0.0.0.0:8080 --data-dir /var/lib/evergreen",
        "evergreen up --config /etc/evergreen/evergreen.toml",
    ),
))]
pub(crate) struct Up {
    /// The address for callers [setting: EVERGREEN_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The address for metrics, health, tokens and administration [setting: EVERGREEN_INTERNAL_LISTEN] [default:
    /// 127.0.0.1:9080]
    #[arg(long, value_name = "ADDRESS")]
    pub internal_listen: Option<String>,
    /// The directory of the store, its keys and the journal [setting: EVERGREEN_DATA_DIR] [default: data]
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<String>,
}

#[derive(Debug, Flags)]
#[command(after_help = most_used(
    "broker",
    &["GHL_CLIENT_ID", "GHL_CLIENT_SECRET", "GHL_REDIRECT_URI", "EVERGREEN_REDIS_URL", "EVERGREEN_LOCK_URLS",
        "EVERGREEN_ACCESS_KEYS", "EVERGREEN_REFRESH_KEYS", "EVERGREEN_BROKER_NAME", "EVERGREEN_EVENTS_URL", "EVERGREEN_LOG"],
    examples!(
        "evergreen broker --config /etc/evergreen/broker.toml",
        "evergreen broker --listen 10.0.0.5:8081 --data-dir /var/lib/evergreen",
    ),
))]
pub(crate) struct Broker {
    /// The address for gateways and consents [setting: EVERGREEN_LISTEN] [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The address for metrics, health and administration [setting: EVERGREEN_INTERNAL_LISTEN] [default: 127.0.0.1:9081]
    #[arg(long, value_name = "ADDRESS")]
    pub internal_listen: Option<String>,
    /// The directory of the journal and the administrator's key [setting: EVERGREEN_DATA_DIR] [default: data]
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<String>,
}

#[derive(Debug, Flags)]
#[command(after_help = most_used(
    "gateway",
    &["EVERGREEN_BROKER_URL", "EVERGREEN_REDIS_URL", "EVERGREEN_ACCESS_KEYS", "EVERGREEN_CORS_ORIGINS",
        "EVERGREEN_TRUSTED_PROXIES", "EVERGREEN_MAX_BODY", "EVERGREEN_LOG"],
    examples!(
        "evergreen gateway --config /etc/evergreen/gateway.toml",
        "evergreen gateway --listen 0.0.0.0:8080",
    ),
))]
pub(crate) struct Gateway {
    /// The address for callers [setting: EVERGREEN_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The address for metrics, health and tokens [setting: EVERGREEN_INTERNAL_LISTEN] [default: 127.0.0.1:9080]
    #[arg(long, value_name = "ADDRESS")]
    pub internal_listen: Option<String>,
}

#[cfg(feature = "sandbox")]
#[derive(Debug, Flags)]
#[command(after_help = concat!(
    examples!("evergreen sandbox", "evergreen sandbox --listen 127.0.0.1:8090"),
    "\n\nIts settings: `evergreen settings sandbox`",
))]
pub(crate) struct Sandbox {
    /// Its address [setting: EVERGREEN_SANDBOX_LISTEN] [default: 127.0.0.1:8090]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

impl Up {
    pub(super) fn settings(&self) -> Given<'_> {
        let Self {
            listen,
            internal_listen,
            data_dir,
        } = self;
        vec![
            ("EVERGREEN_LISTEN", listen),
            ("EVERGREEN_INTERNAL_LISTEN", internal_listen),
            ("EVERGREEN_DATA_DIR", data_dir),
        ]
    }
}

impl Broker {
    pub(super) fn settings(&self) -> Given<'_> {
        let Self {
            listen,
            internal_listen,
            data_dir,
        } = self;
        vec![
            ("EVERGREEN_LISTEN", listen),
            ("EVERGREEN_INTERNAL_LISTEN", internal_listen),
            ("EVERGREEN_DATA_DIR", data_dir),
        ]
    }
}

impl Gateway {
    pub(super) fn settings(&self) -> Given<'_> {
        let Self {
            listen,
            internal_listen,
        } = self;
        vec![
            ("EVERGREEN_LISTEN", listen),
            ("EVERGREEN_INTERNAL_LISTEN", internal_listen),
        ]
    }
}
