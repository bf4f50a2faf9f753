//! One-time links: a caller makes one, and its customer consents with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::{AppName, Customer, KeyHash, Timestamp, consent_state, random};
use store_writer::StoreWriter;
use store_writer::consent::Claim;
use store_writer::writer::WriteError;
use url::Url;

use super::Outcome;

/// How long a link is valid unless its caller says otherwise.
pub(crate) const DEFAULT_VALIDITY: Duration = Duration::from_secs(30 * 60);
/// The longest validity of a link.
pub(crate) const LONGEST_VALIDITY: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the outcome of a link is shown to those who open it again.
const FINISHED_FOR: Duration = Duration::from_secs(24 * 3600);

/// A link, as it is stored under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) app: AppName,
    pub(crate) return_to: Option<Url>,
    pub(crate) customer: Customer,
    /// How far the external id may reach.
    pub(crate) claim: Claim,
    /// The location or company that must consent.
    pub(crate) owner: Option<String>,
    pub(crate) is_white_label: bool,
    pub(crate) expires_at: Timestamp,
    /// The outcome, once a customer has connected with it.
    pub(crate) finished: Option<Outcome>,
}

/// The secret part of a link's address.
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn random() -> Self {
        Self(random::hex::<16>())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a link in the store. It does not reveal the token.
pub(crate) fn name_of(token: &str) -> String {
    KeyHash::of(token).to_string()
}

fn key(name: &str) -> String {
    store::keys::consent(&format!("link:{name}"))
}

/// Stores a new link.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn create(
    writer: &StoreWriter,
    token: &Token,
    link: &Link,
    now: Timestamp,
) -> Result<(), WriteError> {
    // A consent that began before the link's end may come back after it.
    let kept = link.expires_at.since(now) + consent_state::VALID_FOR;
    let key = key(&name_of(token.as_str()));
    writer.put(&key, &to_text(link), kept).await.map(|_| ())
}

/// The link with a name; `None` if there is none, or if it has expired for good.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn find(writer: &StoreWriter, name: &str) -> Result<Option<Link>, WriteError> {
    let text = writer.get(&key(name)).await?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Records the outcome of a link, so that it is not used again.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn finish(
    writer: &StoreWriter,
    name: &str,
    outcome: &Outcome,
) -> Result<(), WriteError> {
    let key = key(name);
    let Some(held) = writer.get(&key).await? else {
        return Ok(());
    };
    let Ok(mut link) = serde_json::from_str::<Link>(&held) else {
        return Ok(());
    };
    link.finished = Some(outcome.clone());
    writer
        .replace(&key, &held, &to_text(&link), FINISHED_FOR)
        .await
        .map(|_| ())
}

fn to_text(link: &Link) -> String {
    serde_json::to_string(link).unwrap_or_default()
}
