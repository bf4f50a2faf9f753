//! What the sandbox is started with.

use std::time::Duration;

use secrecy::SecretString;
use service::config::Settings;
use url::Url;

const WHOLE_NUMBER: &str = "a whole number";

/// The sandbox's settings. All but the client pair and the webhook URL can be changed while it
/// runs, at `PUT /_sandbox/settings`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The one app that is known here.
    pub client_id: String,
    /// Its secret. All tokens are signed with keys derived from it, so that a sandbox started
    /// again with the same secret goes on accepting the tokens it handed out before.
    pub client_secret: SecretString,
    /// How long an access token is good; answered in whole seconds as `expires_in`.
    pub token_lifetime: Duration,
    /// How long after it was spent a refresh token still answers the same successor. Zero is
    /// strict single use.
    pub replay_grace: Duration,
    /// Whether such a repeat also answers the same access token. GHL does not document it.
    pub replay_same_access_token: bool,
    /// Artificial latency of every API call.
    pub latency: Duration,
    /// Requests per location and [`rate_interval`](Self::rate_interval); 0 is no limit.
    pub rate_limit: u32,
    /// What [`rate_limit`](Self::rate_limit) counts over.
    pub rate_interval: Duration,
    /// Requests per location and day; 0 is no limit.
    pub daily_limit: u32,
    /// Size of an access token, in bytes: what is shorter is padded.
    pub token_bytes: usize,
    /// Where INSTALL and UNINSTALL webhooks go; none are sent without it.
    pub webhook_url: Option<Url>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client_id: "sandbox-client".to_owned(),
            client_secret: SecretString::from("sandbox-secret"),
            // GHL's `expires_in` is one second short of a day.
            token_lifetime: Duration::from_secs(24 * 60 * 60 - 1),
            replay_grace: Duration::from_secs(30),
            replay_same_access_token: false,
            latency: Duration::ZERO,
            rate_limit: 100,
            rate_interval: Duration::from_secs(10),
            daily_limit: 200_000,
            token_bytes: 1024,
            webhook_url: None,
        }
    }
}

impl Config {
    /// Reads the settings named `EVERGREEN_SANDBOX_…`.
    pub fn read(settings: &mut Settings<'_>) -> Self {
        let default = Self::default();
        Self {
            client_id: settings
                .text("EVERGREEN_SANDBOX_CLIENT_ID")
                .unwrap_or(default.client_id),
            client_secret: settings
                .secret("EVERGREEN_SANDBOX_CLIENT_SECRET")
                .unwrap_or(default.client_secret),
            token_lifetime: settings
                .duration("EVERGREEN_SANDBOX_TOKEN_LIFETIME", default.token_lifetime),
            replay_grace: settings.duration("EVERGREEN_SANDBOX_REPLAY_GRACE", default.replay_grace),
            replay_same_access_token: settings.parse(
                "EVERGREEN_SANDBOX_REPLAY_SAME_ACCESS_TOKEN",
                default.replay_same_access_token,
                "true or false",
            ),
            latency: settings.duration("EVERGREEN_SANDBOX_LATENCY", default.latency),
            rate_limit: settings.parse(
                "EVERGREEN_SANDBOX_RATE_LIMIT",
                default.rate_limit,
                WHOLE_NUMBER,
            ),
            rate_interval: settings
                .duration("EVERGREEN_SANDBOX_RATE_INTERVAL", default.rate_interval),
            daily_limit: settings.parse(
                "EVERGREEN_SANDBOX_DAILY_LIMIT",
                default.daily_limit,
                WHOLE_NUMBER,
            ),
            token_bytes: settings.parse(
                "EVERGREEN_SANDBOX_TOKEN_BYTES",
                default.token_bytes,
                WHOLE_NUMBER,
            ),
            webhook_url: settings.url_optional("EVERGREEN_SANDBOX_WEBHOOK_URL"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use secrecy::ExposeSecret;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, service::config::Mistakes> {
        let source: HashMap<String, String> = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut settings = Settings::new(&source);
        let config = Config::read(&mut settings);
        settings.finish(config)
    }

    #[test]
    fn nothing_set_is_the_default() {
        let config = read(&[]).unwrap();
        assert_eq!(config.client_id, "sandbox-client");
        assert_eq!(config.client_secret.expose_secret(), "sandbox-secret");
        assert_eq!(config.token_lifetime, Duration::from_secs(86_399));
        assert_eq!(config.rate_limit, 100);
        assert!(config.webhook_url.is_none());
    }

    #[test]
    fn every_setting_is_read() {
        let config = read(&[
            ("EVERGREEN_SANDBOX_CLIENT_ID", "id"),
            ("EVERGREEN_SANDBOX_CLIENT_SECRET", "secret"),
            ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "20s"),
            ("EVERGREEN_SANDBOX_REPLAY_GRACE", "0s"),
            ("EVERGREEN_SANDBOX_REPLAY_SAME_ACCESS_TOKEN", "true"),
            ("EVERGREEN_SANDBOX_LATENCY", "5ms"),
            ("EVERGREEN_SANDBOX_RATE_LIMIT", "0"),
            ("EVERGREEN_SANDBOX_RATE_INTERVAL", "1s"),
            ("EVERGREEN_SANDBOX_DAILY_LIMIT", "7"),
            ("EVERGREEN_SANDBOX_TOKEN_BYTES", "8192"),
            ("EVERGREEN_SANDBOX_WEBHOOK_URL", "http://127.0.0.1:1/hook"),
        ])
        .unwrap();
        assert_eq!(config.client_id, "id");
        assert_eq!(config.client_secret.expose_secret(), "secret");
        assert_eq!(config.token_lifetime, Duration::from_secs(20));
        assert_eq!(config.replay_grace, Duration::ZERO);
        assert!(config.replay_same_access_token);
        assert_eq!(config.latency, Duration::from_millis(5));
        assert_eq!(config.rate_limit, 0);
        assert_eq!(config.rate_interval, Duration::from_secs(1));
        assert_eq!(config.daily_limit, 7);
        assert_eq!(config.token_bytes, 8192);
        assert_eq!(config.webhook_url.unwrap().path(), "/hook");
    }

    #[test]
    fn every_mistake_is_reported() {
        let mistakes = read(&[
            ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "20"),
            ("EVERGREEN_SANDBOX_RATE_LIMIT", "-1"),
        ])
        .unwrap_err()
        .to_string();
        assert!(mistakes.contains("TOKEN_LIFETIME"), "{mistakes}");
        assert!(mistakes.contains("RATE_LIMIT"), "{mistakes}");
    }
}
