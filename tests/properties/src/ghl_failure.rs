//! GHL's error answers: `ghl::Failure`, and the removal of secrets from them.
//!
//! Input: a line with the status, one with `Retry-After`, one with the secrets that were sent, then the body.

use std::mem::discriminant;

use ghl::Failure;
use ghl::fuzzing::scrub;
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::input::{self, assert_showable};

/// Shorter texts count as no secrets.
const MIN_SECRET: usize = 6;
const REMOVED: &str = "[removed]";

/// No text of GHL makes an error repeat a secret. Its message is short and printable, and secrets do not change its
/// meaning.
pub fn check(bytes: &[u8]) {
    let ([status, retry_after, secrets], body) = input::lines(bytes);
    let status = std::str::from_utf8(status).ok();
    let status = status.and_then(|status| status.trim().parse().ok());
    let status = StatusCode::from_u16(status.unwrap_or(400)).unwrap_or(StatusCode::BAD_REQUEST);
    let retry_after = std::str::from_utf8(retry_after).ok();
    let secrets: Vec<SecretString> = input::text(secrets)
        .split_whitespace()
        .map(SecretString::from)
        .collect();

    let failure = Failure::of(status, retry_after, body, secrets.iter());
    let unaware = Failure::of(status, retry_after, body, [].iter());
    assert_eq!(discriminant(&failure), discriminant(&unaware));
    let is_overload = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let is_unavailable = matches!(failure, Failure::Unavailable { .. });
    assert_eq!(is_unavailable, is_overload, "{failure:?}");
    // 300 characters of GHL, and the words around them.
    assert_showable(&failure.to_string(), 300 + 60);
    if let Some(message) = message(&failure) {
        has_no_secrets(message, &secrets);
        assert!(message.chars().count() <= 300, "{message}");
    }
    has_no_secrets(&scrub(&input::text(body), &secrets), &secrets);
    whole_secret_leaves_no_trace(&secrets);
}

fn has_no_secrets(text: &str, secrets: &[SecretString]) {
    for secret in secrets.iter().filter(|secret| counts(secret)) {
        assert!(!text.contains(secret.expose_secret()), "{text}");
    }
    for start in text.match_indices("eyJ").map(|(at, _)| at) {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.=".contains(byte);
        let length = text[start..].bytes().take_while(is_part).count();
        assert!(length < 20, "a token in {text}");
    }
}

/// One secret may be a part of another. Then no piece of the longer one may stay.
fn whole_secret_leaves_no_trace(secrets: &[SecretString]) {
    let secrets = || secrets.iter().filter(|secret| counts(secret));
    let Some(longest) = secrets().max_by_key(|secret| secret.expose_secret().len()) else {
        return;
    };
    let body = json!({ "message": format!("x {} y", longest.expose_secret()) }).to_string();
    let status = StatusCode::BAD_REQUEST;
    let failure = Failure::of(status, None, body.as_bytes(), secrets());
    assert_eq!(message(&failure), Some(&*format!("x {REMOVED} y")));
}

/// The rest of GHL's text.
fn message(failure: &Failure) -> Option<&str> {
    match failure {
        Failure::BadRequest { message, .. }
        | Failure::ClientRejected(message)
        | Failure::InvalidGrant(message) => Some(message),
        Failure::NotSent(_)
        | Failure::Lost(_)
        | Failure::Unreadable { .. }
        | Failure::Foreign { .. }
        | Failure::Unavailable { .. }
        | Failure::LocationInactive => None,
    }
}

/// Whether a text is a secret, and is not made of the text that replaces secrets.
fn counts(secret: &SecretString) -> bool {
    let secret = secret.expose_secret();
    secret.len() >= MIN_SECRET
        && !secret.contains(['[', ']'])
        && !REMOVED.contains(secret)
        && !secret.contains(char::is_control)
}
