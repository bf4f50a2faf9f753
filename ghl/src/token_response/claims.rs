//! The claims of an access token, if it is a JWT. The signature is not checked, because the token comes from
//! GHL itself.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// The claims that are used here. A malformed one counts as absent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Claims {
    iat: Value,
    exp: Value,
    auth_class: Value,
    auth_class_id: Value,
}

impl Claims {
    /// The claims of a token. Empty if it is not a JWT.
    pub(crate) fn of(token: &str) -> Self {
        let payload = token.split('.').nth(1);
        let payload = payload.and_then(|payload| {
            let payload = payload.trim_end_matches('=');
            BASE64_URL_SAFE_NO_PAD.decode(payload).ok()
        });
        payload
            .and_then(|payload| serde_json::from_slice(&payload).ok())
            .unwrap_or_default()
    }

    /// `exp` minus `iat`.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        let seconds = self.exp.as_f64()? - self.iat.as_f64()?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// `iat`, in milliseconds since the Unix epoch.
    pub(crate) fn issued_at_ms(&self) -> Option<i64> {
        millis(&self.iat)
    }

    /// `exp`, in milliseconds since the Unix epoch.
    pub(crate) fn expires_at_ms(&self) -> Option<i64> {
        millis(&self.exp)
    }

    /// The owner: the user type, and the id of the location or company.
    pub(crate) fn owner(&self) -> Option<(&str, &str)> {
        Some((self.auth_class.as_str()?, self.auth_class_id.as_str()?))
    }
}

/// The milliseconds of a time in seconds, up to the year 2100.
fn millis(seconds: &Value) -> Option<i64> {
    const LAST: f64 = 4_102_444_800.0;
    let seconds = seconds.as_f64().filter(|at| (0.0..LAST).contains(at))?;
    i64::try_from(Duration::try_from_secs_f64(seconds).ok()?.as_millis()).ok()
}
