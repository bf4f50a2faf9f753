//! What goes wrong.

use store_writer::protocol::Refusal;

use crate::ghl::Reply;
use crate::system::{Broker, BrokerId, Call, Condition, Step, System};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Killed; its disk survives.
    Crash(BrokerId),
    /// Killed, and its disk is gone.
    LoseHost(BrokerId),
    /// Stopped, and continued later.
    Pause(BrokerId),
    /// GHL is not reached, and the broker knows.
    NotSent(BrokerId),
    /// GHL is not reached, and the broker does not know.
    LoseRequest(BrokerId),
    /// GHL spent the token, and nobody hears of it.
    LoseAnswer(BrokerId),
    /// GHL answers, and takes longer than the broker waits.
    DelayAnswer(BrokerId),
    /// GHL refuses a token that is good.
    RefuseWrongly(BrokerId),
    /// The replica takes over, without what was not confirmed.
    FailOver,
    /// The lock nodes restart without their leases. The escrow is on a majority's disks.
    LoseLease,
}

/// Which faults a run may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// Machines die, and answers vanish.
    Machines,
    /// GHL is slow, and wrong.
    Ghl,
}

impl Fault {
    /// Those that would change anything now.
    pub(crate) fn possible(system: &System, kinds: Kinds) -> Vec<Self> {
        match kinds {
            Kinds::Machines => Self::of_machines(system),
            Kinds::Ghl => Self::of_ghl(system),
        }
    }

    fn of_ghl(system: &System) -> Vec<Self> {
        let brokers = system.brokers.iter().enumerate();
        let calling = brokers.filter(|(_, broker)| is_calling(broker));
        calling
            .flat_map(|(me, _)| [Self::DelayAnswer(me), Self::RefuseWrongly(me)])
            .collect()
    }

    fn of_machines(system: &System) -> Vec<Self> {
        let mut possible = Vec::new();
        for (me, broker) in system.brokers.iter().enumerate() {
            match broker.condition {
                Condition::Running => possible.extend([Self::Crash(me), Self::Pause(me)]),
                Condition::Paused => possible.push(Self::Crash(me)),
                Condition::Down => {}
            }
            if !broker.journal.is_empty() {
                possible.push(Self::LoseHost(me));
            }
            if is_calling(broker) {
                let calls = [
                    Self::NotSent(me),
                    Self::LoseRequest(me),
                    Self::LoseAnswer(me),
                ];
                possible.extend(calls);
            }
        }
        if system.store != system.replica {
            possible.push(Self::FailOver);
        }
        if system.lease.is_some() {
            possible.push(Self::LoseLease);
        }
        possible
    }

    pub(crate) fn strike(self, system: &mut System) {
        system.faults += 1;
        match self {
            Self::Crash(me) => crash(system, me),
            Self::LoseHost(me) => {
                crash(system, me);
                system.brokers[me].journal.clear();
            }
            Self::Pause(me) => system.brokers[me].condition = Condition::Paused,
            Self::NotSent(me) => end_call(system, me, Call::NotSent),
            Self::LoseRequest(me) => end_call(system, me, Call::Lost),
            Self::LoseAnswer(me) => {
                answer_call(system, me);
                end_call(system, me, Call::Lost);
            }
            Self::DelayAnswer(me) => {
                if let Some(reply) = answer_call(system, me) {
                    end_call(system, me, Call::Late(reply));
                }
            }
            Self::RefuseWrongly(me) => end_call(system, me, Call::Answered(Reply::Refused)),
            Self::FailOver => fail_over(system),
            Self::LoseLease => system.lease = None,
        }
    }
}

fn crash(system: &mut System, me: BrokerId) {
    let broker = &mut system.brokers[me];
    broker.condition = Condition::Down;
    broker.step = Step::Idle;
    broker.is_in_time = false;
    broker.is_settling = false;
    broker.doubt = None;
    broker.late.clear();
}

/// Whether its request goes out next.
fn is_calling(broker: &Broker) -> bool {
    broker.condition == Condition::Running && matches!(broker.step, Step::Cleared(_))
}

fn answer_call(system: &mut System, me: BrokerId) -> Option<Reply> {
    let Step::Cleared(attempt) = system.brokers[me].step else {
        return None;
    };
    Some(system.ghl.spend(attempt.link.token))
}

fn end_call(system: &mut System, me: BrokerId, call: Call) {
    if let Step::Cleared(attempt) = system.brokers[me].step {
        system.brokers[me].step = Step::Called(attempt, call);
    }
}

/// Whoever waits for a confirmation does not get it.
fn fail_over(system: &mut System) {
    system.store.clone_from(&system.replica);
    for broker in &mut system.brokers {
        broker.is_settling = broker.condition != Condition::Down;
        broker.step = match broker.step {
            Step::Begun(attempt) => Step::Failed(attempt, Refusal::Unspent),
            Step::Found(attempt, why, _) => Step::Looking(attempt, why),
            Step::Committed(committing) => Step::Safe(committing),
            settled => settled,
        };
    }
}
