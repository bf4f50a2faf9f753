//! The refresh protocol as a state machine: the actions that are possible in a state.

use stateright::{Model, Property};

use crate::faults::{Fault, FaultKinds};
use crate::properties;
use crate::record::OLD;
use crate::system::{BrokerId, Call, Condition, Step, System};

/// The protocol under check.
#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    /// The number of refreshes in a run.
    pub(crate) refreshes: u8,
    /// The most faults in a run.
    pub(crate) faults: u8,
    pub(crate) kinds: FaultKinds,
    /// Refusals that every token starts with. Retries of a suspect installation multiply the states.
    pub(crate) refusals_before: u8,
    /// GHL's grace period in ticks.
    pub(crate) grace: u8,
    pub(crate) flaw: Option<Flaw>,
}

/// A flaw that makes the protocol worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The call is sent without an intent in the store.
    NoIntent,
    /// Only the holder of the lease may commit.
    LeaseFence,
    /// The response goes to the store alone.
    ResponseNotSaved,
    /// A response is forgotten once it is committed, without a confirmation.
    ForgottenBeforeConfirmed,
    /// A lost response is requested again without a time limit.
    RetriesForever,
    /// The broker closes the connection when it stops waiting.
    DropsLateResponses,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Take(BrokerId),
    RetryCall(BrokerId),
    AdoptLostResponse(BrokerId),
    ReceiveLate(BrokerId),
    Advance(BrokerId),
    JournalResponse(BrokerId),
    EscrowResponse(BrokerId),
    Replay(BrokerId),
    Sweep(BrokerId),
    Restart(BrokerId),
    Resume(BrokerId),
    /// The replica catches up although no write waits for it.
    Replicate,
    /// Leases and intents expire, and everything gets older. Brokers are fast, so this happens only when no
    /// running broker has anything to do.
    Tick,
    Fault(Fault),
}

impl Model for Protocol {
    type State = System;
    type Action = Action;

    fn init_states(&self) -> Vec<System> {
        vec![System::registered(self.grace, self.refusals_before)]
    }

    fn actions(&self, system: &System, actions: &mut Vec<Action>) {
        for (me, broker) in system.brokers.iter().enumerate() {
            match (broker.condition, broker.step) {
                (Condition::Down, _) => actions.push(Action::Restart(me)),
                (Condition::Paused, _) => actions.push(Action::Resume(me)),
                (Condition::Running, Step::Idle) => {
                    if !broker.journal.is_empty() {
                        actions.push(Action::Replay(me));
                    }
                    if !system.escrow.is_empty() && broker.waiting().is_none() {
                        actions.push(Action::Sweep(me));
                    }
                    if self.may_take(system, me) {
                        actions.push(Action::Take(me));
                    }
                    if !broker.late.is_empty() {
                        actions.push(Action::ReceiveLate(me));
                    }
                    if let Some((lost, _)) = broker.lost_call {
                        if !broker.must_not_retry(lost.link, self.grace) {
                            actions.push(Action::RetryCall(me));
                        }
                    } else if self.adoptable_lost_response(system).is_some() {
                        actions.push(Action::AdoptLostResponse(me));
                    }
                }
                (
                    Condition::Running,
                    Step::Answered {
                        is_noted,
                        is_escrowed,
                        ..
                    },
                ) => {
                    if !is_noted {
                        actions.push(Action::JournalResponse(me));
                    }
                    if !is_escrowed {
                        actions.push(Action::EscrowResponse(me));
                    }
                }
                // Waits for the next tick.
                (Condition::Running, Step::Called(_, Call::Late(_))) => {}
                (Condition::Running, _) => actions.push(Action::Advance(me)),
            }
        }
        if !(0..system.brokers.len()).any(|me| self.must_act(system, me)) {
            actions.push(Action::Tick);
        }
        if system.store != system.replica {
            actions.push(Action::Replicate);
        }
        if system.faults < self.faults {
            actions.extend(
                Fault::possible(system, self.kinds)
                    .into_iter()
                    .map(Action::Fault),
            );
        }
    }

    fn next_state(&self, system: &System, action: Action) -> Option<System> {
        let mut next = system.clone();
        match action {
            Action::Take(me) => Self::take(&mut next, me),
            Action::RetryCall(me) => Self::retry_call(&mut next, me),
            Action::AdoptLostResponse(me) => {
                next.brokers[me].lost_call = self.adoptable_lost_response(system)
            }
            Action::ReceiveLate(me) => self.receive_late(&mut next, me),
            Action::Advance(me) => self.advance(&mut next, me),
            Action::JournalResponse(me) => Self::journal_response(&mut next, me),
            Action::EscrowResponse(me) => Self::escrow_response(&mut next, me),
            Action::Replay(me) => Self::replay(&mut next, me),
            Action::Sweep(me) => Self::sweep(&mut next, me),
            Action::Restart(me) => {
                next.brokers[me].condition = Condition::Running;
                next.brokers[me].is_after_outage = true;
            }
            Action::Resume(me) => next.brokers[me].condition = Condition::Running,
            Action::Replicate => next.confirm(),
            Action::Tick => self.tick(&mut next),
            Action::Fault(fault) => fault.strike(&mut next),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self.kinds)
    }
}

impl Protocol {
    fn tick(&self, system: &mut System) {
        system.lease = None;
        system.store.tick();
        system.replica.tick();
        system.ghl.tick();
        for (me, broker) in system.brokers.iter_mut().enumerate() {
            broker.is_in_time = false;
            broker.is_after_outage = false;
            for call in &mut broker.late {
                call.age = OLD.min(call.age + 1);
                // The broker renews its entry every few seconds.
                let told = system.store.record_late_reader(call.attempt.link, me, true);
                system.store = told.unwrap_or_else(|| system.store.clone());
            }
            if broker.condition == Condition::Running {
                self.stop_waiting(broker);
            }
            if let Some((_, age)) = &mut broker.lost_call {
                *age = OLD.min(*age + 1);
            }
            if self.flaw != Some(Flaw::RetriesForever) {
                broker.lost_call.take_if(|(_, age)| *age >= self.grace);
            }
        }
    }
}
