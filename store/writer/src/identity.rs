//! The identity of a store and of its servers.
//!
//! - **The store** has a random id and a format version (key `ghl:store`). A broker records the id in its
//!   journal, and commits the journal's responses to no other store.
//! - **The servers** that hold the store have a run id, new with every start, and a replication id, new with
//!   every promotion. New servers may lack writes that the previous ones confirmed.

use std::collections::BTreeSet;
use std::fmt;

/// The version of the stored format. A store with a higher version is refused.
pub const FORMAT: u32 = 1;

/// In the place of the version: no process may use the store, since [`crate::moving`] has not ended or has taken it
/// away. Every build refuses it, as it refuses a version that it does not know.
pub const CLOSED: u32 = u32::MAX;

/// The permanent id of one store: `store_` and 24 random hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreId(String);

impl StoreId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("store_{}", store::random::hex::<12>()))
    }

    /// An id as it was stored.
    #[must_use]
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity that a store contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreMark {
    /// The store's id.
    pub id: StoreId,
    /// The version of its format.
    pub format: u32,
}

/// The servers that hold the data: one, or the masters of a Cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Servers(BTreeSet<String>);

impl Servers {
    /// One server, by its run id and its replication id.
    #[must_use]
    pub fn one(run_id: &str, replication_id: &str) -> Self {
        Self(BTreeSet::from([format!("{run_id}/{replication_id}")]))
    }

    /// Parses the form that `Display` writes: `run id/replication id`, separated by spaces.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.split_whitespace().map(str::to_owned).collect())
    }

    /// Whether one of them is not among `known`. It may lack writes that those confirmed.
    #[must_use]
    pub fn has_another_than(&self, known: &Self) -> bool {
        !self.0.is_subset(&known.0)
    }
}

impl FromIterator<Self> for Servers {
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        Self(parts.into_iter().flat_map(|part| part.0).collect())
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(String::as_str).collect();
        names.join(" ").fmt(f)
    }
}

/// A broker's knowledge before it asks a store for its id.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The store that the journal belongs to; `None`: no store yet.
    pub journal: Option<&'a StoreId>,
    /// Whether the journal contains responses of GHL.
    pub holds_answers: bool,
    /// Whether the store contains no installation.
    pub is_empty: bool,
}

/// Whether a broker may use a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognised {
    /// The store is the journal's.
    Same,
    /// The store has no id. Write this one, unless another broker is faster.
    Unmarked(StoreId),
    /// The journal contains no responses for another store. It becomes a journal of this store.
    Adopt(StoreId),
    /// The broker must not use the store.
    Refused(Mismatch),
}

/// Why a broker refuses a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The journal contains responses for another store.
    #[error(
        "this journal holds answers of GHL for the store {journal}, but the store is {store}: \
         point EVERGREEN_REDIS_URL at the store {journal}, or, if those answers are of no use any \
         more, give this broker an empty EVERGREEN_DATA_DIR"
    )]
    Another {
        /// The journal's store.
        journal: StoreId,
        /// The store that was found.
        store: StoreId,
    },
    /// The journal contains responses, but the store is empty.
    #[error(
        "this journal holds answers of GHL for the store {journal}, but the store is empty: it is \
         another one, or it has lost everything. Put the store's data back, or point \
         EVERGREEN_REDIS_URL at the store {journal}; to begin anew, with the consents of all \
         customers, give this broker an empty EVERGREEN_DATA_DIR"
    )]
    Empty {
        /// The journal's store.
        journal: StoreId,
    },
    /// The store is closed: see [`CLOSED`].
    #[error(
        "the store {0} is not complete: `evergreen move` has begun to write it, or to take it back, and has not ended. \
         Run it again; brokers work with the store once it has ended"
    )]
    Closed(StoreId),
    /// The store has a newer format than this build.
    #[error(
        "the store {store} has format {found}, and this build knows {FORMAT} at most: run a newer \
         build"
    )]
    Newer {
        /// The store that was found.
        store: StoreId,
        /// The version of its format.
        found: u32,
    },
}

/// Decides whether a broker may use a store whose identity is `found_mark`.
///
/// A store with installations but no id is an earlier state of this store: it lost its last writes, or it is
/// older than store ids. It gets the id in the journal.
#[must_use]
pub fn recognise(found_mark: Option<&StoreMark>, known: Known<'_>) -> Recognised {
    let Some(StoreMark { id, format }) = found_mark else {
        return match known.journal {
            Some(journal) if known.holds_answers && known.is_empty => {
                let journal = journal.clone();
                Recognised::Refused(Mismatch::Empty { journal })
            }
            Some(journal) => Recognised::Unmarked(journal.clone()),
            None => Recognised::Unmarked(StoreId::random()),
        };
    };
    if *format == CLOSED {
        return Recognised::Refused(Mismatch::Closed(id.clone()));
    }
    if *format > FORMAT {
        return Recognised::Refused(Mismatch::Newer {
            store: id.clone(),
            found: *format,
        });
    }
    match known.journal {
        Some(journal) if journal == id => Recognised::Same,
        Some(journal) if known.holds_answers => Recognised::Refused(Mismatch::Another {
            journal: journal.clone(),
            store: id.clone(),
        }),
        Some(_) | None => Recognised::Adopt(id.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> StoreId {
        StoreId::from_text(text.to_owned())
    }

    fn mark(text: &str, format: u32) -> StoreMark {
        StoreMark {
            id: id(text),
            format,
        }
    }

    fn known(journal: Option<&StoreId>, holds_answers: bool, is_empty: bool) -> Known<'_> {
        Known {
            journal,
            holds_answers,
            is_empty,
        }
    }

    #[test]
    fn journal_with_responses_is_used_with_its_own_store_only() {
        let (ours, theirs) = (id("ours"), mark("theirs", FORMAT));
        for is_empty in [true, false] {
            let found = recognise(Some(&theirs), known(Some(&ours), true, is_empty));
            let Recognised::Refused(mismatch) = found else {
                panic!("{found:?}");
            };
            let text = mismatch.to_string();
            assert!(text.contains("ours") && text.contains("theirs"), "{text}");
            let same = recognise(
                Some(&mark("ours", FORMAT)),
                known(Some(&ours), true, is_empty),
            );
            assert_eq!(same, Recognised::Same);
        }
    }

    #[test]
    fn journal_without_responses_adopts_the_store() {
        let ours = id("ours");
        for journal in [None, Some(&ours)] {
            let found = recognise(
                Some(&mark("theirs", FORMAT)),
                known(journal, journal.is_none(), false),
            );
            assert_eq!(found, Recognised::Adopt(id("theirs")));
        }
    }

    #[test]
    fn store_without_id_gets_the_journals_id() {
        let ours = id("ours");
        for (holds_answers, is_empty) in [(true, false), (false, true), (false, false)] {
            let found = recognise(None, known(Some(&ours), holds_answers, is_empty));
            assert_eq!(found, Recognised::Unmarked(ours.clone()));
        }
        let first = recognise(None, known(None, false, true));
        assert!(matches!(first, Recognised::Unmarked(_)), "{first:?}");
    }

    #[test]
    fn empty_store_is_refused_if_the_journal_has_responses() {
        let ours = id("ours");
        let found = recognise(None, known(Some(&ours), true, true));
        let lost = Mismatch::Empty { journal: ours };
        assert_eq!(found, Recognised::Refused(lost));
    }

    #[test]
    fn store_of_a_newer_format_is_refused() {
        let ours = id("ours");
        let newer = mark("ours", FORMAT + 1);
        let found = recognise(Some(&newer), known(Some(&ours), false, false));
        assert!(
            matches!(found, Recognised::Refused(Mismatch::Newer { .. })),
            "{found:?}"
        );
    }

    #[test]
    fn store_that_is_not_completely_moved_is_refused() {
        let ours = id("ours");
        let found = recognise(
            Some(&mark("ours", CLOSED)),
            known(Some(&ours), false, false),
        );
        assert_eq!(found, Recognised::Refused(Mismatch::Closed(ours)));
    }

    #[test]
    fn new_servers_are_detected() {
        let (a, b) = (Servers::one("a", "1"), Servers::one("b", "1"));
        let both: Servers = [a.clone(), b.clone()].into_iter().collect();
        assert!(!a.has_another_than(&both), "one that is away is no change");
        assert!(both.has_another_than(&a));
        assert!(
            Servers::one("a", "2").has_another_than(&both),
            "a promotion"
        );
        assert_eq!(Servers::from_text(&both.to_string()), both);
    }
}
