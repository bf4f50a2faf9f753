//! An entry, as it is in the store, in the file, and in the answer of a broker.

use std::net::IpAddr;

use serde::{Deserialize, Serialize, Serializer};

use super::text::CleanText;
use crate::caller::KeyHash;
use crate::clock::Timestamp;
use crate::id::InstallationId;
use crate::random;

/// One entry. It is written as a JSON object. Readers pass on members and actions that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Names the entry. Two records with one id are one entry: the one with the higher count has replaced the other.
    pub id: EntryId,
    /// When it happened for the first time, in the store's time.
    #[serde(serialize_with = "with_millis")]
    pub at: Timestamp,
    /// The kind of entry.
    pub action: Action,
    /// On whose behalf.
    pub by: By,
    /// The key that it was done to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyName>,
    /// The installation that it was done to, or that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation: Option<InstallationId>,
    /// Whether it was done.
    pub outcome: Outcome,
    /// Where the first request came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Where others of the `count` requests came from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_addresses: Vec<IpAddr>,
    /// How often it happened within a minute.
    pub count: u64,
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<CleanText>,
}

impl Entry {
    /// An entry about something that was done once.
    #[must_use]
    pub fn new(at: Timestamp, action: Action, by: By) -> Self {
        Self {
            id: EntryId::random(),
            at,
            action,
            by,
            key: None,
            installation: None,
            outcome: Outcome::Done,
            address: None,
            other_addresses: Vec::new(),
            count: 1,
            detail: None,
        }
    }

    /// With the key that it was done to.
    #[must_use]
    pub fn on_key(self, hash: &KeyHash, name: &str) -> Self {
        Self {
            key: Some(KeyName::new(hash, name)),
            ..self
        }
    }

    /// With the installation that it was done to.
    #[must_use]
    pub fn on(self, installation: &InstallationId) -> Self {
        Self {
            installation: Some(installation.clone()),
            ..self
        }
    }

    /// With the address of the request.
    #[must_use]
    pub fn from(self, address: IpAddr) -> Self {
        Self {
            address: Some(address),
            ..self
        }
    }

    /// With more about it.
    #[must_use]
    pub fn with(self, detail: impl AsRef<str>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }

    /// The JSON object, on one line.
    ///
    /// # Panics
    /// Never. Texts and numbers always serialize.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers")
    }

    /// Whether it is about a token that a service got, or about a key for a browser. See [`super::MOST_FETCHES`].
    #[must_use]
    pub fn is_about_a_fetch(&self) -> bool {
        matches!(
            self.action,
            Action::TokenFetched | Action::BrowserKeyCreated
        )
    }

    /// Whether it is about somebody who has no key. See [`super::MOST_STRANGERS`].
    #[must_use]
    pub fn is_about_a_stranger(&self) -> bool {
        self.action == Action::RequestRefused && self.by == By::Anonymous
    }
}

/// An action that the audit log records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A service got an access token.
    TokenFetched,
    /// A token was refreshed because somebody asked for it, and not by the schedule.
    TokenRefreshed,
    /// A key was created.
    KeyCreated,
    /// A key was replaced by another one.
    KeyRotated,
    /// A key was revoked.
    KeyRevoked,
    /// A rotation of the sealing keys was asked for.
    SealingKeysRotated,
    /// A sealing key was removed from the store's list.
    SealingKeyForgotten,
    /// A customer has consented.
    InstallationConnected,
    /// An operator has ended an installation.
    InstallationRevoked,
    /// An operator freed the name of an app.
    AppNameFreed,
    /// An operator stored a private integration token.
    TokenAdded,
    /// An operator imported tokens of another backend.
    InstallationsImported,
    /// An operator exported tokens.
    InstallationsExported,
    /// A customer has removed the app at GHL.
    InstallationUninstalled,
    /// A backend got a key for a browser.
    BrowserKeyCreated,
    /// A one-time link for a customer was made.
    ConnectLinkCreated,
    /// External id or tags of an installation were changed.
    InstallationChanged,
    /// The record of an installation was removed.
    InstallationDeleted,
    /// An event was sent again, or a test was sent.
    EventSent,
    /// The log filter of a process was changed.
    LogLevelChanged,
    /// A one-time link to sign in to the console was made.
    SignInLinkCreated,
    /// The owner of a key has signed in to the console.
    SignedIn,
    /// A request for administration, for a token or of a backend was refused.
    RequestRefused,
}

/// On whose behalf something was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum By {
    /// The owner of a key.
    Key(KeyName),
    /// The owner of the key in the data directory of a process.
    LocalAdmin(KeyName),
    /// A person or a program at the command line, with access to the store or the settings.
    Operator,
    /// A signed webhook of GHL.
    Webhook,
    /// Anybody.
    Anonymous,
}

/// A key, without a way to use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyName {
    /// The first 8 digits of its hash, as `evergreen keys list` shows them.
    pub id: String,
    /// The name that its creator gave it.
    pub name: CleanText,
}

impl KeyName {
    /// The name of a key.
    #[must_use]
    pub fn new(hash: &KeyHash, name: &str) -> Self {
        Self {
            id: hash.to_string()[..8].to_owned(),
            name: name.into(),
        }
    }
}

/// Whether something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not allowed.
    Refused,
    /// It was allowed and did not succeed.
    Failed,
}

/// Names an entry: 16 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct EntryId(String);

impl EntryId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(random::hex::<8>())
    }

    /// The id of the entry about a consent. A broker that commits a consent of its journal again writes the same one.
    #[must_use]
    pub fn of_consent(fresh: &InstallationId) -> Self {
        let digits = fresh.as_str().rsplit('_').next().unwrap_or_default();
        Self(digits.chars().take(16).collect())
    }
}

impl TryFrom<String> for EntryId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 16 && text.bytes().all(is_digit) {
            Ok(Self(text))
        } else {
            Err("an entry's id is 16 hex digits")
        }
    }
}

/// RFC 3339 in UTC with milliseconds, so that the text sorts by time.
fn with_millis<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    let second = at.to_string();
    let millis = at.as_millis().rem_euclid(1000);
    let second = second.trim_end_matches('Z');
    to.collect_str(&format_args!("{second}.{millis:03}Z"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn entry_is_one_line_of_json_without_empty_members() {
        let key = KeyHash::of("evg_secret");
        let id: InstallationId = "install_00112233445566778899aabb".parse().unwrap();
        let by = By::LocalAdmin(KeyName::new(&key, "local administrator"));
        let at = Timestamp::from_millis(1_795_953_600_007);
        let mut entry = Entry::new(at, Action::KeyRevoked, by)
            .on_key(&key, "crm\nforged")
            .on(&id)
            .from([10, 0, 0, 7].into());
        entry.id = EntryId::of_consent(&id);
        let line = entry.to_json();
        assert!(!line.contains('\n') && !line.contains("secret"), "{line}");
        let prefix = &key.to_string()[..8];
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap(),
            json!({
                "id": "0011223344556677",
                "at": "2026-11-29T12:00:00.007Z",
                "action": "key_revoked",
                "by": { "kind": "local_admin", "id": prefix, "name": "local administrator" },
                "key": { "id": prefix, "name": "crm\u{fffd}forged" },
                "installation": id,
                "outcome": "done",
                "address": "10.0.0.7",
                "count": 1,
            })
        );
    }

    #[test]
    fn only_refused_strangers_are_apart() {
        let entry = |action, by| Entry::new(Timestamp::from_millis(0), action, by);
        assert!(entry(Action::RequestRefused, By::Anonymous).is_about_a_stranger());
        assert!(!entry(Action::InstallationConnected, By::Anonymous).is_about_a_stranger());
        let key = KeyName::new(&KeyHash::of("k"), "crm");
        assert!(!entry(Action::RequestRefused, By::Key(key)).is_about_a_stranger());
    }
}
