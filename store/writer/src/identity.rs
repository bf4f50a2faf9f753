//! Which store this is, and which servers hold it.
//!
//! Two things are told apart:
//!
//! - **The store** has a random id and a format version (key `ghl:store`). A broker notes the id in its
//!   journal and brings its answers to no other store.
//! - **The servers** that hold it have a run id, new with every start, and a replication id, new with
//!   every promotion. Other servers than before may lack what the former ones confirmed.

use std::collections::BTreeSet;
use std::fmt;

/// The version of what is stored. A store with a higher one is not touched.
pub const FORMAT: u32 = 1;

/// The name of one store: random, and its own for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreId(String);

impl StoreId {
    #[must_use]
    pub fn random() -> Self {
        Self(format!("store_{}", store::random::hex::<12>()))
    }

    #[must_use]
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

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

/// What a store says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreMark {
    pub id: StoreId,
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

    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.split_whitespace().map(str::to_owned).collect())
    }

    /// Whether one of them was not among `known`: it may lack what those had confirmed.
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

/// What a broker knows when it asks a store for its id.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The store that its journal is of; `None`: it never met one.
    pub journal: Option<&'a StoreId>,
    /// Whether answers of GHL are in the journal.
    pub holds_answers: bool,
    /// Whether the store holds no installation.
    pub is_empty: bool,
}

/// Whether a broker may work with a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognised {
    Same,
    /// The store has no id: this one is written, unless another broker is faster.
    Unmarked(StoreId),
    /// The journal has no answers of another store, and becomes one of this store.
    Adopt(StoreId),
    Refused(Mismatch),
}

/// Why a broker does not work with a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error(
        "this journal holds answers of GHL for the store {journal}, but the store is {store}: \
         point EVERGREEN_REDIS_URL at the store {journal}, or, if those answers are of no use any \
         more, give this broker an empty EVERGREEN_DATA_DIR"
    )]
    Another { journal: StoreId, store: StoreId },
    #[error(
        "this journal holds answers of GHL for the store {journal}, but the store is empty: it is \
         another one, or it has lost everything. Put the store's data back, or point \
         EVERGREEN_REDIS_URL at the store {journal}; to begin anew, with the consents of all \
         customers, give this broker an empty EVERGREEN_DATA_DIR"
    )]
    Empty { journal: StoreId },
    #[error(
        "the store {store} has format {found}, and this build knows {FORMAT} at most: run a newer \
         build"
    )]
    Newer { store: StoreId, found: u32 },
}

/// Decides whether a broker may work with a store that tells `told` of itself.
///
/// A store that has installations and no id is an earlier state of this store: one of before it had
/// an id, or without its last writes. It is given the id that the journal knows.
#[must_use]
pub fn recognise(told: Option<&StoreMark>, known: Known<'_>) -> Recognised {
    let Some(StoreMark { id, format }) = told else {
        return match known.journal {
            Some(journal) if known.holds_answers && known.is_empty => {
                let journal = journal.clone();
                Recognised::Refused(Mismatch::Empty { journal })
            }
            Some(journal) => Recognised::Unmarked(journal.clone()),
            None => Recognised::Unmarked(StoreId::random()),
        };
    };
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
    fn a_journal_with_answers_is_brought_to_its_own_store_only() {
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
    fn a_journal_without_answers_becomes_one_of_the_store_it_finds() {
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
    fn a_store_without_an_id_is_given_the_one_that_the_journal_knows() {
        let ours = id("ours");
        for (holds_answers, is_empty) in [(true, false), (false, true), (false, false)] {
            let found = recognise(None, known(Some(&ours), holds_answers, is_empty));
            assert_eq!(found, Recognised::Unmarked(ours.clone()));
        }
        let first = recognise(None, known(None, false, true));
        assert!(matches!(first, Recognised::Unmarked(_)), "{first:?}");
    }

    #[test]
    fn a_store_that_lost_everything_is_not_written_to() {
        let ours = id("ours");
        let found = recognise(None, known(Some(&ours), true, true));
        let lost = Mismatch::Empty { journal: ours };
        assert_eq!(found, Recognised::Refused(lost));
    }

    #[test]
    fn a_store_of_a_newer_format_is_refused() {
        let ours = id("ours");
        let newer = mark("ours", FORMAT + 1);
        let found = recognise(Some(&newer), known(Some(&ours), false, false));
        assert!(
            matches!(found, Recognised::Refused(Mismatch::Newer { .. })),
            "{found:?}"
        );
    }

    #[test]
    fn servers_that_were_not_there_before_are_noticed() {
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
