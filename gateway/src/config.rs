//! The gateway's settings.

use std::num::NonZeroUsize;
use std::time::Duration;

use rustls::ClientConfig;
use service::client_address::TrustedProxies;
use service::config::{Settings, Size};
use service::rate_limit::Rate;
use service::receive;
use service::tls::{self, Authorities, ClientIdentity};
use store::Quota;

use crate::access_log::decision::Mode;
use crate::api::CorsOrigins;
use crate::upstream::base_url::Base;

/// The settings of a gateway, read at its start.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) ghl: Base,
    pub(crate) broker: Base,
    /// `None` if GHL's URL is not https.
    pub(crate) ghl_tls: Option<ClientConfig>,
    /// `None` if the broker's URL is not https.
    pub(crate) broker_tls: Option<ClientConfig>,
    /// The certificate that brokers are shown if they ask for one.
    pub(crate) client_identity: Option<ClientIdentity>,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) total_timeout: Duration,
    pub(crate) refresh_wait: Duration,
    pub(crate) expired_wait: Duration,
    pub(crate) queue_timeout: Duration,
    pub(crate) max_body_bytes: u64,
    pub(crate) max_requests: usize,
    pub(crate) max_requests_per_key: usize,
    pub(crate) key_staleness: Duration,
    /// The load balancers that say where a call comes from.
    pub(crate) trusted_proxies: TrustedProxies,
    /// The requests of one address without a key.
    pub(crate) anonymous_rate: Rate,
    /// The origins whose web pages may call GHL.
    pub(crate) cors_origins: CorsOrigins,
    /// The memory for all bodies that are received from anybody, in bytes.
    pub(crate) receive_memory: u64,
    /// The requests that get a line in the access log.
    pub(crate) access_log: Mode,
    /// Whether GHL gets `traceparent`, `tracestate` and `baggage`.
    pub(crate) trace_to_ghl: bool,
}

impl Config {
    /// Reads `GHL_API_URL`, `EVERGREEN_BROKER_URL`, `EVERGREEN_CA_FILE`, `EVERGREEN_CLIENT_CERT`,
    /// `EVERGREEN_CLIENT_KEY`, `EVERGREEN_CONNECT_TIMEOUT` (5 s),
    /// `EVERGREEN_RESPONSE_TIMEOUT` (30 s), `EVERGREEN_IDLE_TIMEOUT` (30 s),
    /// `EVERGREEN_TOTAL_TIMEOUT` (5 min), `EVERGREEN_REFRESH_WAIT` (2 s), `EVERGREEN_EXPIRED_WAIT`
    /// (10 s), `EVERGREEN_QUEUE_TIMEOUT` (30 s), `EVERGREEN_MAX_BODY` (30 MB),
    /// `EVERGREEN_MAX_REQUESTS` (2000), `EVERGREEN_MAX_REQUESTS_PER_KEY` (a quarter of that), `EVERGREEN_TRUSTED_PROXIES` (loopback), `EVERGREEN_ANONYMOUS_RATE`
    /// (100/10s), `EVERGREEN_KEY_STALENESS` (5 min), `EVERGREEN_CORS_ORIGINS` (none), `EVERGREEN_RECEIVE_MEMORY`
    /// (64 MiB), `EVERGREEN_ACCESS_LOG` (`errors`) and `EVERGREEN_TRACE_TO_GHL` (`false`).
    pub fn read(settings: &mut Settings<'_>) -> Self {
        let ghl = base(settings, "GHL_API_URL", ghl::api::DEFAULT_BASE_URL);
        let broker = base(settings, "EVERGREEN_BROKER_URL", "http://127.0.0.1:8081");
        let authorities = Authorities::read(settings);
        // GHL asks for no certificate. If it did, it would not be for one of ours.
        let ghl_tls = (ghl.is_tls())
            .then(|| tls(settings, "GHL_API_URL", &authorities, None))
            .flatten();
        let client_identity = (broker.is_tls())
            .then(|| ClientIdentity::read(settings))
            .flatten();
        let shown = client_identity.as_ref();
        let broker_tls = (broker.is_tls())
            .then(|| tls(settings, "EVERGREEN_BROKER_URL", &authorities, shown))
            .flatten();
        let mut seconds = |key, seconds| settings.duration(key, Duration::from_secs(seconds));
        // Long enough for a handshake over a bad line, and short enough to detect a dead host soon.
        let connect_timeout = seconds("EVERGREEN_CONNECT_TIMEOUT", 5);
        // GHL's slower reports take many seconds.
        let response_timeout = seconds("EVERGREEN_RESPONSE_TIMEOUT", 30);
        let idle_timeout = seconds("EVERGREEN_IDLE_TIMEOUT", 30);
        // Long enough for a large file over a slow line.
        let total_timeout = seconds("EVERGREEN_TOTAL_TIMEOUT", 300);
        // The token still works, so a long wait for a newer one would only delay the response.
        let refresh_wait = seconds("EVERGREEN_REFRESH_WAIT", 2);
        // Without a fresh token the call fails, so it waits about as long as callers commonly do.
        let expired_wait = seconds("EVERGREEN_EXPIRED_WAIT", 10);
        // Three of GHL's intervals. The other half of a minute is enough for the call itself.
        let queue_timeout = seconds("EVERGREEN_QUEUE_TIMEOUT", 30);
        if expired_wait < refresh_wait {
            let message = "must not be shorter than EVERGREEN_REFRESH_WAIT: \
                           a call needs a fresh token more when its own has expired";
            settings.mistake("EVERGREEN_EXPIRED_WAIT", message);
        }
        // GHL takes files of 25 MB, and multipart adds to that.
        let max_body = settings.parse(
            "EVERGREEN_MAX_BODY",
            Size::of_bytes(30_000_000),
            "a size such as 30MB, 64KiB or 1000000",
        );
        // Their buffers take some hundred megabytes at most. The memory of waiting calls has a bound of its own
        // (`admission/concurrency.rs`).
        let max_requests = settings.parse(
            "EVERGREEN_MAX_REQUESTS",
            const { NonZeroUsize::new(2000).expect("not zero") },
            "a whole number from 1 on",
        );
        // A revoked key works at most so long while the store is away. Calls outlive a restart of the store.
        let key_staleness = settings.duration("EVERGREEN_KEY_STALENESS", Duration::from_secs(300));
        // One caller leaves room for three others.
        let quarter = NonZeroUsize::new(max_requests.get() / 4).unwrap_or(NonZeroUsize::MIN);
        let max_requests_per_key = settings.parse(
            "EVERGREEN_MAX_REQUESTS_PER_KEY",
            quarter,
            "a whole number from 1 on",
        );
        Self {
            ghl,
            broker,
            ghl_tls,
            broker_tls,
            client_identity,
            connect_timeout,
            response_timeout,
            idle_timeout,
            total_timeout,
            refresh_wait,
            expired_wait,
            queue_timeout,
            max_body_bytes: max_body.bytes(),
            max_requests: max_requests.get(),
            max_requests_per_key: max_requests_per_key.get(),
            key_staleness,
            trusted_proxies: TrustedProxies::read(settings),
            anonymous_rate: rate(settings, "EVERGREEN_ANONYMOUS_RATE", "100/10s"),
            cors_origins: CorsOrigins::read(settings),
            receive_memory: receive::read_memory(settings),
            access_log: settings.parse("EVERGREEN_ACCESS_LOG", Mode::Errors, "off, errors or all"),
            trace_to_ghl: settings.parse("EVERGREEN_TRACE_TO_GHL", false, "true or false"),
        }
    }
}

fn rate(settings: &mut Settings<'_>, key: &'static str, default: &str) -> Rate {
    let default: Quota = default.parse().expect("a rate");
    let rate = settings.parse(key, default, "requests per interval such as 100/10s");
    Rate::new(rate.calls(), rate.interval())
}

fn base(settings: &mut Settings<'_>, key: &'static str, default: &str) -> Base {
    let url = settings.url_for_secrets(key, default);
    Base::new(&url).unwrap_or_else(|reason| {
        settings.mistake(key, format!("cannot be a base URL: {reason}"));
        Base::placeholder()
    })
}

fn tls(
    settings: &mut Settings<'_>,
    key: &'static str,
    authorities: &Authorities,
    identity: Option<&ClientIdentity>,
) -> Option<ClientConfig> {
    tls::connections(authorities, identity)
        .map_err(|reason| settings.mistake(key, format!("is https, but TLS cannot work: {reason}")))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let source: HashMap<String, String> = pairs.collect();
        let mut settings = Settings::new(&source);
        let config = Config::read(&mut settings);
        settings
            .finish(config)
            .map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn http_urls_need_no_tls_config() {
        let config = read(&[("GHL_API_URL", "http://127.0.0.1:8090")]).unwrap();
        assert!(config.ghl_tls.is_none() && config.broker_tls.is_none());
        assert_eq!(config.max_body_bytes, 30_000_000);
        assert_eq!(config.expired_wait, Duration::from_secs(10));
    }

    #[test]
    fn every_invalid_setting_is_reported() {
        let mistakes = read(&[
            ("GHL_API_URL", "http://127.0.0.1:8090/?a=1"),
            ("EVERGREEN_EXPIRED_WAIT", "1s"),
            ("EVERGREEN_MAX_BODY", "thirty"),
            ("EVERGREEN_ACCESS_LOG", "some"),
        ]);
        let mistakes = mistakes.unwrap_err();
        for key in [
            "GHL_API_URL",
            "EVERGREEN_EXPIRED_WAIT",
            "EVERGREEN_MAX_BODY",
            "EVERGREEN_ACCESS_LOG",
        ] {
            assert!(mistakes.contains(key), "{mistakes}");
        }
    }

    #[test]
    fn cleartext_beyond_this_machine_is_refused() {
        for key in ["GHL_API_URL", "EVERGREEN_BROKER_URL"] {
            let mistakes = read(&[(key, "http://broker.example:8081")]).unwrap_err();
            assert!(
                mistakes.contains(key) && mistakes.contains("https://"),
                "{mistakes}"
            );
            let allowed = ("EVERGREEN_ALLOW_CLEARTEXT", "true");
            assert!(read(&[(key, "http://broker.example:8081"), allowed]).is_ok());
        }
        assert!(read(&[("EVERGREEN_BROKER_URL", "http://[::1]:8081")]).is_ok());
    }
}
