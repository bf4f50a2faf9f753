//! What a broker does next: a refresh, one crash point after another.

use store_writer::protocol::Refusal;

use crate::ghl::Reply;
use crate::protocol::{Flaw, Protocol};
use crate::record::{Answer, Record};
use crate::system::{
    Attempt, Broker, BrokerId, Call, Committing, Condition, LateCall, Noted, Step, System, Why,
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
            && !broker.leaves_open(system.store.link, self.grace)
            && system.store.begin(0, me, broker.is_settling).is_some()
    }

    /// Whether the broker can and must do something before time passes.
    pub(crate) fn is_pressed(&self, system: &System, me: BrokerId) -> bool {
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

    /// The doubt of whoever finds the lease taken.
    pub(crate) fn shared_doubt(&self, system: &System) -> Option<(Attempt, u8)> {
        system.lease?;
        let (attempt, age) = system.store.in_doubt()?;
        (age < self.grace).then_some((attempt, age))
    }

    /// Asks again for what was lost, without the store or a lease: neither may be there.
    pub(crate) fn ask_again(system: &mut System, me: BrokerId) {
        let id = system.unused_id();
        let broker = &mut system.brokers[me];
        if let Some((lost, _)) = broker.doubt {
            broker.is_in_time = true;
            broker.step = Step::Resolved(Attempt {
                id,
                is_repeat: true,
                ..lost
            });
        }
    }

    /// Stops to wait for a call, and goes on reading.
    pub(crate) fn stop_waiting(&self, broker: &mut Broker) {
        let Step::Called(attempt, Call::Late(reply)) = broker.step else {
            return;
        };
        if !attempt.is_repeat {
            broker.doubt = Some((attempt, 1));
        }
        if self.flaw != Some(Flaw::HangsUp) {
            let age = 1;
            broker.late.push(LateCall {
                attempt,
                reply,
                age,
            });
        }
        broker.step = Step::Failed(attempt, Refusal::Unknown);
    }

    /// A late answer arrives.
    pub(crate) fn read_late(&self, system: &mut System, me: BrokerId) {
        let broker = &mut system.brokers[me];
        if broker.late.is_empty() {
            return;
        }
        let call = broker.late.remove(0);
        if call.reply.token().is_some() {
            broker.doubt = None;
            broker.step = self.receive(call.attempt, Call::Answered(call.reply));
        } else {
            let next = system.store.read_late(call.attempt.link, me, false);
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
                match attempt.is_repeat {
                    true => Step::Looking(attempt, Why::Takeover),
                    false => Step::Resolved(attempt),
                }
            }
            Step::Looking(attempt, why) => self.look(system, me, attempt, why),
            Step::Found(attempt, why, found) => {
                system.confirm();
                system.escrow.remove(&found);
                Step::Looking(attempt, why)
            }
            Step::Resolved(attempt) => {
                let asked = Noted::Asked(attempt.link);
                system.brokers[me].journal.insert(attempt.id, asked);
                Step::Noted(attempt)
            }
            Step::Noted(attempt) if system.brokers[me].is_in_time => Step::Cleared(attempt),
            Step::Noted(attempt) => Step::Failed(attempt, Refusal::Unspent),
            Step::Cleared(attempt) => {
                Step::Called(attempt, Call::Answered(spend(system, me, attempt)))
            }
            Step::Called(attempt, call) => {
                let doubt = &mut system.brokers[me].doubt;
                match call {
                    Call::Lost if !attempt.is_repeat => *doubt = Some((attempt, 0)),
                    Call::Lost | Call::Late(_) | Call::NotSent => {}
                    Call::Answered(_) => *doubt = None,
                }
                self.receive(attempt, call)
            }
            // Written down by actions of their own, in either order.
            Step::Answered { .. } => return,
            Step::Safe(committing) => {
                self.commit(system, me, committing.answer);
                if self.flaw == Some(Flaw::Unconfirmed) {
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
                give_back(system, me, attempt, refusal);
                Step::GivenBack(attempt.id)
            }
            Step::Unescrowed(id) | Step::GivenBack(id) => {
                system.brokers[me].journal.remove(&id);
                release(system, me)
            }
        };
        system.brokers[me].step = next;
    }

    /// Notes the answer in the journal.
    pub(crate) fn note_answer(system: &mut System, me: BrokerId) {
        let broker = &mut system.brokers[me];
        if let Step::Answered {
            id,
            answer,
            is_noted,
            is_escrowed,
        } = &mut broker.step
        {
            broker.journal.insert(*id, Noted::Answered(*answer));
            *is_noted = true;
            if *is_escrowed {
                broker.step = safe(*id, *answer);
            }
        }
    }

    /// Leaves the answer with the lock nodes.
    pub(crate) fn escrow_answer(system: &mut System, me: BrokerId) {
        let broker = &mut system.brokers[me];
        if let Step::Answered {
            id,
            answer,
            is_noted,
            is_escrowed,
        } = &mut broker.step
        {
            system.escrow.insert(*id, *answer);
            *is_escrowed = true;
            if *is_noted {
                broker.step = safe(*id, *answer);
            }
        }
    }

    /// Deals with what was left in the escrow, by whomever.
    pub(crate) fn sweep(system: &mut System, me: BrokerId) {
        if let Some((id, answer)) = system.escrow.iter().min_by_key(|(_, answer)| **answer) {
            system.brokers[me].step = safe(*id, *answer);
        }
    }

    /// Deals with what an earlier process left on the disk.
    pub(crate) fn replay(system: &mut System, me: BrokerId) {
        let broker = &mut system.brokers[me];
        if let Some(committing) = broker.waiting() {
            broker.step = Step::Safe(committing);
        } else if let Some((id, spent)) = broker.asked() {
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
        let is_settling = system.brokers[me].is_settling;
        let begun = system.store.begin(id, me, is_settling);
        system.brokers[me].step = match begun.filter(|_| self.is_wanted(system)) {
            None => release(system, me),
            Some((_, intent)) if self.flaw == Some(Flaw::NoIntent) => Step::Resolved(Attempt {
                id: intent.id,
                link: system.store.link,
                is_repeat: false,
            }),
            Some((next, intent)) => {
                let link = next.link;
                system.write(Some(next));
                Step::Begun(Attempt {
                    id,
                    link,
                    is_repeat: intent.is_repeat,
                })
            }
        };
    }

    fn look(&self, system: &mut System, me: BrokerId, attempt: Attempt, why: Why) -> Step {
        let oldest = system.escrow.iter().min_by_key(|(_, answer)| **answer);
        if let Some((id, answer)) = oldest {
            let (id, answer) = (*id, *answer);
            self.commit(system, me, answer);
            return Step::Found(attempt, why, id);
        }
        let is_ours = system
            .store
            .intent
            .is_some_and(|open| open.id == attempt.id);
        match why {
            Why::Takeover if is_ours => Step::Resolved(attempt),
            Why::Takeover => Step::GivenBack(attempt.id),
            Why::Refused => Step::Failed(attempt, Refusal::Refused),
        }
    }

    fn receive(&self, attempt: Attempt, call: Call) -> Step {
        let token = match call {
            Call::Answered(Reply::Granted(token) | Reply::Repeated(token)) => token,
            Call::Answered(Reply::Refused) => return Step::Looking(attempt, Why::Refused),
            Call::Lost | Call::Late(_) => return Step::Failed(attempt, Refusal::Unknown),
            Call::NotSent => return Step::Failed(attempt, Refusal::Unspent),
        };
        let answer = Answer {
            spent: attempt.link,
            token,
        };
        if self.flaw == Some(Flaw::NothingWritten) {
            return safe(attempt.id, answer);
        }
        Step::Answered {
            id: attempt.id,
            answer,
            is_noted: false,
            is_escrowed: false,
        }
    }

    fn commit(&self, system: &mut System, me: BrokerId, answer: Answer) {
        let next = if self.flaw == Some(Flaw::LeaseFence) {
            (system.lease == Some(me)).then(|| overwritten(&system.store, answer))
        } else {
            system.store.commit(answer)
        };
        system.write(next);
    }
}

/// Sends the request, and GHL answers.
fn spend(system: &mut System, me: BrokerId, attempt: Attempt) -> Reply {
    let reply = system.ghl.spend(attempt.link.token);
    // A pause between the last look at the clock and the call is out of everybody's hands.
    // A suspect's token is sent again to find out whether GHL was right.
    let is_suspect = system.store.refusals > 0;
    if reply == Reply::Refused && system.brokers[me].is_in_time && !is_suspect {
        let successor = attempt.link.token + 1;
        // Nor is an answer that reached the store since the begin.
        let is_current = system.store.link == attempt.link;
        system.history.is_spent_twice = true;
        system.history.is_spent_past_its_answer |=
            is_current && system.is_left_lying(successor, me);
    }
    reply
}

fn give_back(system: &mut System, me: BrokerId, attempt: Attempt, refusal: Refusal) {
    let was_given_up = system.is_given_up();
    let mut late = system.brokers[me].late.iter();
    let reader = late.any(|call| call.attempt == attempt).then_some(me);
    let next = system
        .store
        .give_back(attempt.link, attempt.id, refusal, reader);
    system.write(next);
    if system.is_given_up() && !was_given_up {
        let newest = system.ghl.newest();
        system.history.is_given_up_too_early |= system.is_left_lying(newest, me);
    }
}

fn release(system: &mut System, me: BrokerId) -> Step {
    if system.lease == Some(me) {
        system.lease = None;
    }
    system.brokers[me].is_in_time = false;
    Step::Idle
}

fn safe(id: u8, answer: Answer) -> Step {
    Step::Safe(Committing {
        id,
        answer,
        is_from_journal: false,
    })
}

/// What the holder of a lease would write, if that were the fence.
fn overwritten(current: &Record, answer: Answer) -> Record {
    let mut next = current.clone();
    next.link.generation = answer.spent.generation + 1;
    next.link.token = answer.token;
    next.status = store::Status::Active;
    next.refusals = 0;
    next.intent = None;
    next
}
