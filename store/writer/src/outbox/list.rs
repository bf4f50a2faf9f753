//! Reads the lists of all partitions as one list in the order of time.
//!
//! Each partition is asked for a part of the page, and again only if its part may not have been enough.

use std::time::Duration;

use store::{Timestamp, keys};

use super::{EventPosition, StoredEvent};
use crate::backend::outbox::OutboxBackend;
use crate::error::WriteError;

/// A list that each partition has a part of. No two entries of a part have the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum List {
    /// All events.
    Events,
    /// The messages that this endpoint has not taken in time.
    DeadLetters(String),
}

impl List {
    /// The key of its part in a partition.
    pub(crate) fn key(&self, partition: u8) -> String {
        match self {
            Self::Events => keys::events(partition),
            Self::DeadLetters(endpoint) => keys::dead_letters(partition, endpoint),
        }
    }
}

/// Entries of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListRange {
    /// The partition.
    pub partition: u8,
    /// The earliest time.
    pub first: Timestamp,
    /// The latest time.
    pub last: Timestamp,
    /// The most entries.
    pub limit: usize,
    /// Whether the latest come first.
    pub is_reverse: bool,
}

/// Which entries are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Span {
    /// Those after a position and not after a time, the earliest first.
    After(EventPosition, Timestamp),
    /// The latest first.
    Newest,
}

/// Reads up to `limit` entries that are not older than `kept_since`.
pub(crate) async fn read(
    backend: &(impl OutboxBackend + ?Sized),
    list: &List,
    (span, kept_since): (Span, Timestamp),
    limit: usize,
) -> Result<Vec<StoredEvent>, WriteError> {
    let mut merge = Merge::new(span, kept_since, limit);
    loop {
        let ranges = merge.next();
        if ranges.is_empty() {
            return Ok(merge.found);
        }
        let answers = backend.read_list(list, &ranges).await?;
        for (range, entries) in ranges.iter().zip(answers) {
            merge.add(range, entries);
        }
    }
}

/// Entries of all partitions, as far as they were read.
struct Merge {
    limit: usize,
    is_reverse: bool,
    /// The rest of each partition that may have more.
    left: Vec<ListRange>,
    /// The first ones of those that were read, in order.
    found: Vec<StoredEvent>,
}

impl Merge {
    fn new(span: Span, kept_since: Timestamp, limit: usize) -> Self {
        let is_reverse = matches!(span, Span::Newest);
        // A part is rarely twice as large as the others.
        let chunk = 2 * limit / 256 + 8;
        let ranges = (0..=u8::MAX).map(|partition| {
            let (first, last) = match span {
                Span::After(after, until) => (first_after(after, partition), until),
                Span::Newest => (kept_since, Timestamp::from_millis(i64::MAX)),
            };
            ListRange {
                partition,
                first: first.max(kept_since),
                last,
                limit: chunk,
                is_reverse,
            }
        });
        Self {
            limit,
            is_reverse,
            left: ranges.filter(|range| range.first <= range.last).collect(),
            found: Vec::new(),
        }
    }

    /// The ranges that may have entries before the last one that is wanted.
    fn next(&mut self) -> Vec<ListRange> {
        self.sort();
        let cut = self.limit.checked_sub(1).map(|last| self.found.get(last));
        let is_needed = |range: &ListRange| match cut {
            None => false,
            Some(None) => true,
            Some(Some(cut)) if self.is_reverse => position(range.last, range) > cut.position,
            Some(Some(cut)) => position(range.first, range) < cut.position,
        };
        let left = self.left.iter().copied();
        left.filter(is_needed).collect()
    }

    fn add(&mut self, range: &ListRange, entries: Vec<(Timestamp, String)>) {
        let millisecond = Duration::from_millis(1);
        let is_whole = entries.len() < range.limit;
        let end = entries.last().map(|(at, _)| *at);
        self.left.retain_mut(|left| {
            if left.partition != range.partition {
                return true;
            }
            match end {
                Some(end) if self.is_reverse => left.last = end - millisecond,
                Some(end) => left.first = end + millisecond,
                None => {}
            }
            !is_whole && left.first <= left.last
        });
        self.found
            .extend(entries.into_iter().map(|(at, json)| StoredEvent {
                position: position(at, range),
                json,
            }));
    }

    fn sort(&mut self) {
        self.found.sort_unstable_by_key(|entry| entry.position);
        if self.is_reverse {
            self.found.reverse();
        }
        self.found.truncate(self.limit);
    }
}

fn position(at: Timestamp, range: &ListRange) -> EventPosition {
    EventPosition {
        at,
        partition: range.partition,
    }
}

/// The first time that an entry of a partition can have after a position.
fn first_after(after: EventPosition, partition: u8) -> Timestamp {
    match partition > after.partition {
        true => after.at,
        false => after.at + Duration::from_millis(1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Entries = Vec<(u8, i64)>;

    /// Answers as a store does. Returns what was found, and how many entries were read.
    fn page(all: &Entries, span: Span, kept_since: i64, limit: usize) -> (Entries, usize) {
        let mut merge = Merge::new(span, Timestamp::from_millis(kept_since), limit);
        let mut read = 0;
        loop {
            let ranges = merge.next();
            if ranges.is_empty() {
                let found = merge.found.iter().map(|it| it.position);
                let found = found.map(|it| (it.partition, it.at.as_millis()));
                return (found.collect(), read);
            }
            for range in ranges {
                let times = range.first.as_millis()..=range.last.as_millis();
                let of_it = all
                    .iter()
                    .filter(|(partition, at)| *partition == range.partition && times.contains(at));
                let mut entries: Vec<i64> = of_it.map(|(_, at)| *at).collect();
                entries.sort_unstable();
                if range.is_reverse {
                    entries.reverse();
                }
                entries.truncate(range.limit);
                read += entries.len();
                let entries = entries.into_iter();
                let entries = entries.map(|at| (Timestamp::from_millis(at), String::new()));
                merge.add(&range, entries.collect());
            }
        }
    }

    fn entries() -> impl Strategy<Value = Entries> {
        // Most are in one partition, which has more than its part of a page.
        let partition = prop_oneof![3 => Just(7_u8), 1 => any::<u8>()];
        let all = prop::collection::btree_set((partition, 0_i64..400), 0..200);
        all.prop_map(|all| all.into_iter().collect())
    }

    proptest! {
        #[test]
        fn page_has_the_first_entries_of_all_partitions(
            all in entries(), after in (0_i64..400, any::<u8>()), until in 0_i64..500, limit in 0_usize..120,
            kept_since in 0_i64..200,
        ) {
            let (at, partition) = after;
            let position = EventPosition { at: Timestamp::from_millis(at), partition };
            let mut expected = all.clone();
            expected.retain(|(partition, at)| {
                (*at, *partition) > after && *at <= until && *at >= kept_since
            });
            expected.sort_unstable_by_key(|(partition, at)| (*at, *partition));
            expected.truncate(limit);
            let span = Span::After(position, Timestamp::from_millis(until));
            prop_assert_eq!(page(&all, span, kept_since, limit).0, expected);

            let mut newest = all.clone();
            newest.retain(|(_, at)| *at >= kept_since);
            newest.sort_unstable_by_key(|(partition, at)| std::cmp::Reverse((*at, *partition)));
            newest.truncate(limit);
            prop_assert_eq!(page(&all, Span::Newest, kept_since, limit).0, newest);
        }
    }

    #[test]
    fn page_of_even_partitions_reads_each_once() {
        let all: Entries = (0..256_000)
            .map(|number| ((number % 256) as u8, number))
            .collect();
        let (found, read) = page(&all, Span::Newest, 0, 10_000);
        assert_eq!(found.len(), 10_000);
        assert_eq!(read, 256 * (2 * 10_000 / 256 + 8));
    }
}
