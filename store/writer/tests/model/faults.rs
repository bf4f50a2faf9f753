//! Faults that a run may have.

use store_writer::protocol::FailureClass;

use crate::ghl::Reply;
use crate::system::{Broker, BrokerId, Call, Condition, Step, System};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The broker is killed. Its disk survives.
    Crash(BrokerId),
    /// The broker is killed and its disk is lost.
    LoseHost(BrokerId),
    /// The broker is stopped, and continues later.
    Pause(BrokerId),
    /// The request does not reach GHL, and the broker knows it.
    NotSent(BrokerId),
    /// The request does not reach GHL, and the broker does not know it.
    LoseRequest(BrokerId),
    /// GHL spends the token, and the response is lost.
    LoseResponse(BrokerId),
    /// GHL's response takes longer than the broker waits.
    DelayResponse(BrokerId),
    /// GHL refuses a valid token.
    RefuseWrongly(BrokerId),
    /// The replica becomes the master, without the unconfirmed writes.
    FailOver,
    /// The lock nodes restart without their leases. The escrow is on the disks of a majority.
    LoseLease,
}

/// The kind of faults in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKinds {
    /// Machines fail, and responses are lost.
    Machines,
    /// GHL is slow or refuses wrongly.
    Ghl,
}

impl Fault {
    /// The faults that would change anything now.
    pub(crate) fn possible(system: &System, kinds: FaultKinds) -> Vec<Self> {
        match kinds {
            FaultKinds::Machines => Self::of_machines(system),
            FaultKinds::Ghl => Self::of_ghl(system),
        }
    }

    fn of_ghl(system: &System) -> Vec<Self> {
        let brokers = system.brokers.iter().enumerate();
        let calling = brokers.filter(|(_, broker)| is_calling(broker));
        calling
            .flat_map(|(me, _)| [Self::DelayResponse(me), Self::RefuseWrongly(me)])
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
                    Self::LoseResponse(me),
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
            Self::LoseResponse(me) => {
                spend_for_call(system, me);
                end_call(system, me, Call::Lost);
            }
            Self::DelayResponse(me) => {
                if let Some(reply) = spend_for_call(system, me) {
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
    broker.is_after_outage = false;
    broker.lost_call = None;
    broker.late.clear();
}

/// Whether the broker's next step is to send the request.
fn is_calling(broker: &Broker) -> bool {
    broker.condition == Condition::Running && matches!(broker.step, Step::Cleared(_))
}

fn spend_for_call(system: &mut System, me: BrokerId) -> Option<Reply> {
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

/// A failover. Pending confirmations fail.
fn fail_over(system: &mut System) {
    system.store.clone_from(&system.replica);
    for broker in &mut system.brokers {
        broker.is_after_outage = broker.condition != Condition::Down;
        broker.step = match broker.step {
            Step::Begun(attempt) => Step::Failed(attempt, FailureClass::Unspent),
            Step::Found(attempt, why, _) => Step::SearchingEscrow(attempt, why),
            Step::Committed(committing) => Step::Safe(committing),
            unchanged => unchanged,
        };
    }
}
