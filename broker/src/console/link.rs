//! One-time links to sign in. The store has only their hashes, so a link works at the process or fleet that made it.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use store::{KeyHash, Timestamp, random};
use store_writer::{StoreWriter, WriteError};

use super::next::SIGN_IN;

/// How long a link works.
pub(crate) const VALID_FOR: Duration = Duration::from_secs(15 * 60);
/// The value of a link that was used.
const USED: &str = "used";

/// A link that was just made.
#[derive(Debug)]
pub(crate) struct Link {
    /// The path on the internal listener. It contains the secret.
    pub(crate) path: SecretString,
    /// When it ends.
    pub(crate) expires_at: Timestamp,
}

/// The name in the store. It does not reveal the token.
fn key_of(token: &str) -> String {
    store::keys::consent(&format!("console:{}", KeyHash::of(token)))
}

/// Makes a link. Its user signs in as the owner of this key.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn create(
    writer: &StoreWriter,
    key: &KeyHash,
    now: Timestamp,
) -> Result<Link, WriteError> {
    let token = SecretString::from(random::hex::<16>());
    let name = key_of(token.expose_secret());
    writer.put(&name, &key.to_string(), VALID_FOR).await?;
    Ok(Link {
        path: format!("{SIGN_IN}/{}", token.expose_secret()).into(),
        expires_at: now + VALID_FOR,
    })
}

/// Whether a link still works.
///
/// # Errors
/// When the store is unavailable.
pub(super) async fn is_usable(writer: &StoreWriter, token: &str) -> Result<bool, WriteError> {
    let held = writer.get(&key_of(token)).await?;
    Ok(held.is_some_and(|held| held != USED))
}

/// Uses a link. The key that it signs in with; `None` if there is no such link, or if it was used.
///
/// # Errors
/// When the store is unavailable.
pub(super) async fn spend(
    writer: &StoreWriter,
    token: &str,
) -> Result<Option<KeyHash>, WriteError> {
    let name = key_of(token);
    let Some(held) = writer.get(&name).await? else {
        return Ok(None);
    };
    let Ok(key) = held.parse::<KeyHash>() else {
        return Ok(None);
    };
    // Of two who come at once, one replaces it.
    let is_first = writer.replace(&name, &held, USED, VALID_FOR).await?;
    Ok(is_first.then_some(key))
}
