//! One grant's refresh tokens, each the successor of the one before.

use std::collections::VecDeque;

use serde::Serialize;

/// How many repeats of one token are kept with their times; all of them are counted.
const REPEATS_KEPT: usize = 16;

/// Counts over refresh tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    /// Refresh tokens handed out.
    pub(crate) refresh_tokens_issued: u64,
    /// Refresh tokens that were exchanged for their successor.
    pub(crate) refresh_tokens_spent: u64,
    /// Repeats that were answered with the successor once more.
    pub(crate) replays_in_grace: u64,
    /// Repeats that were refused because the grace was over.
    pub(crate) spent_outside_grace: u64,
    /// Attempts on a grant that had been revoked.
    pub(crate) spent_after_revocation: u64,
    /// Answers without a new refresh token: the presented one stayed good.
    pub(crate) refreshed_without_rotation: u64,
}

impl Tally {
    pub(super) fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Rotated { .. } => {
                self.refresh_tokens_spent += 1;
                self.refresh_tokens_issued += 1;
            }
            Verdict::Replayed { .. } => self.replays_in_grace += 1,
            Verdict::Spent => self.spent_outside_grace += 1,
            Verdict::Unknown => {}
        }
    }
}

/// What becomes of a presented refresh token. `successor` is the position of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Rotated { successor: Position },
    Replayed { successor: Position },
    Spent,
    Unknown,
}

/// Which refresh token of a chain. The time is part of it: a sandbox that was started again can
/// have picked the chain up at an earlier generation than the one it had reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) generation: u64,
    pub(crate) issued_ms: u64,
}

/// An access token, as far as it differs from others of the same grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) serial: u64,
    pub(crate) issued_ms: u64,
    pub(crate) expires_ms: u64,
}

/// What happened to one refresh token.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) issued_ms: u64,
    pub(crate) spent_ms: Option<u64>,
    pub(crate) replays: u32,
    pub(crate) spent_outside_grace: u32,
    /// The first repeats, oldest first.
    pub(crate) repeats: Vec<Repeat>,
    /// The access token that was answered together with this refresh token.
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
    /// Never empty: the last one is the token that is still good.
    records: VecDeque<Record>,
    pub(crate) tally: Tally,
}

impl Chain {
    /// A chain whose next good token is the one at `start`.
    pub(super) fn new(start: Position, answered: Stamp) -> Self {
        Self {
            first: start.generation,
            records: VecDeque::from([Record::new(start.issued_ms, answered)]),
            tally: Tally::default(),
        }
    }

    /// Judges a presented refresh token and, if it is good, spends it. `stamp` is the access
    /// token that would go with its successor.
    pub(super) fn present(
        &mut self,
        token: Position,
        stamp: Stamp,
        now_ms: u64,
        grace_ms: u64,
    ) -> Verdict {
        let verdict = self.judge(token, stamp, now_ms, grace_ms);
        self.tally.add(verdict);
        verdict
    }

    fn judge(&mut self, token: Position, stamp: Stamp, now_ms: u64, grace_ms: u64) -> Verdict {
        let Some(index) = token.generation.checked_sub(self.first) else {
            // Forgotten, which happens only to tokens whose grace is over.
            return Verdict::Spent;
        };
        let record = usize::try_from(index)
            .ok()
            .and_then(|index| self.records.get_mut(index));
        let Some(record) = record.filter(|record| record.issued_ms == token.issued_ms) else {
            return Verdict::Unknown;
        };
        let generation = token.generation + 1;
        match record.spent_ms {
            None => {
                record.spent_ms = Some(now_ms);
                self.records.push_back(Record::new(now_ms, stamp));
                Verdict::Rotated {
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
                    Verdict::Replayed {
                        successor: Position {
                            generation,
                            issued_ms,
                        },
                    }
                } else {
                    Verdict::Spent
                }
            }
        }
    }

    /// Whether this is the token that is still good.
    pub(super) fn is_current(&self, token: Position) -> bool {
        let last = self.records.back();
        token.generation + 1 == self.first + self.records.len() as u64
            && last.is_some_and(|record| record.issued_ms == token.issued_ms)
    }

    /// The access token that was answered together with this refresh token.
    pub(super) fn answered_with(&self, token: Position) -> Option<Stamp> {
        let index = token.generation.checked_sub(self.first)?;
        let record = self.records.get(usize::try_from(index).ok()?)?;
        Some(record.answered)
    }

    /// Forgets the oldest token's details if its grace is over; it stays in the tally.
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
        if self.repeats.len() < REPEATS_KEPT {
            self.repeats.push(Repeat { at_ms, in_grace });
        }
    }
}
