//! The steps of a broker. A crash is possible between any two.

use store_writer::protocol::FailureClass;

use crate::ghl::Reply;
use crate::protocol::{Flaw, Protocol};
use crate::record::{Record, TokenResponse};
use crate::system::{
    Attempt, Broker, BrokerId, Call, Committing, Condition, JournalEntry, LateCall, SearchReason,
    Step, System,
};

impl Protocol {
    /// Whether the broker may start a refresh now.
    pub(crate) fn may_take(&self, system: &System, me: BrokerId) -> bool {
        let broker = &system.brokers[me];
        broker.condition == Condition::Running
            && broker.step == Step::Idle
            && broker.waiting().is_none()
            && system.lease.is_none()
            && self.is_wanted(system)
            && !broker.must_not_retry(system.store.link, self.grace)
            && system.store.begin(0, me, broker.is_after_outage).is_some()
    }

    /// Whether the broker can act and must do so before time passes.
    pub(crate) fn must_act(&self, system: &System, me: BrokerId) -> bool {
        let broker = &system.brokers[me];
        let is_waiting = matches!(broker.step, Step::Called(_, Call::Late(_)));
        let is_under_way = broker.step != Step::Idle || !broker.journal.is_empty();
        let is_unresolved = system.store.intent.is_some() && self.may_take(system, me);
        broker.condition == Condition::Running && !is_waiting && (is_under_way || is_unresolved)
    }

    pub(crate) fn take(system: &mut System, me: BrokerId) {
        system.lease = Some(me);
        system.brokers[me].is_in_time = true;
        system.brokers[me].step = Step::Leased;
    }

    /// The lost response that a broker adopts when it finds the lease taken.
    pub(crate) fn adoptable_lost_response(&self, system: &System) -> Option<(Attempt, u8)> {
        system.lease?;
        let (attempt, age) = system.store.lost_response()?;
        (age < self.grace).then_some((attempt, age))
    }

    /// Retries a call without the store or a lease, because neither may be available.
    pub(crate) fn retry_call(system: &mut System, me: BrokerId) {
        let id = system.unused_id();
        let broker = &mut system.brokers[me];
        if let Some((lost, _)) = broker.lost_call {
            broker.is_in_time = true;
            broker.step = Step::Resolved(Attempt {
                id,
                is_retry: true,
                ..lost
            });
        }
    }

    /// Stops waiting for a call, and goes on reading.
    pub(crate) fn stop_waiting(&self, broker: &mut Broker) {
        let Step::Called(attempt, Call::Late(reply)) = broker.step else {
            return;
        };
        if !attempt.is_retry {
            broker.lost_call = Some((attempt, 1));
        }
        if self.flaw != Some(Flaw::DropsLateResponses) {
            let age = 1;
            broker.late.push(LateCall {
                attempt,
                reply,
                age,
            });
        }
        broker.step = Step::Failed(attempt, FailureClass::Unknown);
    }

    /// A late response arrives.
    pub(crate) fn receive_late(&self, system: &mut System, me: BrokerId) {
        let broker = &mut system.brokers[me];
        if broker.late.is_empty() {
            return;
        }
        let call = broker.late.remove(0);
        if call.reply.token().is_some() {
            broker.lost_call = None;
            broker.step = self.receive(call.attempt, Call::Answered(call.reply));
        } else {
            let next = system
                .store
                .record_late_reader(call.attempt.link, me, false);
            system.write(next);
        }
    }

    /// The next step of a broker that is not idle.
    pub(crate) fn advance(&self, system: &mut System, me: BrokerId) {
        let next = match system.brokers[me].step {
            Step::Idle => Step::Idle,
            Step::Leased => return self.begin(system, me),
            Step::Begun(attempt) => {
                system.confirm();
                match attempt.is_retry {
                    true => Step::SearchingEscrow(attempt, SearchReason::Takeover),
                    false => Step::Resolved(attempt),
                }
            }
            Step::SearchingEscrow(attempt, why) => self.search_escrow(system, me, attempt, why),
            Step::Found(attempt, why, found) => {
                system.confirm();
                system.escrow.remove(&found);
                Step::SearchingEscrow(attempt, why)
            }
            Step::Resolved(attempt) => {
                let sent = JournalEntry::Sent(attempt.link);
                system.brokers[me].journal.insert(attempt.id, sent);
                Step::Journaled(attempt)
            }
            Step::Journaled(attempt) if system.brokers[me].is_in_time => Step::Cleared(attempt),
            Step::Journaled(attempt) => Step::Failed(attempt, FailureClass::Unspent),
            Step::Cleared(attempt) => {
                Step::Called(attempt, Call::Answered(spend(system, me, attempt)))
            }
            Step::Called(attempt, call) => {
                let lost_call = &mut system.brokers[me].lost_call;
                match call {
                    Call::Lost if !attempt.is_retry => *lost_call = Some((attempt, 0)),
                    Call::Lost | Call::Late(_) | Call::NotSent => {}
                    Call::Answered(_) => *lost_call = None,
                }
                self.receive(attempt, call)
            }
            // The journal and the escrow are separate actions, in either order.
            Step::Answered { .. } => return,
            Step::Safe(committing) => {
                self.commit(system, me, committing.response);
                if self.flaw == Some(Flaw::ForgottenBeforeConfirmed) {
                    Step::Confirmed(committing.id)
                } else {
                    Step::Committed(committing)
                }
            }
            Step::Committed(committing) => {
                system.confirm();
                Step::Confirmed(committing.id)
            }
            Step::Confirmed(id) => {
                system.escrow.remove(&id);
                Step::Unescrowed(id)
            }
            Step::Failed(attempt, refusal) => {
                record_failure(system, me, attempt, refusal);
                Step::FailureRecorded(attempt.id)
            }
            Step::Unescrowed(id) | Step::FailureRecorded(id) => {
                system.brokers[me].journal.remove(&id);
                release(system, me)
            }
        };
        system.brokers[me].step = next;
    }

    /// Writes the response to the journal.
    pub(crate) fn journal_response(system: &mut System, me: BrokerId) {
        let broker = &mut system.brokers[me];
        if let Step::Answered {
            id,
            response,
            is_noted,
            is_escrowed,
        } = &mut broker.step
        {
            broker
                .journal
                .insert(*id, JournalEntry::Answered(*response));
            *is_noted = true;
            if *is_escrowed {
                broker.step = safe(*id, *response);
            }
        }
    }

    /// Stores the response on the lock nodes.
    pub(crate) fn escrow_response(system: &mut System, me: BrokerId) {
        let broker = &mut system.brokers[me];
        if let Step::Answered {
            id,
            response,
            is_noted,
            is_escrowed,
        } = &mut broker.step
        {
            system.escrow.insert(*id, *response);
            *is_escrowed = true;
            if *is_noted {
                broker.step = safe(*id, *response);
            }
        }
    }

    /// Commits what any broker left in the escrow.
    pub(crate) fn sweep(system: &mut System, me: BrokerId) {
        if let Some((id, response)) = system.escrow.iter().min_by_key(|(_, response)| **response) {
            system.brokers[me].step = safe(*id, *response);
        }
    }

    /// Processes what an earlier process left in the journal.
    pub(crate) fn replay(system: &mut System, me: BrokerId) {
        let broker = &mut system.brokers[me];
        if let Some(committing) = broker.waiting() {
            broker.step = Step::Safe(committing);
        } else if let Some((id, spent)) = broker.sent() {
            broker.journal.remove(&id);
            release(system, me);
            system.write(system.store.abandon(id, spent, me));
        }
    }

    /// Whether the run has a refresh left, or one to resolve.
    fn is_wanted(&self, system: &System) -> bool {
        let is_open = system.store.intent.is_some() || system.store.refusals > 0;
        is_open || system.store.link.token <= self.refreshes
    }

    fn begin(&self, system: &mut System, me: BrokerId) {
        let id = system.unused_id();
        let is_after_outage = system.brokers[me].is_after_outage;
        let begun = system.store.begin(id, me, is_after_outage);
        system.brokers[me].step = match begun.filter(|_| self.is_wanted(system)) {
            None => release(system, me),
            Some((_, intent)) if self.flaw == Some(Flaw::NoIntent) => Step::Resolved(Attempt {
                id: intent.id,
                link: system.store.link,
                is_retry: false,
            }),
            Some((next, intent)) => {
                let link = next.link;
                system.write(Some(next));
                Step::Begun(Attempt {
                    id,
                    link,
                    is_retry: intent.is_retry,
                })
            }
        };
    }

    fn search_escrow(
        &self,
        system: &mut System,
        me: BrokerId,
        attempt: Attempt,
        why: SearchReason,
    ) -> Step {
        let oldest = system.escrow.iter().min_by_key(|(_, response)| **response);
        if let Some((id, response)) = oldest {
            let (id, response) = (*id, *response);
            self.commit(system, me, response);
            return Step::Found(attempt, why, id);
        }
        let is_ours = system
            .store
            .intent
            .is_some_and(|open| open.id == attempt.id);
        match why {
            SearchReason::Takeover if is_ours => Step::Resolved(attempt),
            SearchReason::Takeover => Step::FailureRecorded(attempt.id),
            SearchReason::Refused => Step::Failed(attempt, FailureClass::Refused),
        }
    }

    fn receive(&self, attempt: Attempt, call: Call) -> Step {
        let token = match call {
            Call::Answered(Reply::Granted(token) | Reply::Repeated(token)) => token,
            Call::Answered(Reply::Refused) => {
                return Step::SearchingEscrow(attempt, SearchReason::Refused);
            }
            Call::Lost | Call::Late(_) => return Step::Failed(attempt, FailureClass::Unknown),
            Call::NotSent => return Step::Failed(attempt, FailureClass::Unspent),
        };
        let response = TokenResponse {
            spent: attempt.link,
            token,
        };
        if self.flaw == Some(Flaw::ResponseNotSaved) {
            return safe(attempt.id, response);
        }
        Step::Answered {
            id: attempt.id,
            response,
            is_noted: false,
            is_escrowed: false,
        }
    }

    fn commit(&self, system: &mut System, me: BrokerId, response: TokenResponse) {
        let next = if self.flaw == Some(Flaw::LeaseFence) {
            (system.lease == Some(me)).then(|| overwritten(&system.store, response))
        } else {
            system.store.commit(response)
        };
        system.write(next);
    }
}

/// Sends the request and returns GHL's reply.
fn spend(system: &mut System, me: BrokerId, attempt: Attempt) -> Reply {
    let reply = system.ghl.spend(attempt.link.token);
    // A pause between the last check of the clock and the call cannot be prevented.
    // A suspect installation's token is sent again, to find out whether GHL was right.
    let is_suspect = system.store.refusals > 0;
    if reply == Reply::Refused && system.brokers[me].is_in_time && !is_suspect {
        let successor = attempt.link.token + 1;
        // Neither can a response that reached the store since the begin.
        let is_current = system.store.link == attempt.link;
        system.history.is_spent_twice = true;
        system.history.is_spent_past_response |= is_current && system.can_find(successor, me);
    }
    reply
}

fn record_failure(system: &mut System, me: BrokerId, attempt: Attempt, class: FailureClass) {
    let was_invalid = system.is_invalid();
    let mut late = system.brokers[me].late.iter();
    let reader = late.any(|call| call.attempt == attempt).then_some(me);
    let next = system
        .store
        .record_failure(attempt.link, attempt.id, class, reader);
    system.write(next);
    if system.is_invalid() && !was_invalid {
        let newest = system.ghl.newest();
        system.history.is_invalid_too_early |= system.can_find(newest, me);
    }
}

fn release(system: &mut System, me: BrokerId) -> Step {
    if system.lease == Some(me) {
        system.lease = None;
    }
    system.brokers[me].is_in_time = false;
    Step::Idle
}

fn safe(id: u8, response: TokenResponse) -> Step {
    Step::Safe(Committing {
        id,
        response,
        is_from_journal: false,
    })
}

/// The record that the holder of the lease would write if the lease were the fence.
fn overwritten(current: &Record, response: TokenResponse) -> Record {
    let mut next = current.clone();
    next.link.generation = response.spent.generation + 1;
    next.link.token = response.token;
    next.status = store::Status::Active;
    next.refusals = 0;
    next.intent = None;
    next
}
