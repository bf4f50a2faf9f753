//! The settings of TLS to Redis.

use secrecy::{ExposeSecret, SecretString};
use service::config::Settings;
use service::tls::{Authorities, read_pem_pair};
use store::connection::RedisTls;

const CA_FILE: &str = "EVERGREEN_REDIS_CA_FILE";
const CERT: &str = "EVERGREEN_REDIS_CERT";
const KEY: &str = "EVERGREEN_REDIS_KEY";

/// Reads `EVERGREEN_REDIS_CA_FILE`, `EVERGREEN_REDIS_CERT` and `EVERGREEN_REDIS_KEY`.
pub(crate) fn read(settings: &mut Settings<'_>) -> RedisTls {
    let authorities = Authorities::read_file(settings, CA_FILE);
    let identity = read_pem_pair(settings, CERT, KEY);
    let identity = identity.map(|pair| (pair.certificate, pair.key));
    RedisTls::new(authorities.map(|it| it.pem().to_vec()), identity)
}

/// As [`read`], for these URLs of the store and of lock nodes. One of them must be over TLS.
pub(crate) fn read_for<'u>(
    settings: &mut Settings<'_>,
    urls: impl IntoIterator<Item = &'u SecretString>,
) -> RedisTls {
    let is_over_tls = |url: &SecretString| url.expose_secret().starts_with("rediss");
    if !urls.into_iter().any(is_over_tls) {
        for setting in [CA_FILE, CERT] {
            if settings.text(setting).is_some() {
                settings.mistake(
                    setting,
                    "has no effect: no URL of Redis begins with rediss://, rediss-sentinel:// or rediss-cluster://",
                );
            }
        }
    }
    read(settings)
}
