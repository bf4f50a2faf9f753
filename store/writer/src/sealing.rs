//! Decisions about sealing keys: which ones a broker registers in the store, which ones a record needs, and
//! which ones are free. See [`store::key_list`].

pub mod list;
pub mod record;

use std::collections::BTreeSet;

use store::key_list::{KeyList, KeyState, ListedKey, RingKind, WrongRing};
use store::record::Unreadable;
use store::seal::{KeyRing, Label, OpenError, Sealed};

use crate::error::WriteError;

/// Why a ring was not checked or registered.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The process must not work with this store.
    #[error(transparent)]
    Wrong(#[from] WrongRing),
    /// The list cannot be read by this build.
    #[error("the store's list of sealing keys cannot be read")]
    List(#[source] Unreadable),
    /// The store is unavailable or refuses.
    #[error(transparent)]
    Store(#[from] WriteError),
}

impl KeysError {
    /// Whether the check may succeed later without a repair.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Wrong(_) | Self::List(_) => false,
            Self::Store(_) => true,
        }
    }
}

/// Evidence about one ring, from some records of a store without a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The ids of keys that opened a value.
    opened: BTreeSet<String>,
    /// The ids of keys of the ring that did not open a value.
    refused: BTreeSet<String>,
    /// The ids of keys that are not in the ring.
    unknown: BTreeSet<String>,
}

impl Evidence {
    /// Tries to open a value.
    pub fn add(&mut self, ring: &KeyRing, label: Label<'_>, sealed: &Sealed) {
        let Some(id) = sealed.key_id() else { return };
        let ids = match ring.open(label, sealed) {
            Ok(_) => &mut self.opened,
            Err(OpenError::UnknownKey(_)) => &mut self.unknown,
            Err(OpenError::Forged | OpenError::Malformed) => &mut self.refused,
        };
        ids.insert(id.to_owned());
    }

    fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.refused.is_empty() && self.unknown.is_empty()
    }
}

/// The first list of a store that had none. It is new, or older than the lists.
///
/// If it has records, any key of the ring may have sealed one of those that were not sampled. A single damaged
/// record does not make a key wrong.
///
/// # Errors
/// When the ring is not the one that sealed the records.
pub fn first_list(
    kind: RingKind,
    ring: &KeyRing,
    evidence: &Evidence,
) -> Result<KeyList, WrongRing> {
    if let Some(id) = evidence.refused.difference(&evidence.opened).next() {
        let id = id.clone();
        return Err(WrongRing::OtherKey { ring: kind, id });
    }
    let (lost, missing): (Vec<_>, Vec<_>) = evidence
        .unknown
        .iter()
        .cloned()
        .partition(|id| ring.is_lost(id));
    if !missing.is_empty() {
        let ids = missing;
        return Err(WrongRing::MissingKeys { ring: kind, ids });
    }
    let mut list = KeyList::default();
    for (index, (id, check)) in ring.check_values().enumerate() {
        let state = if index == 0 || !evidence.is_empty() {
            KeyState::Needed
        } else {
            KeyState::Free
        };
        let check = check.to_owned();
        list.keys.insert(id.to_owned(), ListedKey { check, state });
    }
    list.keys.extend(lost.into_iter().map(|id| {
        let (check, state) = (String::new(), KeyState::Needed);
        (id, ListedKey { check, state })
    }));
    Ok(list)
}

/// The list after a broker has registered a ring that fits: the first key seals from now on. `None` if nothing
/// changes.
#[must_use]
pub fn registered(list: &KeyList, ring: &KeyRing) -> Option<KeyList> {
    let mut next = list.clone();
    for (index, (id, check)) in ring.check_values().enumerate() {
        let listed = next.keys.entry(id.to_owned()).or_insert(ListedKey {
            check: String::new(),
            state: KeyState::Free,
        });
        check.clone_into(&mut listed.check);
        if index == 0 {
            listed.state = KeyState::Needed;
        }
    }
    (next != *list).then_some(next)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use store::record::access_label;
    use store::{Generation, InstallationId};

    use super::*;

    const KIND: RingKind = RingKind::Access;

    fn ring(texts: &[&str]) -> KeyRing {
        KeyRing::parse(&texts.join(",").into()).unwrap()
    }

    fn key(id: &str) -> String {
        KeyRing::generate_text(id).expose_secret().to_owned()
    }

    /// The evidence that `reader` gets from one value of each of the `sealers`.
    fn evidence(sealers: &[&KeyRing], reader: &KeyRing) -> Evidence {
        let mut evidence = Evidence::default();
        for sealer in sealers {
            let id = InstallationId::random();
            let label = access_label(&id, Generation::FIRST);
            evidence.add(reader, label, &sealer.seal(label, b"token"));
        }
        evidence
    }

    fn states(list: &KeyList) -> Vec<(&str, KeyState)> {
        let keys = list.keys.iter();
        keys.map(|(id, listed)| (id.as_str(), listed.state))
            .collect()
    }

    #[test]
    fn new_store_needs_the_first_key_only() {
        let both = ring(&[&key("a"), &key("b")]);
        let list = first_list(KIND, &both, &Evidence::default()).unwrap();
        assert_eq!(
            states(&list),
            [("a", KeyState::Needed), ("b", KeyState::Free)]
        );
        assert_eq!(registered(&list, &both), None);
    }

    #[test]
    fn older_store_with_records_needs_every_key_of_the_ring() {
        let (a, b) = (key("a"), key("b"));
        let both = ring(&[&a, &b]);
        let list = first_list(KIND, &both, &evidence(&[&ring(&[&b])], &both)).unwrap();
        assert_eq!(
            states(&list),
            [("a", KeyState::Needed), ("b", KeyState::Needed)]
        );
    }

    #[test]
    fn wrong_key_over_an_older_store_is_refused() {
        let stranger = ring(&[&key("a")]);
        let mine = ring(&[&key("a")]);
        let other = WrongRing::OtherKey {
            ring: KIND,
            id: "a".to_owned(),
        };
        let seen = evidence(&[&stranger], &mine);
        assert_eq!(first_list(KIND, &mine, &seen), Err(other));
        // One damaged record among good ones is no wrong key.
        let seen = evidence(&[&stranger, &mine], &mine);
        assert!(first_list(KIND, &mine, &seen).is_ok());
    }

    #[test]
    fn missing_key_over_an_older_store_is_refused_unless_it_is_declared_lost() {
        let (a, b) = (key("a"), key("b"));
        let (old, new) = (ring(&[&a]), ring(&[&b]));
        let missing = WrongRing::MissingKeys {
            ring: KIND,
            ids: vec!["a".to_owned()],
        };
        assert_eq!(
            first_list(KIND, &new, &evidence(&[&old, &new], &new)),
            Err(missing)
        );
        let without = ring(&[&b, "a:lost"]);
        let list = first_list(KIND, &without, &evidence(&[&old, &new], &without)).unwrap();
        assert_eq!(
            states(&list),
            [("a", KeyState::Needed), ("b", KeyState::Needed)]
        );
        // The former key may come back.
        let back = registered(&list, &ring(&[&b, &a])).unwrap();
        assert!(!back.keys["a"].check.is_empty());
    }

    #[test]
    fn first_key_is_needed_from_its_registration_on() {
        let (a, b) = (key("a"), key("b"));
        let list = first_list(KIND, &ring(&[&a]), &Evidence::default()).unwrap();
        let behind = registered(&list, &ring(&[&a, &b])).unwrap();
        assert_eq!(
            states(&behind),
            [("a", KeyState::Needed), ("b", KeyState::Free)]
        );
        let front = registered(&behind, &ring(&[&b, &a])).unwrap();
        assert_eq!(
            states(&front),
            [("a", KeyState::Needed), ("b", KeyState::Needed)]
        );
        let mut retiring = front.clone();
        retiring.keys.get_mut("a").unwrap().state = KeyState::Retiring;
        // A broker that still seals with it needs it. Another one changes nothing.
        assert_eq!(registered(&retiring, &ring(&[&b, &a])), None);
        assert_eq!(registered(&retiring, &ring(&[&a, &b])), Some(front));
    }
}
