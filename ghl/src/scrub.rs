//! Removes secrets from text that comes from GHL, before it is logged, stored or shown.

use std::cmp::Reverse;

use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded::byte_serialize;

/// The text that replaces a secret.
const REMOVED: &str = "[removed]";

/// A shorter text is no secret, and would be found in ordinary words.
const MIN_LENGTH: usize = 6;

/// How each access and refresh token of GHL, a JSON Web Token, begins.
const JWT_START: &str = "eyJ";
const MIN_JWT_LENGTH: usize = 20;

/// The text in one line, without these secrets, as they are or as they are sent in a form, and without anything that
/// looks like a token. Control characters would forge log lines and drive terminals.
#[must_use]
pub fn scrub<'s>(text: &str, secrets: impl Iterator<Item = &'s SecretString>) -> String {
    let mut clean = text.to_owned();
    let mut secrets: Vec<&str> = secrets.map(|secret| secret.expose_secret()).collect();
    // A secret may be a part of a longer one, whose rest would stay.
    secrets.sort_unstable_by_key(|secret| Reverse(secret.len()));
    for secret in secrets.into_iter().filter(|it| it.len() >= MIN_LENGTH) {
        let encoded: String = byte_serialize(secret.as_bytes()).collect();
        clean = clean.replace(secret, REMOVED).replace(&encoded, REMOVED);
    }
    without_tokens(&clean).replace(char::is_control, " ")
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
        let secrets = ["s3cret".into(), "s3cret/value".into(), "abc".into()];
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
            ("two\nlines \u{1b}[31m", "two lines  [31m"),
        ] {
            assert_eq!(scrub(text, secrets.iter()), expected);
        }
    }
}
