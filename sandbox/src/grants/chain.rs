//! The refresh tokens of one grant, each the successor of the previous one.

use std::collections::VecDeque;

use serde::Serialize;

/// How many repeats of one token are kept with their times. All are counted.
const MAX_REPEATS: usize = 16;

/// Counts over refresh tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    /// Refresh tokens that were issued.
    pub(crate) refresh_tokens_issued: u64,
    /// Refresh tokens that were exchanged for their successor.
    pub(crate) refresh_tokens_spent: u64,
    /// Repeats that got the same successor again.
    pub(crate) replays_in_grace: u64,
    /// Repeats that were refused because the grace period was over.
    pub(crate) spent_outside_grace: u64,
    /// Attempts on a grant that had been revoked.
    pub(crate) spent_after_revocation: u64,
    /// Responses without a new refresh token. The presented one stayed valid.
    pub(crate) refreshed_without_rotation: u64,
}

impl Tally {
    pub(super) fn add(&mut self, exchange: Exchange) {
        match exchange {
            Exchange::Rotated { .. } => {
                self.refresh_tokens_spent += 1;
                self.refresh_tokens_issued += 1;
            }
            Exchange::Replayed { .. } => self.replays_in_grace += 1,
            Exchange::Spent => self.spent_outside_grace += 1,
            Exchange::Unknown => {}
        }
    }
}

/// The outcome for a presented refresh token. `successor` is the position of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    Rotated { successor: Position },
    Replayed { successor: Position },
    Spent,
    Unknown,
}

/// Identifies a refresh token of a chain. The time is part of it, because a restarted sandbox may restore a
/// chain at an earlier generation than it had reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) generation: u64,
    pub(crate) issued_ms: u64,
}

/// The part of an access token that differs from others of the same grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) serial: u64,
    pub(crate) issued_ms: u64,
    pub(crate) expires_ms: u64,
}

/// The history of one refresh token.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) issued_ms: u64,
    pub(crate) spent_ms: Option<u64>,
    pub(crate) replays: u32,
    pub(crate) spent_outside_grace: u32,
    /// The first repeats, oldest first.
    pub(crate) repeats: Vec<Repeat>,
    /// The access token that was issued together with this refresh token.
    pub(super) answered: Stamp,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Repeat {
    pub(crate) at_ms: u64,
    pub(crate) in_grace: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Chain {
    /// The generation of the first record that is kept.
    first: u64,
    /// Never empty. The last one is the valid token.
    records: VecDeque<Record>,
    pub(crate) tally: Tally,
}

impl Chain {
    /// A chain whose valid token is the one at `start`.
    pub(super) fn new(start: Position, answered: Stamp) -> Self {
        Self {
            first: start.generation,
            records: VecDeque::from([Record::new(start.issued_ms, answered)]),
            tally: Tally::default(),
        }
    }

    /// Decides about a presented refresh token, and spends it if it is valid. `stamp` is the access token
    /// for its successor.
    pub(super) fn present(
        &mut self,
        token: Position,
        stamp: Stamp,
        now_ms: u64,
        grace_ms: u64,
    ) -> Exchange {
        let exchange = self.decide(token, stamp, now_ms, grace_ms);
        self.tally.add(exchange);
        exchange
    }

    fn decide(&mut self, token: Position, stamp: Stamp, now_ms: u64, grace_ms: u64) -> Exchange {
        let Some(index) = token.generation.checked_sub(self.first) else {
            // Dropped, which happens only after the grace period.
            return Exchange::Spent;
        };
        let record = usize::try_from(index)
            .ok()
            .and_then(|index| self.records.get_mut(index));
        let Some(record) = record.filter(|record| record.issued_ms == token.issued_ms) else {
            return Exchange::Unknown;
        };
        let generation = token.generation + 1;
        match record.spent_ms {
            None => {
                record.spent_ms = Some(now_ms);
                self.records.push_back(Record::new(now_ms, stamp));
                Exchange::Rotated {
                    successor: Position {
                        generation,
                        issued_ms: now_ms,
                    },
                }
            }
            Some(spent_ms) => {
                let in_grace = now_ms < spent_ms.saturating_add(grace_ms);
                record.repeat(now_ms, in_grace);
                if in_grace {
                    // The successor was issued at the moment this one was spent.
                    let issued_ms = spent_ms;
                    Exchange::Replayed {
                        successor: Position {
                            generation,
                            issued_ms,
                        },
                    }
                } else {
                    Exchange::Spent
                }
            }
        }
    }

    /// Whether this is the valid token.
    pub(super) fn is_current(&self, token: Position) -> bool {
        let last = self.records.back();
        token.generation + 1 == self.first + self.records.len() as u64
            && last.is_some_and(|record| record.issued_ms == token.issued_ms)
    }

    /// The access token that was issued together with this refresh token.
    pub(super) fn answered_with(&self, token: Position) -> Option<Stamp> {
        let index = token.generation.checked_sub(self.first)?;
        let record = self.records.get(usize::try_from(index).ok()?)?;
        Some(record.answered)
    }

    /// Drops the details of the oldest token if its grace period is over. It stays in the counts.
    pub(super) fn forget_oldest(&mut self, now_ms: u64, grace_ms: u64) -> bool {
        let over = |record: &Record| {
            record
                .spent_ms
                .is_some_and(|spent_ms| now_ms >= spent_ms.saturating_add(grace_ms))
        };
        if self.records.front().is_some_and(over) {
            self.records.pop_front();
            self.first += 1;
            return true;
        }
        false
    }

    /// The tokens whose details are kept, with their generations, oldest first.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, &Record)> {
        (self.first..).zip(&self.records)
    }
}

impl Record {
    fn new(issued_ms: u64, answered: Stamp) -> Self {
        Self {
            issued_ms,
            spent_ms: None,
            replays: 0,
            spent_outside_grace: 0,
            repeats: Vec::new(),
            answered,
        }
    }

    fn repeat(&mut self, at_ms: u64, in_grace: bool) {
        if in_grace {
            self.replays += 1;
        } else {
            self.spent_outside_grace += 1;
        }
        if self.repeats.len() < MAX_REPEATS {
            self.repeats.push(Repeat { at_ms, in_grace });
        }
    }
}
