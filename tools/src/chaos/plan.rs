//! The plan of faults: a pure function of the seed.
//!
//! A sequence injects one fault at a time and ends it before the next. Sequences are independent of each other.
//! Faults are short enough that a lost response can be requested again within GHL's grace of 30 s, despite
//! concurrent faults. Otherwise a loss would not prove a bug.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

pub(crate) const STEPS: [&str; 9] = [
    "claimed",
    "leased",
    "begun",
    "intent-journaled",
    "sent",
    "answered",
    "answer-journaled",
    "committed",
    "released",
];

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BrokerFault {
    /// `kill -9`. Another process with the same disk is started later.
    Kill,
    /// Killed. Another process with an empty disk is started later.
    LoseHost,
    Stop,
    /// Kills itself at a step of a refresh.
    KillAt(&'static str),
    /// Stops itself at a step of a refresh.
    StopAt(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum GatewayFault {
    Kill,
    Stop,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StoreFault {
    KillMaster,
    StopMaster,
    /// Another server becomes the master while the old one is alive.
    FailOver,
    StopReplica,
    /// No replica confirms a write.
    StopBothReplicas,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LockFault {
    Kill,
    Hang,
    /// Killed, and restarted without its data.
    Forget,
}

/// The offset of the wall clock of a broker and a gateway.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClockJump(pub(crate) &'static str);

/// A fault rule of the sandbox, and the share of token calls that it affects, in percent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GhlFailure {
    pub(crate) kind: &'static str,
    pub(crate) percent: u32,
    pub(crate) seed: u64,
}

/// A fault of one of several servers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Targeted<F> {
    pub(crate) fault: F,
    /// The index of the server, modulo their number.
    pub(crate) which: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned<F> {
    /// Since the begin of the run.
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) fault: F,
}

pub(crate) type FaultSequence<F> = Vec<Planned<F>>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// Two sequences, so that two brokers may be down at once, but never all three.
    pub(crate) brokers: [FaultSequence<BrokerFault>; 2],
    pub(crate) gateways: FaultSequence<Targeted<GatewayFault>>,
    pub(crate) store: FaultSequence<Targeted<StoreFault>>,
    pub(crate) locks: FaultSequence<Targeted<LockFault>>,
    pub(crate) ghl: FaultSequence<GhlFailure>,
    pub(crate) clock: FaultSequence<ClockJump>,
}

impl Plan {
    pub(crate) fn of(seed: u64, length: Duration) -> Self {
        // One generator for each sequence. So a longer sequence does not change the others.
        let random = |sequence| StdRng::seed_from_u64(seed.wrapping_add(sequence));
        let brokers = |sequence_number| {
            sequence(random(sequence_number), length, 2..6, 1..9, |random| {
                let step = *STEPS.choose(random).expect("there are steps");
                match random.random_range(0..8) {
                    0 => BrokerFault::Kill,
                    1 => BrokerFault::LoseHost,
                    2 | 3 => BrokerFault::Stop,
                    4 | 5 => BrokerFault::KillAt(step),
                    _ => BrokerFault::StopAt(step),
                }
            })
        };
        Self {
            brokers: [brokers(0), brokers(1)],
            gateways: sequence(random(2), length, 5..15, 1..6, |random| {
                let fault = match random.random_range(0..2) {
                    0 => GatewayFault::Kill,
                    _ => GatewayFault::Stop,
                };
                of(fault, random)
            }),
            store: sequence(random(3), length, 6..14, 2..5, |random| {
                let fault = match random.random_range(0..5) {
                    0 => StoreFault::KillMaster,
                    1 => StoreFault::StopMaster,
                    2 => StoreFault::FailOver,
                    3 => StoreFault::StopReplica,
                    _ => StoreFault::StopBothReplicas,
                };
                of(fault, random)
            }),
            locks: sequence(random(4), length, 3..10, 1..8, |random| {
                let fault = match random.random_range(0..3) {
                    0 => LockFault::Kill,
                    1 => LockFault::Hang,
                    _ => LockFault::Forget,
                };
                of(fault, random)
            }),
            ghl: sequence(random(5), length, 3..9, 1..5, |random| {
                let seed = random.random();
                // Refused credentials pause all refreshes for half a minute, so this is rare.
                if random.random_ratio(1, 50) {
                    return GhlFailure {
                        kind: REFUSES_CLIENT,
                        percent: 100,
                        seed,
                    };
                }
                GhlFailure {
                    kind: GHL_FAILURES.choose(random).expect("there are failures"),
                    percent: random.random_range(20..=100),
                    seed,
                }
            }),
            clock: sequence(random(6), length, 5..20, 3..15, |random| {
                ClockJump(
                    ["+1h", "-1h", "+7m", "-7m"]
                        .choose(random)
                        .expect("there are jumps"),
                )
            }),
        }
    }
}

/// The names of rules in [`super::fault_injection`].
pub(crate) const GHL_FAILURES: [&str; 12] = [
    "500",
    "502",
    "503 with Retry-After",
    "429",
    "429 with Retry-After",
    "HTML",
    "truncated JSON",
    "only the tokens",
    "without refresh token",
    "hangs",
    "resets before",
    "loses the response",
];

pub(crate) const REFUSES_CLIENT: &str = "refuses the client credentials";

fn of<F>(fault: F, random: &mut StdRng) -> Targeted<F> {
    Targeted {
        fault,
        which: random.random_range(0..60),
    }
}

/// Faults one after the other until the end. Pauses and durations are in seconds.
fn sequence<F>(
    mut random: StdRng,
    length: Duration,
    pauses: std::ops::Range<u64>,
    lengths: std::ops::Range<u64>,
    fault: impl Fn(&mut StdRng) -> F,
) -> FaultSequence<F> {
    let mut planned = Vec::new();
    let mut at = Duration::ZERO;
    let millis = |range: &std::ops::Range<u64>, random: &mut StdRng| {
        Duration::from_millis(random.random_range(range.start * 1000..range.end * 1000))
    };
    loop {
        at += millis(&pauses, &mut random);
        let lasts = millis(&lengths, &mut random);
        if at + lasts > length {
            return planned;
        }
        let fault = fault(&mut random);
        planned.push(Planned { at, lasts, fault });
        at += lasts;
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brokers: usize = self.brokers.iter().map(Vec::len).sum();
        write!(
            f,
            "faults planned: {brokers} of brokers, {} of gateways, {} of the store, \
             {} of lock nodes, {} failures of GHL, {} clock jumps",
            self.gateways.len(),
            self.store.len(),
            self.locks.len(),
            self.ghl.len(),
            self.clock.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_determines_the_plan() {
        let length = Duration::from_secs(180);
        assert_eq!(Plan::of(7, length), Plan::of(7, length));
        assert_ne!(Plan::of(7, length), Plan::of(8, length));
    }

    #[test]
    fn faults_of_one_sequence_do_not_overlap_and_end_in_time() {
        let length = Duration::from_secs(600);
        for seed in 0..100 {
            let store = Plan::of(seed, length).store;
            assert!(store.len() > 30, "{}", store.len());
            let mut healed = Duration::ZERO;
            for planned in store {
                assert!(planned.at >= healed + Duration::from_secs(6));
                healed = planned.at + planned.lasts;
            }
            assert!(healed <= length);
        }
    }
}
