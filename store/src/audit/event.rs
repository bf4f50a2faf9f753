//! Reports of a gateway to a broker, and of a broker to itself. Equal events within a minute are one.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::calls::GatewayReport;
use super::day::Day;
use super::entry::{Action, By, Entry, EntryId, KeyName, Outcome};
use crate::caller::KeyHash;
use crate::clock::Timestamp;
use crate::id::InstallationId;

/// The largest report that a broker takes, in bytes of JSON.
pub const MAX_REPORT_BYTES: u64 = 1024 * 1024;

/// A report of a gateway to a broker.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// For the audit log.
    pub events: Vec<Event>,
    /// Keys that were used, and when last.
    pub used: Vec<(KeyHash, Day)>,
    /// The gateway itself. It is sent alone, since it is not sent again if it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayReport>,
}

/// Something that happened once or more within a minute. It names keys by their hash: a broker knows their names, and
/// believes no other process about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The id of the entry.
    pub id: EntryId,
    /// When it happened for the first time, in the store's time.
    pub at: Timestamp,
    /// The kind of event.
    pub happened: Happened,
    /// The key of the caller, if it is or was one.
    pub key: Option<KeyHash>,
    /// The installation.
    pub installation: Option<InstallationId>,
    /// Where the requests came from, the first one's address first.
    pub addresses: Vec<IpAddr>,
    /// How often it happened.
    pub count: u64,
    /// The part of it that was delivered before.
    pub delivered: Option<Delivered>,
}

/// How much of an [`Event`] was delivered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The count at that time.
    pub count: u64,
    /// The number of addresses at that time.
    pub addresses: usize,
}

/// The kinds of events that a gateway or the guard of a broker's administration sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// A service got an access token.
    TokenFetched,
    /// A caller got an answer of GHL that has tokens in it.
    TokenFetchedFromGhl,
    /// A caller's `min_ttl` has refreshed a token.
    TokenRefreshed,
    /// A caller's `min_ttl` asked for a refresh that failed.
    RefreshFailed,
    /// A request for a token was refused.
    TokenRefused(Refusal),
    /// A request for administration was refused.
    AdministrationRefused(Refusal),
    /// A request that needs the scope `connect` was refused.
    ConnectRefused(Refusal),
    /// A backend got a key for a browser.
    BrowserKeyCreated,
    /// The log filter of a gateway was changed.
    LogLevelChanged,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It had no key.
    KeyMissing,
    /// Its key is unknown, expired or revoked.
    KeyInvalid,
    /// Its key lacks the scope.
    ScopeMissing,
    /// Its key is not for the installation.
    InstallationNotAllowed,
    /// It came from a foreign web page.
    ForeignPage,
}

impl Refusal {
    const fn as_str(self) -> &'static str {
        match self {
            Self::KeyMissing => "without a key",
            Self::KeyInvalid => "with a key that is unknown, expired or revoked",
            Self::ScopeMissing => "with a key that lacks the scope",
            Self::InstallationNotAllowed => "with a key that is not for the installation",
            Self::ForeignPage => "from a foreign web page",
        }
    }
}

impl Event {
    /// The entry. `name`: the name of its key. `now`: the store's time; nothing happened after it.
    #[must_use]
    pub fn entry(&self, name: Option<&str>, now: Timestamp) -> Entry {
        let by = match (&self.key, name) {
            (Some(hash), Some(name)) => By::Key(KeyName::new(hash, name)),
            (Some(_) | None, _) => By::Anonymous,
        };
        let (action, outcome, detail) = match self.happened {
            Happened::TokenFetched => (Action::TokenFetched, Outcome::Done, None),
            Happened::TokenFetchedFromGhl => {
                let detail = "from GHL, through a path below /ghl/oauth".to_owned();
                (Action::TokenFetched, Outcome::Done, Some(detail))
            }
            Happened::TokenRefreshed => {
                let detail = "for min_ttl".to_owned();
                (Action::TokenRefreshed, Outcome::Done, Some(detail))
            }
            Happened::RefreshFailed => {
                let detail = "for min_ttl".to_owned();
                (Action::TokenRefreshed, Outcome::Failed, Some(detail))
            }
            Happened::TokenRefused(why) => {
                let detail = format!("a token, {}", why.as_str());
                (Action::RequestRefused, Outcome::Refused, Some(detail))
            }
            Happened::AdministrationRefused(why) => {
                let detail = format!("administration, {}", why.as_str());
                (Action::RequestRefused, Outcome::Refused, Some(detail))
            }
            Happened::ConnectRefused(why) => {
                let detail = format!("a request of a backend, {}", why.as_str());
                (Action::RequestRefused, Outcome::Refused, Some(detail))
            }
            Happened::BrowserKeyCreated => (Action::BrowserKeyCreated, Outcome::Done, None),
            Happened::LogLevelChanged => {
                let detail = "of a gateway".to_owned();
                (Action::LogLevelChanged, Outcome::Done, Some(detail))
            }
        };
        let mut addresses = self.addresses.iter().copied();
        Entry {
            id: self.id.clone(),
            at: self.at.min(now),
            action,
            by,
            key: None,
            installation: self.installation.clone(),
            outcome,
            address: addresses.next(),
            other_addresses: addresses.collect(),
            count: self.count,
            detail: detail.map(Into::into),
        }
    }

    /// The event as it was delivered before.
    #[must_use]
    pub fn before(&self) -> Option<Self> {
        let Delivered { count, addresses } = self.delivered?;
        let addresses = self.addresses.iter().take(addresses);
        Some(Self {
            addresses: addresses.copied().collect(),
            count,
            delivered: None,
            ..self.clone()
        })
    }
}

/// As text, as in [`KeyHash`]'s `Display`.
impl Serialize for KeyHash {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let malformed = |()| serde::de::Error::custom("the hash of a key is 64 hex digits");
        text.parse().map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(happened: Happened, key: Option<KeyHash>) -> Event {
        Event {
            id: EntryId::random(),
            at: Timestamp::from_millis(5),
            happened,
            key,
            installation: None,
            addresses: vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()],
            count: 7,
            delivered: None,
        }
    }

    #[test]
    fn entry_has_the_name_that_the_broker_knows_and_no_time_of_the_future() {
        let key = KeyHash::of("k");
        let entry =
            event(Happened::TokenFetched, Some(key)).entry(Some("crm"), Timestamp::from_millis(3));
        assert_eq!(entry.by, By::Key(KeyName::new(&key, "crm")));
        assert_eq!(entry.at, Timestamp::from_millis(3));
        assert_eq!(entry.address, Some([10, 0, 0, 1].into()));
        assert_eq!(entry.other_addresses, [IpAddr::from([10, 0, 0, 2])]);
        let unknown = event(Happened::TokenFetched, Some(key));
        let unknown = unknown.entry(None, Timestamp::from_millis(9));
        assert_eq!(unknown.by, By::Anonymous);
    }

    #[test]
    fn report_reads_back_and_refuses_what_is_no_id() {
        let refused = Happened::TokenRefused(Refusal::KeyInvalid);
        let report = Report {
            events: vec![event(refused, Some(KeyHash::of("k")))],
            used: vec![(KeyHash::of("k"), Day::of(Timestamp::from_millis(0)))],
            gateway: None,
        };
        let text = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!((read.events, read.used), (report.events, report.used));
        let id = &text[text.find("\"id\":\"").unwrap() + 6..][..16];
        for forged in [
            text.replace(id, "x\\n"),
            text.replace("1970-01-01", "never"),
        ] {
            assert!(serde_json::from_str::<Report>(&forged).is_err(), "{forged}");
        }
    }
}
