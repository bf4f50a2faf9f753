//! The refresh protocol as a state machine: who can do what next.

use stateright::{Model, Property};

use crate::faults::{Fault, Kinds};
use crate::properties;
use crate::record::OLD;
use crate::system::{BrokerId, Call, Condition, Step, System};

/// The protocol under check.
#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    /// How many refreshes a run has.
    pub(crate) refreshes: u8,
    /// How many faults may happen in a run, and which.
    pub(crate) faults: u8,
    pub(crate) kinds: Kinds,
    /// Refusals that every token has behind it. Trying a suspect again multiplies the states.
    pub(crate) refusals_before: u8,
    /// GHL's grace, in ticks.
    pub(crate) grace: u8,
    pub(crate) flaw: Option<Flaw>,
}

/// What would be wrong with a worse protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The call goes out with no intent in the store.
    NoIntent,
    /// Whoever holds the lease may commit, and nobody else.
    LeaseFence,
    /// The answer goes to the store alone.
    NothingWritten,
    /// An answer is forgotten as soon as it is committed, confirmed or not.
    Unconfirmed,
    /// What was lost is asked for again however long ago that was.
    EndlessDoubt,
    /// The broker hangs up when it stops to wait.
    HangsUp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Take(BrokerId),
    AskAgain(BrokerId),
    ShareDoubt(BrokerId),
    ReadLate(BrokerId),
    Advance(BrokerId),
    NoteAnswer(BrokerId),
    EscrowAnswer(BrokerId),
    Replay(BrokerId),
    Sweep(BrokerId),
    Restart(BrokerId),
    Resume(BrokerId),
    /// The replica catches up, with nobody waiting for it.
    Replicate,
    /// Leases and intents run out, and everything else is older. Brokers are fast: it happens when
    /// none that runs has anything to do.
    Tick,
    Fault(Fault),
}

impl Model for Protocol {
    type State = System;
    type Action = Action;

    fn init_states(&self) -> Vec<System> {
        vec![System::enrolled(self.grace, self.refusals_before)]
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
                        actions.push(Action::ReadLate(me));
                    }
                    if let Some((lost, _)) = broker.doubt {
                        if !broker.leaves_open(lost.link, self.grace) {
                            actions.push(Action::AskAgain(me));
                        }
                    } else if self.shared_doubt(system).is_some() {
                        actions.push(Action::ShareDoubt(me));
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
                        actions.push(Action::NoteAnswer(me));
                    }
                    if !is_escrowed {
                        actions.push(Action::EscrowAnswer(me));
                    }
                }
                // Until time passes.
                (Condition::Running, Step::Called(_, Call::Late(_))) => {}
                (Condition::Running, _) => actions.push(Action::Advance(me)),
            }
        }
        if !(0..system.brokers.len()).any(|me| self.is_pressed(system, me)) {
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
            Action::AskAgain(me) => Self::ask_again(&mut next, me),
            Action::ShareDoubt(me) => next.brokers[me].doubt = self.shared_doubt(system),
            Action::ReadLate(me) => self.read_late(&mut next, me),
            Action::Advance(me) => self.advance(&mut next, me),
            Action::NoteAnswer(me) => Self::note_answer(&mut next, me),
            Action::EscrowAnswer(me) => Self::escrow_answer(&mut next, me),
            Action::Replay(me) => Self::replay(&mut next, me),
            Action::Sweep(me) => Self::sweep(&mut next, me),
            Action::Restart(me) => {
                next.brokers[me].condition = Condition::Running;
                next.brokers[me].is_settling = true;
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
            broker.is_settling = false;
            for call in &mut broker.late {
                call.age = OLD.min(call.age + 1);
                // It says every few seconds that it still reads.
                let told = system.store.read_late(call.attempt.link, me, true);
                system.store = told.unwrap_or_else(|| system.store.clone());
            }
            if broker.condition == Condition::Running {
                self.stop_waiting(broker);
            }
            if let Some((_, age)) = &mut broker.doubt {
                *age = OLD.min(*age + 1);
            }
            if self.flaw != Some(Flaw::EndlessDoubt) {
                broker.doubt.take_if(|(_, age)| *age >= self.grace);
            }
        }
    }
}
