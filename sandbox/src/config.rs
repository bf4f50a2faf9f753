//! The initial settings of a sandbox.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use service::config::Settings;
use url::Url;

use crate::apps::ClientCredentials;
use crate::subject::is_id;

const WHOLE_NUMBER: &str = "a whole number";

const APPS: &str = "EVERGREEN_SANDBOX_APPS";

/// The settings of a sandbox. `PUT /_sandbox/settings` changes them at run time, except for the client
/// credentials and the webhook URL.
#[derive(Clone, Debug)]
pub struct Config {
    /// The client id of the default app.
    pub client_id: String,
    /// The client secret. All tokens are signed with it, so a restarted sandbox with the same secret
    /// accepts its earlier tokens.
    pub client_secret: SecretString,
    /// The client credentials of further apps, or further ones of the same app.
    pub apps: Vec<ClientCredentials>,
    /// The lifetime of an access token, sent in whole seconds as `expires_in`.
    pub token_lifetime: Duration,
    /// Likewise, for the first access token after a consent. `None` for the same lifetime.
    pub first_token_lifetime: Option<Duration>,
    /// How long after its use a refresh token still gets the same successor. Zero for strict single use.
    /// GHL's changelog says 30 s.
    pub replay_grace: Duration,
    /// Whether such a replay also returns the same access token. GHL does not document it.
    pub replay_same_access_token: bool,
    /// Artificial latency of every API call.
    pub latency: Duration,
    /// Requests per location and [`rate_interval`](Self::rate_interval). 0 for no limit.
    pub rate_limit: u32,
    /// The interval of [`rate_limit`](Self::rate_limit).
    pub rate_interval: Duration,
    /// Requests per location and day. 0 for no limit.
    pub daily_limit: u32,
    /// The size of an access token in bytes. Shorter ones are padded.
    pub token_bytes: usize,
    /// Whether a new consent ends the earlier grants of the same location or company. GHL does not document
    /// it.
    pub revoke_replaced_grants: bool,
    /// The receiver of webhooks. `None` to send none.
    pub webhook_url: Option<Url>,
    /// The pause before the first retry of a webhook. The pause before the n-th retry is n times as long.
    pub webhook_retry_pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client_id: "sandbox-client".to_owned(),
            client_secret: SecretString::from("sandbox-secret"),
            apps: Vec::new(),
            // GHL's `expires_in` is one second short of a day.
            token_lifetime: Duration::from_secs(24 * 60 * 60 - 1),
            first_token_lifetime: None,
            replay_grace: Duration::from_secs(30),
            replay_same_access_token: false,
            latency: Duration::ZERO,
            rate_limit: 100,
            rate_interval: Duration::from_secs(10),
            daily_limit: 200_000,
            token_bytes: 1024,
            revoke_replaced_grants: false,
            webhook_url: None,
            webhook_retry_pause: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Reads the settings named `EVERGREEN_SANDBOX_…`.
    pub fn read(settings: &mut Settings<'_>) -> Self {
        let default = Self::default();
        let first_lifetime =
            settings.duration("EVERGREEN_SANDBOX_FIRST_TOKEN_LIFETIME", Duration::ZERO);
        let client_id = settings.text_or("EVERGREEN_SANDBOX_CLIENT_ID", &default.client_id);
        let apps = read_apps(settings, &client_id);
        Self {
            client_id,
            apps,
            client_secret: settings
                .secret("EVERGREEN_SANDBOX_CLIENT_SECRET")
                .unwrap_or(default.client_secret),
            token_lifetime: settings
                .duration("EVERGREEN_SANDBOX_TOKEN_LIFETIME", default.token_lifetime),
            first_token_lifetime: (!first_lifetime.is_zero()).then_some(first_lifetime),
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
            revoke_replaced_grants: settings.parse(
                "EVERGREEN_SANDBOX_REVOKE_REPLACED_GRANTS",
                default.revoke_replaced_grants,
                "true or false",
            ),
            webhook_url: settings.url_optional("EVERGREEN_SANDBOX_WEBHOOK_URL"),
            webhook_retry_pause: settings.duration(
                "EVERGREEN_SANDBOX_WEBHOOK_RETRY_PAUSE",
                default.webhook_retry_pause,
            ),
        }
    }
}

/// Reads `clientId:secret,clientId:secret`. No message repeats any part of a secret.
fn read_apps(settings: &mut Settings<'_>, default_client_id: &str) -> Vec<ClientCredentials> {
    let Some(text) = settings.secret(APPS) else {
        return Vec::new();
    };
    let mut apps: Vec<ClientCredentials> = Vec::new();
    for (position, pair) in text.expose_secret().split(',').enumerate() {
        let number = position + 1;
        let Some((client_id, secret)) = pair.trim().split_once(':') else {
            settings.mistake(APPS, format!("entry {number} is not clientId:secret"));
            continue;
        };
        if !is_id(client_id) || secret.is_empty() {
            settings.mistake(APPS, format!("entry {number} is not clientId:secret"));
        } else if client_id == default_client_id
            || apps.iter().any(|known| known.client_id == client_id)
        {
            settings.mistake(APPS, format!("entry {number} repeats a client id"));
        } else {
            apps.push(ClientCredentials {
                client_id: client_id.to_owned(),
                client_secret: SecretString::from(secret),
            });
        }
    }
    apps
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

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
    fn unset_settings_have_defaults() {
        let config = read(&[]).unwrap();
        assert_eq!(config.client_id, "sandbox-client");
        assert_eq!(config.client_secret.expose_secret(), "sandbox-secret");
        assert_eq!(config.token_lifetime, Duration::from_secs(86_399));
        assert_eq!(config.first_token_lifetime, None);
        assert_eq!(config.rate_limit, 100);
        assert!(config.webhook_url.is_none());
    }

    #[test]
    fn every_setting_is_read() {
        let config = read(&[
            ("EVERGREEN_SANDBOX_CLIENT_ID", "id"),
            ("EVERGREEN_SANDBOX_CLIENT_SECRET", "secret"),
            ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "20s"),
            ("EVERGREEN_SANDBOX_FIRST_TOKEN_LIFETIME", "3s"),
            ("EVERGREEN_SANDBOX_REPLAY_GRACE", "0s"),
            ("EVERGREEN_SANDBOX_REPLAY_SAME_ACCESS_TOKEN", "true"),
            ("EVERGREEN_SANDBOX_LATENCY", "5ms"),
            ("EVERGREEN_SANDBOX_RATE_LIMIT", "0"),
            ("EVERGREEN_SANDBOX_RATE_INTERVAL", "1s"),
            ("EVERGREEN_SANDBOX_DAILY_LIMIT", "7"),
            ("EVERGREEN_SANDBOX_TOKEN_BYTES", "8192"),
            ("EVERGREEN_SANDBOX_WEBHOOK_URL", "http://127.0.0.1:1/hook"),
            ("EVERGREEN_SANDBOX_WEBHOOK_RETRY_PAUSE", "2ms"),
            ("EVERGREEN_SANDBOX_REVOKE_REPLACED_GRANTS", "true"),
            ("EVERGREEN_SANDBOX_APPS", "other-a:one, other-b:two"),
        ])
        .unwrap();
        assert_eq!(config.client_id, "id");
        assert_eq!(config.client_secret.expose_secret(), "secret");
        assert_eq!(config.token_lifetime, Duration::from_secs(20));
        assert_eq!(config.first_token_lifetime, Some(Duration::from_secs(3)));
        assert_eq!(config.replay_grace, Duration::ZERO);
        assert!(config.replay_same_access_token);
        assert_eq!(config.latency, Duration::from_millis(5));
        assert_eq!(config.rate_limit, 0);
        assert_eq!(config.rate_interval, Duration::from_secs(1));
        assert_eq!(config.daily_limit, 7);
        assert_eq!(config.token_bytes, 8192);
        assert_eq!(config.webhook_url.unwrap().path(), "/hook");
        assert_eq!(config.webhook_retry_pause, Duration::from_millis(2));
        assert!(config.revoke_replaced_grants);
        assert_eq!(config.apps.len(), 2);
        assert_eq!(config.apps[1].client_id, "other-b");
        assert_eq!(config.apps[1].client_secret.expose_secret(), "two");
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

    #[test]
    fn mistakes_in_client_credentials_do_not_repeat_secrets() {
        for apps in [
            "other-hidden",
            "other:hidden,other:hidden",
            "a b:hidden",
            "sandbox-client:hidden",
        ] {
            let mistakes = read(&[
                ("EVERGREEN_SANDBOX_APPS", apps),
                ("EVERGREEN_SANDBOX_RATE_LIMIT", "-1"),
            ]);
            let text = mistakes.unwrap_err().to_string();
            assert!(text.contains("EVERGREEN_SANDBOX_APPS"), "{text}");
            assert!(text.contains("EVERGREEN_SANDBOX_RATE_LIMIT"), "{text}");
            assert!(!text.contains("hidden"), "{text}");
        }
    }
}
