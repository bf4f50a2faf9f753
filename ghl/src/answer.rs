//! What the token endpoint answers when it grants something.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// A grant. Every field but the access token may be missing.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    #[serde(rename = "access_token")]
    pub access_token: SecretString,
    /// Absent: the refresh token that was used stays good.
    #[serde(
        rename = "refresh_token",
        default,
        deserialize_with = "non_empty_secret"
    )]
    pub refresh_token: Option<SecretString>,
    #[serde(rename = "expires_in", default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    #[serde(default)]
    pub scope: Option<String>,
    /// `Company` or `Location`: both kinds carry a company id, so this is what tells them apart.
    #[serde(default, deserialize_with = "non_empty")]
    pub user_type: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    pub location_id: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    pub company_id: Option<String>,
    #[serde(default)]
    pub is_bulk_installation: Option<bool>,
}

impl Answer {
    /// What a token lives where neither GHL nor the token says: the typical 24 h, less a second.
    const TYPICAL_LIFETIME: Duration = Duration::from_secs(86_399);

    /// How long the access token lives from the moment it was issued.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.expires_in
            .or_else(|| claimed_lifetime(self.access_token.expose_secret()))
            .map_or(Self::TYPICAL_LIFETIME, Duration::from_secs)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// When it is not JSON, or has no access token. The error never repeats the body.
    pub fn parse(body: &[u8]) -> Result<Self, Unintelligible> {
        let answer: Self = serde_json::from_slice(body).map_err(|error| Unintelligible {
            line: error.line(),
            column: error.column(),
        })?;
        if answer.access_token.expose_secret().is_empty() {
            return Err(Unintelligible { line: 0, column: 0 });
        }
        Ok(answer)
    }
}

/// An answer without a token in it. Says where reading stopped, not what stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("GHL's answer holds no access token (reading stopped at line {line}, column {column})")]
pub struct Unintelligible {
    line: usize,
    column: usize,
}

/// The seconds that a token claims to live, where it is a JWT that says so. Its signature is GHL's
/// matter: it came from GHL.
fn claimed_lifetime(token: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Claims {
        iat: u64,
        exp: u64,
    }
    let payload = BASE64_URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1)?)
        .ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    claims
        .exp
        .checked_sub(claims.iat)
        .filter(|seconds| (1..=A_YEAR).contains(seconds))
}

const A_YEAR: u64 = 366 * 86_400;

fn non_empty<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(input)?;
    Ok(text.filter(|text| !text.is_empty()))
}

fn non_empty_secret<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SecretString>, D::Error> {
    let text = Option::<SecretString>::deserialize(input)?;
    Ok(text.filter(|text| !text.expose_secret().is_empty()))
}

/// A number, or a number in quotes. Anything else counts as unsaid: an answer with a good token
/// is never thrown away for a bad lifetime.
fn seconds<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u64>, D::Error> {
    let value = serde_json::Value::deserialize(input)?;
    let number = value
        .as_u64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    Ok(number.filter(|seconds| *seconds > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_answer_is_read() {
        let answer = Answer::parse(
            br#"{"access_token":"a","token_type":"Bearer","expires_in":86399,"refresh_token":"r",
                "scope":"contacts.write","userType":"Location","locationId":"L","companyId":"C",
                "approvedLocations":["L"],"userId":"U","planId":"P","isBulkInstallation":false}"#,
        )
        .unwrap();
        assert_eq!(answer.lifetime(), Duration::from_secs(86_399));
        assert_eq!(answer.location_id.as_deref(), Some("L"));
        assert_eq!(answer.refresh_token.unwrap().expose_secret(), "r");
    }

    #[test]
    fn everything_but_the_access_token_may_be_missing_or_strange() {
        let answer = Answer::parse(br#"{"access_token":"a","refresh_token":"","locationId":""}"#);
        let answer = answer.unwrap();
        assert!(answer.refresh_token.is_none() && answer.location_id.is_none());
        assert_eq!(answer.lifetime(), Answer::TYPICAL_LIFETIME);
        let lifetime = |text: &str| {
            let body = format!(r#"{{"access_token":"a","expires_in":{text}}}"#);
            Answer::parse(body.as_bytes()).unwrap().lifetime()
        };
        assert_eq!(lifetime(r#""3600""#), Duration::from_secs(3600));
        assert_eq!(lifetime("0"), Answer::TYPICAL_LIFETIME);
        assert_eq!(lifetime(r#""soon""#), Answer::TYPICAL_LIFETIME);
    }

    #[test]
    fn a_token_tells_its_lifetime_where_the_answer_does_not() {
        let lifetime = |claims: &str, rest: &str| {
            let payload = BASE64_URL_SAFE_NO_PAD.encode(claims);
            let body = format!(r#"{{"access_token":"e30.{payload}.c2ln"{rest}}}"#);
            Answer::parse(body.as_bytes()).unwrap().lifetime()
        };
        let claims = r#"{"iat":1700000000,"exp":1700003600,"scope":"x"}"#;
        assert_eq!(lifetime(claims, ""), Duration::from_secs(3600));
        let said = lifetime(claims, r#","expires_in":60"#);
        assert_eq!(said, Duration::from_secs(60), "GHL's word comes first");
        for strange in [r#"{"iat":2,"exp":1}"#, r#"{"exp":"soon"}"#, "{}", "no JSON"] {
            assert_eq!(lifetime(strange, ""), Answer::TYPICAL_LIFETIME);
        }
    }

    #[test]
    fn what_holds_no_token_is_refused_without_repeating_it() {
        let bodies: [&[u8]; 4] = [b"<html>", br#"{"access_token":"secr"#, b"{}", b""];
        for body in bodies {
            let error = Answer::parse(body).unwrap_err().to_string();
            assert!(
                !error.contains("secr") && !error.contains("html"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_token_of_16_kib_is_accepted() {
        let body = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(16 * 1024));
        let answer = Answer::parse(body.as_bytes()).unwrap();
        assert_eq!(answer.access_token.expose_secret().len(), 16 * 1024);
    }
}
