//! The sources of the settings, and the list of known settings.

mod doubts;
pub(crate) mod spelling;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::APP_SECTIONS;
use service::client_address::TrustedProxies;
use service::config::{Environment, Flags, Layered, Settings, Source, TomlFile};
use service::connection_limits::ConnectionLimits;
use service::origin::OwnHosts;
use url::Url;

use crate::args::Args;
use crate::exit::Failure;
pub(crate) use doubts::doubts;

/// Every setting. Secrets also have a variant with the suffix `_FILE`.
pub(crate) const KNOWN: &[&str] = &[
    "EVERGREEN_ACCESS_KEYS",
    "EVERGREEN_ACCESS_KEYS_COMMAND",
    "EVERGREEN_ACCESS_LOG",
    "EVERGREEN_ADMIN_KEY",
    "EVERGREEN_ADMIN_URL",
    "EVERGREEN_ALLOWED_HOSTS",
    "EVERGREEN_ALLOW_CLEARTEXT",
    "EVERGREEN_ALLOW_TMPFS",
    "EVERGREEN_ANONYMOUS_RATE",
    "EVERGREEN_APPS_DIR",
    "EVERGREEN_AUDIT_LOG",
    "EVERGREEN_BOOTSTRAP_KEY",
    "EVERGREEN_BROKER_NAME",
    "EVERGREEN_BROKER_URL",
    "EVERGREEN_CA_FILE",
    "EVERGREEN_CLIENT_CERT",
    "EVERGREEN_CLIENT_KEY",
    "EVERGREEN_CONFIG",
    "EVERGREEN_CONNECT_TIMEOUT",
    "EVERGREEN_CONSENT_RATE",
    "EVERGREEN_CORS_ORIGINS",
    "EVERGREEN_DATA_DIR",
    "EVERGREEN_DRAIN",
    "EVERGREEN_EVENTS_ALLOW_PRIVATE",
    "EVERGREEN_EVENTS_SECRET",
    "EVERGREEN_EVENTS_URL",
    "EVERGREEN_EXPIRED_WAIT",
    "EVERGREEN_IDLE_TIMEOUT",
    "EVERGREEN_INSTANCE",
    "EVERGREEN_INTERNAL_LISTEN",
    "EVERGREEN_JOURNAL_MAX",
    "EVERGREEN_KEY_STALENESS",
    "EVERGREEN_LISTEN",
    "EVERGREEN_LOCK_URLS",
    "EVERGREEN_LOG",
    "EVERGREEN_LOG_FORMAT",
    "EVERGREEN_MAX_BODY",
    "EVERGREEN_MAX_CONNECTIONS",
    "EVERGREEN_MAX_CONNECTIONS_PER_ADDRESS",
    "EVERGREEN_MAX_REQUESTS",
    "EVERGREEN_MAX_REQUESTS_PER_KEY",
    "EVERGREEN_QUEUE_TIMEOUT",
    "EVERGREEN_RECEIVE_MEMORY",
    "EVERGREEN_REDIS_CA_FILE",
    "EVERGREEN_REDIS_CERT",
    "EVERGREEN_REDIS_KEY",
    "EVERGREEN_REDIS_PREFIX",
    "EVERGREEN_REDIS_REPLICAS",
    "EVERGREEN_REDIS_URL",
    "EVERGREEN_REFRESH_CONCURRENCY",
    "EVERGREEN_REFRESH_KEYS",
    "EVERGREEN_REFRESH_KEYS_COMMAND",
    "EVERGREEN_REFRESH_LEAD",
    "EVERGREEN_REFRESH_RATE",
    "EVERGREEN_REFRESH_WAIT",
    "EVERGREEN_REPLAY_GRACE",
    "EVERGREEN_REQUIRE_STATE",
    "EVERGREEN_RETURN_URLS",
    "EVERGREEN_PUBLIC_EXTERNAL_IDS",
    "EVERGREEN_APP_TITLE",
    "EVERGREEN_APP_LOGO_URL",
    "EVERGREEN_RESPONSE_TIMEOUT",
    "EVERGREEN_SANDBOX_APPS",
    "EVERGREEN_SANDBOX_CLIENT_ID",
    "EVERGREEN_SANDBOX_CLIENT_SECRET",
    "EVERGREEN_SANDBOX_DAILY_LIMIT",
    "EVERGREEN_SANDBOX_FIRST_TOKEN_LIFETIME",
    "EVERGREEN_SANDBOX_LATENCY",
    "EVERGREEN_SANDBOX_LISTEN",
    "EVERGREEN_SANDBOX_RATE_INTERVAL",
    "EVERGREEN_SANDBOX_RATE_LIMIT",
    "EVERGREEN_SANDBOX_REPLAY_GRACE",
    "EVERGREEN_SANDBOX_REPLAY_SAME_ACCESS_TOKEN",
    "EVERGREEN_SANDBOX_REVOKE_REPLACED_GRANTS",
    "EVERGREEN_SANDBOX_TOKEN_BYTES",
    "EVERGREEN_SANDBOX_TOKEN_LIFETIME",
    "EVERGREEN_SANDBOX_WEBHOOK_RETRY_PAUSE",
    "EVERGREEN_SANDBOX_WEBHOOK_URL",
    "EVERGREEN_SHUTDOWN_TIMEOUT",
    "EVERGREEN_STORE_CHECK",
    "EVERGREEN_TLS_CERT",
    "EVERGREEN_TLS_CLIENT_CA",
    "EVERGREEN_TLS_KEY",
    "EVERGREEN_TOKEN_TIMEOUT",
    "EVERGREEN_TOTAL_TIMEOUT",
    "EVERGREEN_TRACE_TO_GHL",
    "EVERGREEN_TRUSTED_PROXIES",
];

/// Where the settings are. They can be read again.
#[derive(Clone)]
pub(crate) struct Sources {
    flags: HashMap<String, String>,
    file: Option<PathBuf>,
}

impl Sources {
    pub(crate) fn of(args: &Args) -> Self {
        Self {
            flags: args.flags(),
            file: args.config.clone(),
        }
    }

    pub(crate) fn read(&self) -> Result<Layered, Failure> {
        read_layers(self.flags.clone(), self.file.as_deref())
    }
}

/// The layers of settings: flags, then the environment, then the file, then the files of apps.
fn read_layers(flags: HashMap<String, String>, file: Option<&Path>) -> Result<Layered, Failure> {
    let mut layers: Vec<Box<dyn Source>> = vec![Box::new(Flags(flags)), Box::new(Environment)];
    if let Some(path) = file {
        let file =
            TomlFile::read(path).map_err(|error| Failure::Settings(crate::exit::chain(&error)))?;
        layers.push(Box::new(file));
    }
    let source = Layered(layers);
    match source.get("EVERGREEN_APPS_DIR") {
        Some(directory) => {
            let apps = TomlFile::read_apps(directory.trim().as_ref());
            let apps = apps.map_err(|error| Failure::Settings(crate::exit::chain(&error)))?;
            let Layered(mut layers) = source;
            layers.push(Box::new(apps));
            Ok(Layered(layers))
        }
        None => Ok(source),
    }
}

/// The settings of every serving process.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub listen: SocketAddr,
    pub internal_listen: SocketAddr,
    pub data_dir: PathBuf,
    /// The names under which this process may be addressed. If empty, every name beyond loopback.
    allowed_hosts: Vec<String>,
    redirect_hosts: Vec<String>,
    /// The connections of all listeners together.
    limits: ConnectionLimits,
    /// How long the process serves on, without being ready, after a signal to stop.
    drain: Duration,
    pub shutdown_timeout: Duration,
}

/// Nothing balances over loopback. Elsewhere, load balancers need some seconds to notice.
fn default_drain(listen: SocketAddr) -> Duration {
    match listen.ip().to_canonical().is_loopback() {
        true => Duration::ZERO,
        false => Duration::from_secs(5),
    }
}

const EXPECTED_ADDRESS: &str = "an address and port such as 127.0.0.1:8080";

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The public listener. Platforms that run one container, such as Render or Heroku, say in `PORT` where they connect.
fn listen(settings: &mut Settings<'_>, port: u16) -> SocketAddr {
    let listen = settings.parse_optional("EVERGREEN_LISTEN", EXPECTED_ADDRESS);
    // A mistake is reported already. It must not hide behind `PORT`.
    let is_set = listen.is_some() || settings.text("EVERGREEN_LISTEN").is_some();
    let of_platform = (!is_set)
        .then(|| settings.parse_optional::<NonZeroU16>("PORT", "a port such as 8080"))
        .flatten()
        .map(|port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.get())));
    listen.or(of_platform).unwrap_or_else(|| loopback(port))
}

/// The internal listener, if the settings name it.
pub(crate) fn internal_listen(settings: &mut Settings<'_>) -> Option<SocketAddr> {
    settings.parse_optional("EVERGREEN_INTERNAL_LISTEN", EXPECTED_ADDRESS)
}

impl Common {
    pub(crate) fn read(settings: &mut Settings<'_>, port: u16, internal_port: u16) -> Self {
        let listen = listen(settings, port);
        Self {
            listen,
            drain: settings.duration("EVERGREEN_DRAIN", default_drain(listen)),
            internal_listen: internal_listen(settings).unwrap_or_else(|| loopback(internal_port)),
            data_dir: data_dir(settings),
            allowed_hosts: allowed_hosts(settings),
            redirect_hosts: redirect_hosts(settings),
            limits: connection_limits(settings),
            shutdown_timeout: settings
                .duration("EVERGREEN_SHUTDOWN_TIMEOUT", Duration::from_secs(30)),
        }
    }
}

impl Common {
    /// The settings of a process for its connections and its end.
    pub(crate) fn running(&self) -> (ConnectionLimits, Duration) {
        (self.limits.clone(), self.drain)
    }

    /// The names of the listener for callers. GHL sends customers to those of the redirect URIs.
    pub(crate) fn public_hosts(&self) -> OwnHosts {
        let own = OwnHosts::new(self.listen, self.allowed_hosts.clone());
        let redirects = self.redirect_hosts.iter().cloned();
        redirects.fold(own, |own, host| own.with(Some(host)))
    }

    /// The names of the listener for operators.
    pub(crate) fn internal_hosts(&self) -> OwnHosts {
        OwnHosts::new(self.internal_listen, self.allowed_hosts.clone())
    }
}

/// The data directory.
pub(crate) fn data_dir(settings: &mut Settings<'_>) -> PathBuf {
    settings.text_or("EVERGREEN_DATA_DIR", "data").into()
}

/// The names in `EVERGREEN_ALLOWED_HOSTS`.
fn allowed_hosts(settings: &mut Settings<'_>) -> Vec<String> {
    let listed = settings.text("EVERGREEN_ALLOWED_HOSTS").unwrap_or_default();
    let names = listed.split(',').map(str::trim);
    let names: Vec<String> = names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    if names.iter().any(|name| name.contains(['/', ':'])) {
        settings.mistake(
            "EVERGREEN_ALLOWED_HOSTS",
            "must be host names separated by commas, without a scheme or a port, such as tokens.example.com",
        );
    }
    names
}

/// Far above what callers need, and within what a process can hold.
fn connection_limits(settings: &mut Settings<'_>) -> ConnectionLimits {
    const EXPECTED: &str = "a whole number from 1 on";
    let total = const { NonZeroUsize::new(20_000).expect("not zero") };
    let per_address = const { NonZeroUsize::new(2_000).expect("not zero") };
    ConnectionLimits::new(
        settings
            .parse("EVERGREEN_MAX_CONNECTIONS", total, EXPECTED)
            .get(),
        settings
            .parse(
                "EVERGREEN_MAX_CONNECTIONS_PER_ADDRESS",
                per_address,
                EXPECTED,
            )
            .get(),
        TrustedProxies::read(settings),
    )
}

/// The hosts to which GHL sends customers back: one for each app.
fn redirect_hosts(settings: &mut Settings<'_>) -> Vec<String> {
    let sections = settings.sections(APP_SECTIONS).into_iter();
    let of_apps = sections.map(|app| format!("{APP_SECTIONS}.{app}.redirect_uri"));
    let keys = of_apps.chain(["GHL_REDIRECT_URI".to_owned()]);
    let uris: Vec<String> = keys.filter_map(|key| settings.text(&key)).collect();
    let uris = uris.iter().filter_map(|uri| Url::parse(uri).ok());
    uris.filter_map(|uri| uri.host_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen_with(settings: &[(&str, &str)]) -> Result<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let source: HashMap<String, String> = settings.iter().map(owned).collect();
        let mut settings = Settings::new(&source);
        let address = listen(&mut settings, 8080);
        let address = settings.finish(address.to_string());
        address.map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn port_of_a_platform_is_used_without_an_address() {
        let address = |settings: &[(&str, &str)]| listen_with(settings).unwrap();
        assert_eq!(address(&[]), "127.0.0.1:8080");
        assert_eq!(address(&[("PORT", "")]), "127.0.0.1:8080");
        assert_eq!(address(&[("PORT", "10000")]), "0.0.0.0:10000");
        let both = [("PORT", "10000"), ("EVERGREEN_LISTEN", "127.0.0.1:80")];
        assert_eq!(address(&both), "127.0.0.1:80");
        let empty = [("PORT", "10000"), ("EVERGREEN_LISTEN", "")];
        assert_eq!(address(&empty), "0.0.0.0:10000");
    }

    #[test]
    fn port_that_is_none_is_a_mistake() {
        for port in ["0", "65536", "tcp://10.0.0.1:80"] {
            let mistakes = listen_with(&[("PORT", port)]).unwrap_err();
            assert!(mistakes.contains("PORT"), "{mistakes}");
        }
        let wrong = [("PORT", "10000"), ("EVERGREEN_LISTEN", "8080")];
        let mistakes = listen_with(&wrong).unwrap_err();
        assert!(mistakes.contains("EVERGREEN_LISTEN"), "{mistakes}");
    }
}
