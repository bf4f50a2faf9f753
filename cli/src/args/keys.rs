use std::time::Duration;

use clap::{Args as Flags, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Create a key. It is shown once
    Create(CreateKey),
    /// List all keys, also expired and revoked ones
    List(ListKeys),
    /// Make a key's successor, which may do the same. The old key, named by its id or its name, ends later
    #[command(after_help = examples!(
        "evergreen keys rotate shop",
        "evergreen keys rotate shop --overlap 1h",
    ))]
    Rotate {
        /// Its name, or its id as `keys list` shows it
        key: String,
        /// How long the old key still works, so that its caller has time to change over
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
        overlap: Duration,
    },
    /// Revoke a key, by its id or its name
    #[command(after_help = examples!("evergreen keys revoke shop"))]
    Revoke {
        /// Its name, or its id as `keys list` shows it
        key: String,
    },
}

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen keys create --name shop",
    "evergreen keys create --name shop --installation install_00112233445566778899aabb",
    "evergreen keys create --name reports --allow 'GET /contacts/*' --quota 100/10s",
    "evergreen keys create --name portal --scope connect --expires-in 90d",
    "EVERGREEN_KEY=$(evergreen keys create --name shop --quiet)",
))]
pub(crate) struct CreateKey {
    /// Its name, such as that of a service or a team
    #[arg(long)]
    pub name: String,
    /// The app whose installations it may use [default: those of all apps]
    #[arg(long, value_name = "NAME")]
    pub app: Option<store::AppName>,
    /// An installation that it may use; repeat for more [default: all]
    #[arg(long, value_name = "ID")]
    pub installation: Vec<store::InstallationId>,
    /// A call to GHL that it may make, such as 'GET /contacts/*'; repeat for more [default: all].
    /// Methods are separated by commas, * is all of them; /* at the end includes the paths below
    #[arg(long, value_name = "METHODS PATH")]
    pub allow: Vec<store::AllowedCall>,
    /// Its scopes: proxy, tokens, connect (for a backend: one-time links, browser keys, user contexts), admin,
    /// view (see the console), metrics; repeat for more
    #[arg(long, value_name = "SCOPE", default_value = "proxy")]
    pub scope: Vec<store::Scope>,
    /// When it expires, such as 90d [default: never]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub expires_in: Option<Duration>,
    /// The calls per interval that a gateway admits, such as 100/10s [default: no limit].
    /// The whole quota may be used at once, and it refills evenly over the interval. Each
    /// gateway counts on its own: with N of them behind a load balancer the key gets up to N
    /// times as much
    #[arg(long, value_name = "CALLS/INTERVAL")]
    pub quota: Option<store::Quota>,
}

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen keys list",
    "evergreen keys list --live --sort expires",
    "evergreen keys list --quiet | head -1",
))]
pub(crate) struct ListKeys {
    /// Only keys that are not expired or revoked
    #[arg(long)]
    pub live: bool,
    /// The order [default: that of the store]
    #[arg(long, value_enum, value_name = "BY")]
    pub sort: Option<KeyOrder>,
    /// The most keys
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

/// The order of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyOrder {
    /// The soonest to expire first
    Expires,
    /// The last used first
    Used,
    Name,
}
