//! What there is: a store with a replica, lock nodes, two brokers with a disk each, and GHL.

use std::collections::{BTreeMap, BTreeSet};

use store::Status;
use store_writer::protocol::Refusal;

use crate::ghl::{Ghl, Reply};
use crate::record::{Answer, Link, Record, Token};

/// An index into [`System::brokers`].
pub(crate) type BrokerId = usize;
/// The smallest number that nobody remembers, so that two histories end in one state.
pub(crate) type AttemptId = u8;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct System {
    /// The record in the store.
    pub(crate) store: Record,
    /// The record as confirmed writes left it: what a failover falls back to.
    pub(crate) replica: Record,
    /// Who holds the lease.
    pub(crate) lease: Option<BrokerId>,
    /// Answers on the lock nodes, one for each attempt.
    pub(crate) escrow: BTreeMap<AttemptId, Answer>,
    pub(crate) brokers: [Broker; 2],
    pub(crate) ghl: Ghl,
    /// How many have happened.
    pub(crate) faults: u8,
    pub(crate) history: History,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Broker {
    pub(crate) condition: Condition,
    pub(crate) step: Step,
    /// Whether there is time left for a call in the lease it took.
    pub(crate) is_in_time: bool,
    /// Whether it, or the store, has just come back.
    pub(crate) is_settling: bool,
    /// An attempt whose answer it did not get, and its age in ticks.
    pub(crate) doubt: Option<(Attempt, u8)>,
    /// Calls whose answers it still reads, oldest first.
    pub(crate) late: Vec<LateCall>,
    /// Its disk: attempts that are not finished, with their answers.
    pub(crate) journal: BTreeMap<AttemptId, Noted>,
}

/// A call that took longer than the broker waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LateCall {
    pub(crate) attempt: Attempt,
    pub(crate) reply: Reply,
    /// In ticks.
    pub(crate) age: u8,
}

/// What a disk knows of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Noted {
    Asked(Link),
    Answered(Answer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Condition {
    Running,
    Paused,
    Down,
}

/// What a broker has just done. A crash forgets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Idle,
    Leased,
    /// The intent is in the store, and may not be in the replica.
    Begun(Attempt),
    /// Looks for answers in the escrow: somebody else's, before a call, or after a refusal.
    Looking(Attempt, Why),
    /// One of another attempt is committed, and may not be in the replica.
    Found(Attempt, Why, AttemptId),
    /// Nothing but the call is left to try.
    Resolved(Attempt),
    /// The intent is in the journal.
    Noted(Attempt),
    /// There is time for the call: it goes out next.
    Cleared(Attempt),
    /// GHL's reply is on its way, or the request or the reply is lost.
    Called(Attempt, Call),
    /// The answer is in memory, on its way to the disk and to the lock nodes.
    Answered {
        id: AttemptId,
        answer: Answer,
        is_noted: bool,
        is_escrowed: bool,
    },
    /// As far as it can be, the answer is safe.
    Safe(Committing),
    /// Committed, and may not be in the replica.
    Committed(Committing),
    /// Committed for good.
    Confirmed(AttemptId),
    /// The escrow is empty again.
    Unescrowed(AttemptId),
    Failed(Attempt, Refusal),
    GivenBack(AttemptId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) id: AttemptId,
    pub(crate) link: Link,
    /// Another attempt may have spent the token.
    pub(crate) is_repeat: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    Takeover,
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Answered(Reply),
    /// Nothing comes back, whatever GHL did.
    Lost,
    /// It comes when the broker has stopped to wait.
    Late(Reply),
    /// It is known that nothing was sent.
    NotSent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Committing {
    pub(crate) id: AttemptId,
    pub(crate) answer: Answer,
    pub(crate) is_from_journal: bool,
}

/// What must not happen, noted at the step at which it does, and what readers have seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// The newest token that was ever in the store.
    pub(crate) published: Token,
    /// A spent token was sent again in time, and GHL refused it.
    pub(crate) is_spent_twice: bool,
    /// As above, and its successor lay there to be found.
    pub(crate) is_spent_past_its_answer: bool,
    /// An installation was given up, and its token lay there to be found.
    pub(crate) is_given_up_too_early: bool,
    /// A write put an older link in the place of a newer one.
    pub(crate) is_set_back: bool,
}

impl System {
    /// A customer has just consented.
    pub(crate) fn enrolled(grace: u8, refusals_before: u8) -> Self {
        let record = Record::enrolled(refusals_before);
        let broker = Broker {
            condition: Condition::Running,
            step: Step::Idle,
            is_in_time: false,
            is_settling: false,
            doubt: None,
            late: Vec::new(),
            journal: BTreeMap::new(),
        };
        Self {
            history: History {
                published: record.link.token,
                ..History::default()
            },
            replica: record.clone(),
            store: record,
            lease: None,
            escrow: BTreeMap::new(),
            brokers: [broker.clone(), broker],
            ghl: Ghl::new(grace),
            faults: 0,
        }
    }

    /// Swaps `next` in; `None` leaves the record as it is.
    pub(crate) fn write(&mut self, next: Option<Record>) {
        let Some(next) = next else { return };
        let (former, link) = (self.store.link, next.link);
        self.history.is_set_back |=
            link.generation < former.generation || link.token < former.token;
        self.history.published = self.history.published.max(link.token);
        self.store = next;
    }

    /// Waits until the replica has all that was written.
    pub(crate) fn confirm(&mut self) {
        self.replica.clone_from(&self.store);
    }

    pub(crate) fn unused_id(&self) -> AttemptId {
        let mut used = BTreeSet::new();
        used.extend(self.escrow.keys());
        for record in [&self.store, &self.replica] {
            used.extend(record.intent.map(|intent| intent.id));
        }
        for broker in &self.brokers {
            used.extend(broker.journal.keys());
            used.extend(broker.step.id());
            used.extend(broker.late.iter().map(|call| call.attempt.id));
        }
        let mut ids = 0..=AttemptId::MAX;
        ids.find(|id| !used.contains(id))
            .expect("few are under way")
    }

    /// Whether a copy of the token is anywhere at all.
    pub(crate) fn has_copy(&self, token: Token) -> bool {
        let in_record = |record: &Record| {
            let kept = record.alternates.iter().any(|kept| kept.token == token);
            record.link.token == token || kept
        };
        let in_escrow = self.escrow.values().any(|answer| answer.token == token);
        let with_a_broker = self.brokers.iter().any(|broker| {
            broker.holds(token)
                || broker.step.answer().is_some_and(|held| held.token == token)
                || broker.waits_for(token)
        });
        in_record(&self.store) || in_record(&self.replica) || in_escrow || with_a_broker
    }

    /// Whether `me` could find the token, and nobody else is bringing it to the store.
    pub(crate) fn is_left_lying(&self, token: Token, me: BrokerId) -> bool {
        let in_escrow = self.escrow.values().any(|answer| answer.token == token);
        let other = &self.brokers[1 - me];
        let is_brought =
            other.step.answer().is_some_and(|held| held.token == token) || other.waits_for(token);
        !is_brought && (in_escrow || self.brokers[me].holds(token))
    }

    /// Nothing is under way, and nothing is out of reach.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_quiet = |broker: &Broker| {
            broker.condition == Condition::Running
                && broker.step == Step::Idle
                && broker.late.is_empty()
                && broker.journal.is_empty()
        };
        self.escrow.is_empty() && self.store.intent.is_none() && self.brokers.iter().all(is_quiet)
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.store.status == Status::Invalid
    }
}

impl Broker {
    /// Whether the token is on its disk.
    pub(crate) fn holds(&self, token: Token) -> bool {
        let mut noted = self.journal.values();
        noted.any(|noted| matches!(noted, Noted::Answered(answer) if answer.token == token))
    }

    /// Whether a late answer brings it the token.
    pub(crate) fn waits_for(&self, token: Token) -> bool {
        let mut replies = self.late.iter().map(|call| call.reply);
        replies.any(|reply| reply.token() == Some(token))
    }

    /// Whether a call with this link is open that it must not repeat. It may repeat one call, in the last
    /// tick of the grace.
    pub(crate) fn leaves_open(&self, link: Link, grace: u8) -> bool {
        let mut open = self.late.iter().filter(|call| call.attempt.link == link);
        match (open.next(), open.next()) {
            (None, _) => false,
            (Some(call), None) => call.age + 1 != grace,
            (Some(_), Some(_)) => true,
        }
    }

    /// An answer from an earlier life that the store has not confirmed.
    pub(crate) fn waiting(&self) -> Option<Committing> {
        self.journal.iter().find_map(|(id, noted)| match noted {
            Noted::Asked(_) => None,
            Noted::Answered(answer) => Some(Committing {
                id: *id,
                answer: *answer,
                is_from_journal: true,
            }),
        })
    }

    /// An attempt from an earlier life that got no answer.
    pub(crate) fn asked(&self) -> Option<(AttemptId, Link)> {
        self.journal.iter().find_map(|(id, noted)| match noted {
            Noted::Asked(link) => Some((*id, *link)),
            Noted::Answered(_) => None,
        })
    }
}

impl Step {
    fn id(&self) -> Option<AttemptId> {
        match self {
            Self::Idle | Self::Leased => None,
            Self::Begun(attempt)
            | Self::Looking(attempt, _)
            | Self::Found(attempt, _, _)
            | Self::Resolved(attempt)
            | Self::Noted(attempt)
            | Self::Cleared(attempt)
            | Self::Called(attempt, _)
            | Self::Failed(attempt, _) => Some(attempt.id),
            Self::Answered { id, .. }
            | Self::Confirmed(id)
            | Self::Unescrowed(id)
            | Self::GivenBack(id) => Some(*id),
            Self::Safe(committing) | Self::Committed(committing) => Some(committing.id),
        }
    }

    /// The answer in memory.
    fn answer(&self) -> Option<Answer> {
        match self {
            Self::Answered { answer, .. } => Some(*answer),
            Self::Safe(committing) | Self::Committed(committing) => Some(committing.answer),
            Self::Idle
            | Self::Leased
            | Self::Begun(_)
            | Self::Looking(..)
            | Self::Found(..)
            | Self::Resolved(_)
            | Self::Noted(_)
            | Self::Cleared(_)
            | Self::Called(..)
            | Self::Confirmed(_)
            | Self::Unescrowed(_)
            | Self::Failed(..)
            | Self::GivenBack(_) => None,
        }
    }
}
