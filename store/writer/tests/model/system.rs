//! The state: a store with a replica, lock nodes, two brokers with a disk each, and GHL.

use std::collections::{BTreeMap, BTreeSet};

use store::Status;
use store_writer::protocol::FailureClass;

use crate::ghl::{Ghl, Reply};
use crate::record::{ChainLink, Record, Token, TokenResponse};

/// An index into [`System::brokers`].
pub(crate) type BrokerId = usize;
/// The smallest unused number, so that different histories reach equal states.
pub(crate) type AttemptId = u8;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct System {
    /// The record in the store.
    pub(crate) store: Record,
    /// The record with all confirmed writes. A failover falls back to it.
    pub(crate) replica: Record,
    /// The holder of the lease.
    pub(crate) lease: Option<BrokerId>,
    /// Responses on the lock nodes, one for each attempt.
    pub(crate) escrow: BTreeMap<AttemptId, TokenResponse>,
    pub(crate) brokers: [Broker; 2],
    pub(crate) ghl: Ghl,
    /// The number of faults so far.
    pub(crate) faults: u8,
    pub(crate) history: History,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Broker {
    pub(crate) condition: Condition,
    pub(crate) step: Step,
    /// Whether its lease leaves time for a call.
    pub(crate) is_in_time: bool,
    /// Whether the broker or the store has just come back.
    pub(crate) is_after_outage: bool,
    /// An attempt whose response was lost, and its age in ticks.
    pub(crate) lost_call: Option<(Attempt, u8)>,
    /// Calls whose responses it still reads, oldest first.
    pub(crate) late: Vec<LateCall>,
    /// Its disk: unfinished attempts with their responses.
    pub(crate) journal: BTreeMap<AttemptId, JournalEntry>,
}

/// A call that took longer than the broker waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LateCall {
    pub(crate) attempt: Attempt,
    pub(crate) reply: Reply,
    /// In ticks.
    pub(crate) age: u8,
}

/// An attempt on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum JournalEntry {
    Sent(ChainLink),
    Answered(TokenResponse),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Condition {
    Running,
    Paused,
    Down,
}

/// The last completed step of a broker. A crash forgets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Idle,
    Leased,
    /// The intent is in the store, but perhaps not in the replica.
    Begun(Attempt),
    /// Searches the escrow for responses of other attempts, before a call or after a refusal.
    SearchingEscrow(Attempt, SearchReason),
    /// A response of another attempt is committed, but perhaps not in the replica.
    Found(Attempt, SearchReason, AttemptId),
    /// Only the call is left.
    Resolved(Attempt),
    /// The intent is in the journal.
    Journaled(Attempt),
    /// There is time for the call, which is sent next.
    Cleared(Attempt),
    /// GHL's reply is on its way, or the request or the reply is lost.
    Called(Attempt, Call),
    /// The response is in memory, before the disk and the lock nodes have it.
    Answered {
        id: AttemptId,
        response: TokenResponse,
        is_noted: bool,
        is_escrowed: bool,
    },
    /// The response is as safe as it can be.
    Safe(Committing),
    /// Committed, but perhaps not in the replica.
    Committed(Committing),
    /// Committed and confirmed.
    Confirmed(AttemptId),
    /// The escrow entry is deleted.
    Unescrowed(AttemptId),
    Failed(Attempt, FailureClass),
    FailureRecorded(AttemptId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) id: AttemptId,
    pub(crate) link: ChainLink,
    /// Whether another attempt may have spent the token.
    pub(crate) is_retry: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SearchReason {
    Takeover,
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Answered(Reply),
    /// No reply arrives. GHL may have handled the request.
    Lost,
    /// The reply comes after the broker has stopped waiting.
    Late(Reply),
    /// Nothing was sent, and the broker knows it.
    NotSent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Committing {
    pub(crate) id: AttemptId,
    pub(crate) response: TokenResponse,
    pub(crate) is_from_journal: bool,
}

/// Violations, recorded at the step where they happen, and what readers have seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// The newest token that was ever in the store.
    pub(crate) published: Token,
    /// A spent token was sent again in time, and GHL refused it.
    pub(crate) is_spent_twice: bool,
    /// A spent token was sent again although its successor could be found.
    pub(crate) is_spent_past_response: bool,
    /// An installation became invalid although its token could be found.
    pub(crate) is_invalid_too_early: bool,
    /// A write replaced a newer link by an older one.
    pub(crate) is_set_back: bool,
}

impl System {
    /// The state after a customer's consent.
    pub(crate) fn registered(grace: u8, refusals_before: u8) -> Self {
        let record = Record::registered(refusals_before);
        let broker = Broker {
            condition: Condition::Running,
            step: Step::Idle,
            is_in_time: false,
            is_after_outage: false,
            lost_call: None,
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

    /// Stores `next`; `None` leaves the record unchanged.
    pub(crate) fn write(&mut self, next: Option<Record>) {
        let Some(next) = next else { return };
        let (former, link) = (self.store.link, next.link);
        self.history.is_set_back |=
            link.generation < former.generation || link.token < former.token;
        self.history.published = self.history.published.max(link.token);
        self.store = next;
    }

    /// Waits until the replica has every write.
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

    /// Whether any copy of the token exists.
    pub(crate) fn has_copy(&self, token: Token) -> bool {
        let in_record = |record: &Record| {
            let kept = record.alternates.iter().any(|kept| kept.token == token);
            record.link.token == token || kept
        };
        let in_escrow = self.escrow.values().any(|response| response.token == token);
        let with_a_broker = self.brokers.iter().any(|broker| {
            broker.holds(token)
                || broker
                    .step
                    .response()
                    .is_some_and(|held| held.token == token)
                || broker.awaits_late(token)
        });
        in_record(&self.store) || in_record(&self.replica) || in_escrow || with_a_broker
    }

    /// Whether `me` could find the token, and no other broker is committing it.
    pub(crate) fn can_find(&self, token: Token, me: BrokerId) -> bool {
        let in_escrow = self.escrow.values().any(|response| response.token == token);
        let other = &self.brokers[1 - me];
        let is_brought = other
            .step
            .response()
            .is_some_and(|held| held.token == token)
            || other.awaits_late(token);
        !is_brought && (in_escrow || self.brokers[me].holds(token))
    }

    /// Whether nothing is in progress, and everything is reachable.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_quiet = |broker: &Broker| {
            broker.condition == Condition::Running
                && broker.step == Step::Idle
                && broker.late.is_empty()
                && broker.journal.is_empty()
        };
        self.escrow.is_empty() && self.store.intent.is_none() && self.brokers.iter().all(is_quiet)
    }

    pub(crate) fn is_invalid(&self) -> bool {
        self.store.status == Status::Invalid
    }
}

impl Broker {
    /// Whether the token is on its disk.
    pub(crate) fn holds(&self, token: Token) -> bool {
        let mut noted = self.journal.values();
        noted.any(
            |noted| matches!(noted, JournalEntry::Answered(response) if response.token == token),
        )
    }

    /// Whether a late response contains the token.
    pub(crate) fn awaits_late(&self, token: Token) -> bool {
        let mut replies = self.late.iter().map(|call| call.reply);
        replies.any(|reply| reply.token() == Some(token))
    }

    /// Whether a call with this link is open that it must not retry. It may retry one call, in the last tick
    /// of the grace period.
    pub(crate) fn must_not_retry(&self, link: ChainLink, grace: u8) -> bool {
        let mut open = self.late.iter().filter(|call| call.attempt.link == link);
        match (open.next(), open.next()) {
            (None, _) => false,
            (Some(call), None) => call.age + 1 != grace,
            (Some(_), Some(_)) => true,
        }
    }

    /// A response of an earlier process that the store has not confirmed.
    pub(crate) fn waiting(&self) -> Option<Committing> {
        self.journal.iter().find_map(|(id, noted)| match noted {
            JournalEntry::Sent(_) => None,
            JournalEntry::Answered(response) => Some(Committing {
                id: *id,
                response: *response,
                is_from_journal: true,
            }),
        })
    }

    /// An attempt of an earlier process that got no response.
    pub(crate) fn sent(&self) -> Option<(AttemptId, ChainLink)> {
        self.journal.iter().find_map(|(id, noted)| match noted {
            JournalEntry::Sent(link) => Some((*id, *link)),
            JournalEntry::Answered(_) => None,
        })
    }
}

impl Step {
    fn id(&self) -> Option<AttemptId> {
        match self {
            Self::Idle | Self::Leased => None,
            Self::Begun(attempt)
            | Self::SearchingEscrow(attempt, _)
            | Self::Found(attempt, _, _)
            | Self::Resolved(attempt)
            | Self::Journaled(attempt)
            | Self::Cleared(attempt)
            | Self::Called(attempt, _)
            | Self::Failed(attempt, _) => Some(attempt.id),
            Self::Answered { id, .. }
            | Self::Confirmed(id)
            | Self::Unescrowed(id)
            | Self::FailureRecorded(id) => Some(*id),
            Self::Safe(committing) | Self::Committed(committing) => Some(committing.id),
        }
    }

    /// The response in memory.
    fn response(&self) -> Option<TokenResponse> {
        match self {
            Self::Answered { response, .. } => Some(*response),
            Self::Safe(committing) | Self::Committed(committing) => Some(committing.response),
            Self::Idle
            | Self::Leased
            | Self::Begun(_)
            | Self::SearchingEscrow(..)
            | Self::Found(..)
            | Self::Resolved(_)
            | Self::Journaled(_)
            | Self::Cleared(_)
            | Self::Called(..)
            | Self::Confirmed(_)
            | Self::Unescrowed(_)
            | Self::Failed(..)
            | Self::FailureRecorded(_) => None,
        }
    }
}
