//! The next state of the keys of a list when a broker rotates a ring, as pure decisions.
//!
//! A key is freed in two steps. It is *retiring* first, while every broker that still seals with it declares
//! it as needed again, and all records are read once more.

use store::key_list::{KeyList, KeyState};
use store::seal::KeyRing;

use super::record::KeyUse;

/// The list in which every key without records retires. `None` if nothing changes. `left`: what the records
/// need. `ring`: that of the broker that rotates; it seals with the first key.
#[must_use]
pub fn retiring(list: &KeyList, ring: &KeyRing, left: &KeyUse) -> Option<KeyList> {
    change(list, |id, state| match state {
        KeyState::Needed if id != ring.first_id() && !left.sealed.contains_key(id) => {
            KeyState::Retiring
        }
        KeyState::Needed | KeyState::Retiring | KeyState::Free => state,
    })
}

/// The list in which every retiring key is free, or needed again if records need it. `None` if nothing
/// changes.
#[must_use]
pub fn retired(list: &KeyList, found: &KeyUse) -> Option<KeyList> {
    change(list, |id, state| match state {
        KeyState::Retiring if found.sealed.contains_key(id) => KeyState::Needed,
        KeyState::Retiring => KeyState::Free,
        KeyState::Needed | KeyState::Free => state,
    })
}

fn change(list: &KeyList, next: impl Fn(&str, KeyState) -> KeyState) -> Option<KeyList> {
    let mut changed = list.clone();
    for (id, listed) in &mut changed.keys {
        listed.state = next(id, listed.state);
    }
    (changed != *list).then_some(changed)
}

/// Why a key stays in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotForgotten {
    /// No list has it.
    #[error("the store lists no such key")]
    Unknown,
    /// Records may be sealed with it.
    #[error("records may be sealed with this key")]
    Needed,
    /// The ring of the broker that was asked has it, and would register it again.
    #[error("the ring of this broker still has this key")]
    InRing,
}

/// The list without a key.
///
/// # Errors
/// When the key has to stay.
pub fn forgotten(list: &KeyList, ring: &KeyRing, id: &str) -> Result<KeyList, NotForgotten> {
    let listed = list.keys.get(id).ok_or(NotForgotten::Unknown)?;
    match listed.state {
        KeyState::Needed | KeyState::Retiring => return Err(NotForgotten::Needed),
        KeyState::Free => {}
    }
    if ring.check_values().any(|(known, _)| known == id) {
        return Err(NotForgotten::InRing);
    }
    let mut next = list.clone();
    next.keys.remove(id);
    Ok(next)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use store::key_list::ListedKey;

    use super::*;

    const STATES: [KeyState; 3] = [KeyState::Needed, KeyState::Retiring, KeyState::Free];

    fn list(keys: &[(&str, KeyState)]) -> KeyList {
        let listed = keys.iter().map(|(id, state)| {
            let (check, state) = (format!("check of {id}"), *state);
            ((*id).to_owned(), ListedKey { check, state })
        });
        KeyList {
            keys: listed.collect(),
        }
    }

    fn records(ids: &[&str]) -> KeyUse {
        let mut records = KeyUse::default();
        ids.iter().for_each(|id| records.count(id, true));
        records
    }

    fn ring(ids: &[&str]) -> KeyRing {
        let keys = ids.iter().map(|id| KeyRing::generate_text(id));
        let texts: Vec<String> = keys.map(|key| key.expose_secret().to_owned()).collect();
        KeyRing::parse(&texts.join(",").into()).unwrap()
    }

    #[test]
    fn only_a_needed_key_without_records_that_is_not_the_first_retires() {
        let ring = ring(&["new", "old"]);
        for state in STATES {
            let next = retiring(&list(&[("old", state)]), &ring, &records(&["new"]));
            let expected = match state {
                KeyState::Needed => Some(list(&[("old", KeyState::Retiring)])),
                KeyState::Retiring | KeyState::Free => None,
            };
            assert_eq!(next, expected);
            assert_eq!(
                retiring(&list(&[("new", state)]), &ring, &records(&[])),
                None
            );
            let next = retiring(&list(&[("old", state)]), &ring, &records(&["old"]));
            assert_eq!(next, None);
        }
    }

    #[test]
    fn retiring_key_is_freed_unless_records_need_it() {
        for state in STATES {
            let of = |next| match state {
                KeyState::Retiring => Some(list(&[("old", next)])),
                // Another broker declared it as needed meanwhile.
                KeyState::Needed | KeyState::Free => None,
            };
            let before = list(&[("old", state)]);
            assert_eq!(retired(&before, &records(&[])), of(KeyState::Free));
            assert_eq!(retired(&before, &records(&["old"])), of(KeyState::Needed));
        }
    }

    #[test]
    fn only_a_free_key_of_no_ring_is_forgotten() {
        for state in STATES {
            let before = list(&[("old", state)]);
            let expected = match state {
                KeyState::Free => Ok(list(&[])),
                KeyState::Needed | KeyState::Retiring => Err(NotForgotten::Needed),
            };
            assert_eq!(forgotten(&before, &ring(&["new"]), "old"), expected);
        }
        let free = list(&[("old", KeyState::Free)]);
        let in_ring = forgotten(&free, &ring(&["new", "old"]), "old");
        assert_eq!(in_ring, Err(NotForgotten::InRing));
        let unknown = forgotten(&free, &ring(&["new"]), "other");
        assert_eq!(unknown, Err(NotForgotten::Unknown));
    }
}
