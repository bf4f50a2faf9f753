//! Private functions for `tests/properties`.

use secrecy::SecretString;

/// See `scrub`.
#[must_use]
pub fn scrub(text: &str, secrets: &[SecretString]) -> String {
    crate::scrub::scrub(text, secrets.iter())
}
