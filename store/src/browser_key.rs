//! Browser keys: keys that the backend of an app gives to its web pages, for some calls of one installation.
//!
//! A key is signed with the access ring instead of stored. Any number of them therefore fills no store, and a gateway
//! checks one without a question. It names the key that issued it, ends with that one, and may never do more.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::allowed_call::AllowedCall;
use crate::caller::KeyHash;
use crate::clock::Timestamp;
use crate::id::InstallationId;
use crate::seal::KeyRing;

/// How a browser key begins. Secret scanners search for it.
pub const PREFIX: &str = "evb_";

/// The longest life of a key.
pub const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The life of a key if its issuer names none.
pub const USUAL: Duration = Duration::from_secs(15 * 60);

/// The most calls that one key may name.
pub const MAX_CALLS: usize = 20;

/// The longest key, in bytes. Servers and proxies take headers of 8 KiB.
const MAX_BYTES: usize = 4 * 1024;

/// The limits of a browser key.
///
/// As text: `evb_`, the limits as JSON in base64, the id of the sealing key, and the signature, separated by dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserKey {
    /// The key that issued it.
    pub issuer: KeyHash,
    /// The one installation that it is for.
    pub installation: InstallationId,
    /// The calls to GHL that it may make.
    pub calls: Vec<AllowedCall>,
    /// The pages that may send it. `None` for all.
    pub origin: Option<WebOrigin>,
    /// When it expires, in the store's time.
    pub expires_at: Timestamp,
}

/// The key would not fit into a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key would be longer than {MAX_BYTES} bytes: name fewer calls")]
pub struct TooLong;

/// The limits, as they are in the key. An older build refuses a key with a limit that it does not know.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    key: KeyHash,
    installation: InstallationId,
    calls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    expires: Timestamp,
}

impl BrowserKey {
    /// Whether a text begins as browser keys do.
    #[must_use]
    pub fn is_one(presented: &str) -> bool {
        presented.starts_with(PREFIX)
    }

    /// The text of the key.
    ///
    /// # Errors
    /// If the calls make it too long.
    ///
    /// # Panics
    /// Never. Texts and numbers always serialize.
    pub fn issue(&self, ring: &KeyRing) -> Result<SecretString, TooLong> {
        let body = Body {
            key: self.issuer,
            installation: self.installation.clone(),
            calls: self.calls.iter().map(ToString::to_string).collect(),
            origin: self.origin.as_ref().map(ToString::to_string),
            expires: self.expires_at,
        };
        let body = serde_json::to_vec(&body).expect("texts and numbers");
        let body = BASE64_URL_SAFE_NO_PAD.encode(body);
        let signature = ring.sign(&message(&body));
        let (id, mac) = signature.split_once(':').unwrap_or_default();
        let key = format!("{PREFIX}{body}.{id}.{mac}");
        match key.len() <= MAX_BYTES {
            true => Ok(key.into()),
            false => Err(TooLong),
        }
    }

    /// The key that this ring issued. `None` for any other text.
    #[must_use]
    pub fn verify(ring: &KeyRing, presented: &str) -> Option<Self> {
        if presented.len() > MAX_BYTES {
            return None;
        }
        let (body, signature) = presented.strip_prefix(PREFIX)?.split_once('.')?;
        let (id, mac) = signature.rsplit_once('.')?;
        if !ring.verify(&message(body), &format!("{id}:{mac}")) {
            return None;
        }
        let body = BASE64_URL_SAFE_NO_PAD.decode(body).ok()?;
        let body: Body = serde_json::from_slice(&body).ok()?;
        let calls: Result<Vec<AllowedCall>, _> = body.calls.iter().map(|it| it.parse()).collect();
        let origin = body.origin.map(|it| it.parse()).transpose();
        Some(Self {
            issuer: body.key,
            installation: body.installation,
            calls: calls.ok()?,
            origin: origin.ok()?,
            expires_at: body.expires,
        })
    }

    /// Whether it has not expired.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }

    /// Whether it may make a call to GHL. `path` is below GHL's host.
    #[must_use]
    pub fn may_call(&self, method: &str, path: &str) -> bool {
        self.calls.iter().any(|call| call.includes(method, path))
    }

    /// Whether a page with this `Origin` may send it.
    #[must_use]
    pub fn may_come_from(&self, origin: Option<&str>) -> bool {
        let is_same = |own: &WebOrigin| origin == Some(own.0.as_str());
        self.origin.as_ref().is_none_or(is_same)
    }
}

fn message(body: &str) -> String {
    format!("browser-key {body}")
}

/// The origin of web pages, as browsers send it in `Origin`: a scheme and a host, and a port unless it is the usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin(String);

/// The text is no [`WebOrigin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an origin is a scheme and a host, such as `https://app.example.com`, without a path")]
pub struct ParseWebOriginError;

impl FromStr for WebOrigin {
    type Err = ParseWebOriginError;

    fn from_str(text: &str) -> Result<Self, ParseWebOriginError> {
        let url = Url::parse(text).map_err(|_| ParseWebOriginError)?;
        let is_plain = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let is_web = matches!(url.scheme(), "http" | "https");
        match is_web && is_plain {
            true => Ok(Self(url.origin().ascii_serialization())),
            false => Err(ParseWebOriginError),
        }
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn key() -> BrowserKey {
        BrowserKey {
            issuer: KeyHash::of("evg_1"),
            installation: InstallationId::random(),
            calls: vec![
                "GET /contacts/*".parse().unwrap(),
                "POST /a".parse().unwrap(),
            ],
            origin: Some("https://app.example.com".parse().unwrap()),
            expires_at: Timestamp::from_millis(1000),
        }
    }

    fn text(ring: &KeyRing, key: &BrowserKey) -> String {
        key.issue(ring).unwrap().expose_secret().to_owned()
    }

    fn ring(text: &str) -> KeyRing {
        KeyRing::parse(&text.into()).unwrap()
    }

    #[test]
    fn key_reads_back_and_fits_a_header() {
        let ring = KeyRing::generate("a.b");
        for key in [
            key(),
            BrowserKey {
                origin: None,
                ..key()
            },
        ] {
            let text = text(&ring, &key);
            assert!(text.len() < 512, "{text}");
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
            assert!(text.chars().all(is_allowed), "RFC 6750: {text}");
            assert_eq!(BrowserKey::verify(&ring, &text), Some(key));
        }
        let many = BrowserKey {
            calls: vec![format!("GET /{}", "a".repeat(190)).parse().unwrap(); MAX_CALLS],
            ..key()
        };
        assert_eq!(many.issue(&ring).unwrap_err(), TooLong);
    }

    #[test]
    fn changed_key_is_none() {
        let ring = KeyRing::generate("a");
        let key = key();
        let issued = text(&ring, &key);
        let wider = BrowserKey {
            calls: vec!["* /*".parse().unwrap()],
            ..key.clone()
        };
        let (_, signature) = issued.split_once('.').unwrap();
        let other = text(&KeyRing::generate("a"), &wider);
        let (body, _) = other.split_once('.').unwrap();
        for forged in [
            String::new(),
            PREFIX.to_owned(),
            issued.replacen(PREFIX, "evg_", 1),
            format!("{body}.{signature}"),
            other.clone(),
            format!("{issued}A"),
            issued[..issued.len() - 1].to_owned(),
            format!("{issued}{}", "A".repeat(MAX_BYTES)),
        ] {
            assert_eq!(BrowserKey::verify(&ring, &forged), None, "{forged}");
        }
        // A key of another build, with one more limit.
        let body = BASE64_URL_SAFE_NO_PAD.encode(
            format!(
                r#"{{"key":"{}","installation":"{}","calls":[],"expires":1,"days":"mon"}}"#,
                key.issuer, key.installation
            )
            .as_bytes(),
        );
        let signature = ring.sign(&message(&body)).replace(':', ".");
        let newer = format!("{PREFIX}{body}.{signature}");
        assert_eq!(BrowserKey::verify(&ring, &newer), None);
    }

    #[test]
    fn key_outlives_a_rotation_while_its_sealing_key_is_in_the_ring() {
        let (old, new) = (KeyRing::generate_text("old"), KeyRing::generate_text("new"));
        let (old, new) = (old.expose_secret(), new.expose_secret());
        let key = key();
        let issued = text(&ring(old), &key);
        let both = ring(&format!("{new},{old}"));
        assert_eq!(BrowserKey::verify(&both, &issued), Some(key));
        assert_eq!(BrowserKey::verify(&ring(new), &issued), None);
    }

    #[test]
    fn key_is_for_its_calls_its_origin_and_its_time() {
        let key = key();
        assert!(key.may_call("GET", "/contacts/1") && !key.may_call("PUT", "/contacts/1"));
        assert!(key.may_come_from(Some("https://app.example.com")));
        for origin in [None, Some("null"), Some("https://app.example.com:8443")] {
            assert!(!key.may_come_from(origin), "{origin:?}");
        }
        let of_all = BrowserKey {
            origin: None,
            ..key.clone()
        };
        assert!(of_all.may_come_from(None));
        assert!(key.is_live(Timestamp::from_millis(999)));
        assert!(!key.is_live(Timestamp::from_millis(1000)));
    }

    #[test]
    fn origin_is_as_browsers_send_it() {
        for (written, sent) in [
            ("https://App.Example.com", "https://app.example.com"),
            ("https://app.example.com:443/", "https://app.example.com"),
            ("http://localhost:5173", "http://localhost:5173"),
        ] {
            assert_eq!(written.parse::<WebOrigin>().unwrap().to_string(), sent);
        }
        for wrong in [
            "",
            "*",
            "null",
            "app.example.com",
            "https://app.example.com/x",
            "https://app.example.com?x",
            "https://a@app.example.com",
            "chrome-extension://abc",
        ] {
            assert!(wrong.parse::<WebOrigin>().is_err(), "{wrong}");
        }
    }
}
