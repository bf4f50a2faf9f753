//! The store's list of sealing keys, one for each ring, and the check of a process's ring against it.
//!
//! A process with a wrong ring would start and find every record unreadable. So brokers register the keys of
//! their rings in the store, and every process compares its rings with the list before it is ready.
//!
//! The list has a check value for each key id, which reveals nothing about the key, and whether records may be
//! sealed with the key.

use std::collections::BTreeMap;
use std::fmt;

use crate::random;
use crate::record::{Fields, Unreadable};
use crate::seal::KeyRing;

/// The field with the revision of a list: a random name of the last write. No key id contains a colon.
pub const REVISION: &str = ":rev";

/// A ring of sealing keys, by what it seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RingKind {
    /// Access tokens.
    Access,
    /// Refresh tokens and GHL's responses.
    Refresh,
}

impl RingKind {
    /// Both rings.
    pub const ALL: [Self; 2] = [Self::Access, Self::Refresh];

    /// The name in keys of the store and in answers of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }

    /// The setting that has the ring.
    #[must_use]
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Access => "EVERGREEN_ACCESS_KEYS",
            Self::Refresh => "EVERGREEN_REFRESH_KEYS",
        }
    }

    /// The file in the data directory of `evergreen up` that has the ring if no setting does.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Access => "access.keys",
            Self::Refresh => "refresh.keys",
        }
    }
}

/// Whether records may be sealed with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// They may. A process without the key does not start.
    Needed,
    /// A broker has found no such record, and waits whether another broker still seals with the key. For the
    /// check it is needed.
    Retiring,
    /// No record is. The key is in a ring, or was.
    Free,
}

impl KeyState {
    /// The name in the store and in answers of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Needed => "needed",
            Self::Retiring => "retiring",
            Self::Free => "free",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "free" => Self::Free,
            "retiring" => Self::Retiring,
            // Also a state that only a newer build knows: it is safe to keep the key.
            _ => Self::Needed,
        }
    }
}

/// A key as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// The check value: see [`KeyRing::check_values`]. Empty if no process ever had the key.
    pub check: String,
    /// Whether records may be sealed with it.
    pub state: KeyState,
}

/// The store's list of one ring, by key id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyList {
    /// The keys.
    pub keys: BTreeMap<String, ListedKey>,
}

/// The result of comparing a ring with the store's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyCheck {
    /// The store has no list, because no broker has registered its keys yet.
    Unlisted,
    /// The ring has every key that records may be sealed with, and each is the same key.
    Fits,
    /// The process must not work with this store.
    Wrong(WrongRing),
}

/// Why a ring is wrong for a store. The messages never contain a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongRing {
    /// The ring has another key under an id than other processes.
    #[error(
        "{setting} has another key under the id `{id}` than the one that this store's records are sealed \
         with: put the former key back under this id, and give a new key an id of its own ({up})",
        setting = .ring.setting(),
        up = InDataDir(*.ring)
    )]
    OtherKey {
        /// The ring.
        ring: RingKind,
        /// The key id.
        id: String,
    },
    /// The ring lacks keys that records may be sealed with.
    #[error(
        "{setting} lacks {keys}, which records of this store may be sealed with: put it back behind the \
         first key. `evergreen seal status` says when a key may be removed. If it is lost for good, write \
         `id:lost` in its place; what it sealed then needs new consents ({up})",
        setting = ring.setting(),
        keys = Quoted(.ids),
        up = InDataDir(*ring)
    )]
    MissingKeys {
        /// The ring.
        ring: RingKind,
        /// The key ids.
        ids: Vec<String>,
    },
}

impl KeyList {
    /// Reads the stored fields. No fields are an empty list.
    ///
    /// # Errors
    /// When a field is not text.
    pub fn from_fields(fields: &Fields) -> Result<Self, Unreadable> {
        let entries = fields.iter().filter(|(id, _)| *id != REVISION);
        let keys = entries.map(|(id, value)| {
            let text = std::str::from_utf8(value).map_err(|_| Unreadable::Malformed("seal"))?;
            let (check, state) = text.split_once(' ').unwrap_or((text, ""));
            let listed = ListedKey {
                check: check.to_owned(),
                state: KeyState::parse(state),
            };
            Ok((id.to_owned(), listed))
        });
        Ok(Self {
            keys: keys.collect::<Result<_, Unreadable>>()?,
        })
    }

    /// The list as stored fields, with a new revision.
    #[must_use]
    pub fn to_fields(&self) -> Fields {
        let mut fields = Fields::new();
        for (id, ListedKey { check, state }) in &self.keys {
            fields.set(id, format_args!("{check} {}", state.as_str()));
        }
        fields.set(REVISION, random::hex::<8>());
        fields
    }

    /// Compares a process's ring with the list.
    #[must_use]
    pub fn check(&self, kind: RingKind, ring: &KeyRing) -> KeyCheck {
        if self.keys.is_empty() {
            return KeyCheck::Unlisted;
        }
        for (id, check) in ring.check_values() {
            let listed = self.keys.get(id);
            if listed.is_some_and(|listed| !listed.check.is_empty() && listed.check != check) {
                let id = id.to_owned();
                return KeyCheck::Wrong(WrongRing::OtherKey { ring: kind, id });
            }
        }
        let has = |id: &str| ring.is_lost(id) || ring.check_values().any(|(known, _)| known == id);
        let missing = self.keys.iter().filter(|(id, listed)| match listed.state {
            KeyState::Needed | KeyState::Retiring => !has(id),
            KeyState::Free => false,
        });
        let ids: Vec<String> = missing.map(|(id, _)| id.clone()).collect();
        if ids.is_empty() {
            KeyCheck::Fits
        } else {
            KeyCheck::Wrong(WrongRing::MissingKeys { ring: kind, ids })
        }
    }
}

/// Key ids in one line.
struct Quoted<'a>(&'a [String]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 {
            "the key "
        } else {
            "the keys "
        })?;
        for (index, id) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}`{id}`")?;
        }
        Ok(())
    }
}

/// Where `evergreen up` has the ring.
struct InDataDir(RingKind);

impl fmt::Display for InDataDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.file();
        write!(
            f,
            "without the setting, `up` has this ring in `{file}` of its data directory"
        )
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn ring(texts: &[&str]) -> KeyRing {
        KeyRing::parse(&texts.join(",").into()).unwrap()
    }

    fn key(id: &str) -> String {
        KeyRing::generate_text(id).expose_secret().to_owned()
    }

    fn list(ring: &KeyRing, state: KeyState) -> KeyList {
        let listed = ring.check_values().map(|(id, check)| {
            let check = check.to_owned();
            (id.to_owned(), ListedKey { check, state })
        });
        KeyList {
            keys: listed.collect(),
        }
    }

    #[test]
    fn list_round_trips_and_an_unknown_state_counts_as_needed() {
        for state in [KeyState::Needed, KeyState::Retiring, KeyState::Free] {
            let listed = list(&ring(&[&key("a"), &key("b")]), state);
            assert_eq!(KeyList::from_fields(&listed.to_fields()), Ok(listed));
        }
        let mut fields = Fields::new();
        fields.set("a", "00 of-tomorrow");
        let read = KeyList::from_fields(&fields).unwrap();
        assert_eq!(read.keys["a"].state, KeyState::Needed);
    }

    #[test]
    fn ring_fits_if_it_has_every_needed_key() {
        let (a, b) = (key("a"), key("b"));
        let kind = RingKind::Access;
        let both = ring(&[&a, &b]);
        let alone = ring(&[&b]);
        assert_eq!(KeyList::default().check(kind, &both), KeyCheck::Unlisted);
        for state in [KeyState::Needed, KeyState::Retiring] {
            let listed = list(&both, state);
            assert_eq!(listed.check(kind, &both), KeyCheck::Fits);
            let missing = WrongRing::MissingKeys {
                ring: kind,
                ids: vec!["a".to_owned()],
            };
            assert_eq!(listed.check(kind, &alone), KeyCheck::Wrong(missing));
            let lost = ring(&[&b, "a:lost"]);
            assert_eq!(listed.check(kind, &lost), KeyCheck::Fits);
        }
        assert_eq!(
            list(&both, KeyState::Free).check(kind, &alone),
            KeyCheck::Fits
        );
        // A key that no process has used yet.
        assert_eq!(
            list(&alone, KeyState::Needed).check(kind, &both),
            KeyCheck::Fits
        );
    }

    #[test]
    fn other_key_under_a_listed_id_is_wrong_in_every_state() {
        let (kind, stranger) = (RingKind::Refresh, ring(&[&key("a")]));
        for state in [KeyState::Needed, KeyState::Retiring, KeyState::Free] {
            let checked = list(&ring(&[&key("a")]), state).check(kind, &stranger);
            let other = WrongRing::OtherKey {
                ring: kind,
                id: "a".to_owned(),
            };
            assert_eq!(checked, KeyCheck::Wrong(other));
        }
        let mut seen = list(&stranger, KeyState::Needed);
        seen.keys.insert(
            "a".to_owned(),
            ListedKey {
                check: String::new(),
                state: KeyState::Needed,
            },
        );
        assert_eq!(seen.check(kind, &stranger), KeyCheck::Fits);
    }

    #[test]
    fn message_names_the_setting_and_the_key_ids() {
        let missing = WrongRing::MissingKeys {
            ring: RingKind::Access,
            ids: vec!["a".to_owned(), "b".to_owned()],
        };
        let text = missing.to_string();
        assert!(
            text.starts_with("EVERGREEN_ACCESS_KEYS lacks the keys `a`, `b`,"),
            "{text}"
        );
        let other = WrongRing::OtherKey {
            ring: RingKind::Refresh,
            id: "a".to_owned(),
        };
        let text = other.to_string();
        assert!(
            text.starts_with("EVERGREEN_REFRESH_KEYS has another key under the id `a`"),
            "{text}"
        );
        assert!(text.contains("refresh.keys"), "{text}");
    }
}
