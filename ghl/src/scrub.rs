//! Removes secrets from text that comes from GHL, before it is logged, stored or shown.

use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded::byte_serialize;

/// The text that replaces a secret.
const REMOVED: &str = "[removed]";

/// A shorter text is no secret, and would be found in ordinary words.
const MIN_LENGTH: usize = 6;

/// How each access and refresh token of GHL, a JSON Web Token, begins.
const JWT_START: &str = "eyJ";
const MIN_JWT_LENGTH: usize = 20;

/// The text without these secrets, as they are or as they are sent in a form, and without anything that looks like a
/// token.
#[must_use]
pub fn scrub<'s>(text: &str, secrets: impl Iterator<Item = &'s SecretString>) -> String {
    let mut clean = text.to_owned();
    for secret in secrets {
        let secret = secret.expose_secret();
        if secret.len() < MIN_LENGTH {
            continue;
        }
        let encoded: String = byte_serialize(secret.as_bytes()).collect();
        clean = clean.replace(secret, REMOVED).replace(&encoded, REMOVED);
    }
    without_tokens(&clean)
}

fn without_tokens(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(JWT_START) {
        let (before, token) = rest.split_at(at);
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=');
        let length = token.find(|c| !is_part(c)).unwrap_or(token.len());
        clean.push_str(before);
        clean.push_str(match length {
            MIN_JWT_LENGTH.. => REMOVED,
            _ => &token[..length],
        });
        rest = &token[length..];
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_tokens_are_removed() {
        let secrets = ["s3cret/value".into(), "abc".into()];
        for (text, expected) in [
            ("Invalid grant: s3cret/value.", "Invalid grant: [removed]."),
            ("form: s=s3cret%2Fvalue&x=1", "form: s=[removed]&x=1"),
            ("abc is short", "abc is short"),
            (
                "token eyJhbGciOiJIUzI1NiJ9.e30.c2ln, see",
                "token [removed], see",
            ),
            ("eyJ is how they begin", "eyJ is how they begin"),
            ("§ ünchanged", "§ ünchanged"),
        ] {
            assert_eq!(scrub(text, secrets.iter()), expected);
        }
    }
}
