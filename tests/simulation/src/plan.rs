//! The plan of a run, which a seed determines: the fleet and the faults.

use std::time::Duration;

use store::simulation::Random;

use super::ghl::{GhlFailure, Shape};
use super::nodes::NODES;

/// Everything that is decided before a run begins.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) seed: u64,
    pub(super) brokers: usize,
    pub(super) customers: usize,
    /// The lifetime of an access token.
    pub(super) lifetime: Duration,
    /// How long GHL replays a response.
    pub(super) grace: Duration,
    pub(super) arrival: Arrival,
    pub(super) faults: Vec<Fault>,
}

/// When refreshes fall due.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arrival {
    Even,
    /// All of them within `width`.
    Burst {
        at: Duration,
        width: Duration,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) at: Duration,
    pub(super) lasts: Duration,
    pub(super) kind: FaultKind,
}

#[derive(Debug, Clone)]
pub(super) enum FaultKind {
    Ghl(GhlFailure),
    /// The broker is killed, and restarted when the fault ends.
    Crash {
        machine: usize,
        is_disk_lost: bool,
    },
    Pause {
        machine: usize,
    },
    StoreDown,
    /// The store goes down, and restarts without its last writes.
    StoreForgets {
        last: Duration,
    },
    /// These machines cannot reach the store.
    Partition {
        machines: Vec<usize>,
    },
    /// These machines write to a former master, whose writes are lost when the fault ends.
    Split {
        machines: Vec<usize>,
    },
    ClockStep {
        millis: i64,
    },
    NodeDown {
        node: usize,
    },
    /// The node goes down, and restarts empty.
    NodeForgets {
        node: usize,
    },
    /// This machine cannot reach this node.
    NodeCut {
        machine: usize,
        node: usize,
    },
}

/// The class of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// One failure of GHL.
    GhlAlone,
    /// One fault of another kind.
    Other,
    /// Two concurrent faults of any kind.
    Two,
}

impl Plan {
    /// The number of installations in a run.
    pub const CUSTOMERS: usize = 200;

    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let class = match seed % 4 {
            0 | 1 => Class::GhlAlone,
            2 => Class::Other,
            _ => Class::Two,
        };
        Self::of_class(seed, class)
    }

    /// The plan of a seed within one class.
    #[must_use]
    pub fn of_class(seed: u64, class: Class) -> Self {
        let mut random = PlanRandom::new(seed);
        let brokers = 2 + random.below(2);
        let first = match class {
            Class::GhlAlone => random.ghl(),
            Class::Other => random.other(brokers),
            Class::Two if random.below(2) == 0 => random.ghl(),
            Class::Two => random.other(brokers),
        };
        let mut faults = vec![first];
        if class == Class::Two {
            let mut second = random.other(brokers);
            let early = faults[0].at.saturating_sub(seconds(20));
            second.at = early + random.between(0, 60);
            faults.push(second);
        }
        let arrival = if random.below(2) == 0 {
            Arrival::Even
        } else {
            let at = faults[0].at.saturating_sub(random.between(0, 15));
            let width = random.between(10, 60);
            Arrival::Burst { at, width }
        };
        Self {
            seed,
            brokers,
            customers: Self::CUSTOMERS,
            lifetime: random.between(600, 1200),
            grace: if random.below(3) == 0 {
                Duration::ZERO
            } else {
                seconds(30)
            },
            arrival,
            faults,
        }
    }

    /// GHL spends tokens and answers 502 for a minute while all installations are due.
    #[must_use]
    pub fn lossy_outage(seed: u64, customers: usize) -> Self {
        let fails = GhlFailure::Fails {
            status: 502,
            is_spent: true,
        };
        Self {
            customers,
            brokers: 2,
            grace: seconds(30),
            arrival: Arrival::Burst {
                at: seconds(55),
                width: seconds(40),
            },
            faults: vec![Fault {
                at: seconds(60),
                lasts: seconds(60),
                kind: FaultKind::Ghl(fails),
            }],
            ..Self::of(seed)
        }
    }

    /// Whether a fault sets the store's clock, so that tokens may expire earlier or later than the store
    /// says.
    pub(super) fn sets_a_clock(&self) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|fault| matches!(fault.kind, FaultKind::ClockStep { .. }))
    }
}

struct PlanRandom(Random);

impl PlanRandom {
    fn new(seed: u64) -> Self {
        // Another sequence than the one of the run.
        Self(Random::new(!seed))
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from(self.0.next() % limit).unwrap_or_default()
    }

    /// A duration in whole seconds, including `to`.
    fn between(&mut self, from: u64, to: u64) -> Duration {
        seconds(from + self.0.next() % (to - from + 1))
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn ghl(&mut self) -> Fault {
        let is_spent = self.below(3) > 0;
        let (failure, lasts) = match self.below(9) {
            0 => (GhlFailure::Slow(self.between(2, 9)), self.between(20, 90)),
            1 | 2 => (GhlFailure::Slow(self.between(11, 40)), self.between(20, 90)),
            3 | 4 => {
                let status = self.one_of(&[500, 502, 503, 504, 520]);
                (GhlFailure::Fails { status, is_spent }, self.between(5, 90))
            }
            5 => (GhlFailure::Resets { is_spent }, self.between(5, 90)),
            6 if self.below(3) == 0 => (GhlFailure::RefusesAll, self.between(20, 90)),
            6 => {
                let times = self.one_of(&[1, 1, 2]);
                (GhlFailure::Refuses(times), self.between(5, 50))
            }
            7 => (
                GhlFailure::Undocumented(self.one_of(&Shape::ALL)),
                self.between(20, 90),
            ),
            _ => {
                let retry_after = self.one_of(&[None, Some(1), Some(20)]);
                let failure = [
                    GhlFailure::Overloaded { retry_after },
                    GhlFailure::Unreachable,
                    GhlFailure::Hangs,
                ];
                (self.one_of(&failure), self.between(5, 90))
            }
        };
        Fault {
            at: self.between(20, 60),
            lasts,
            kind: FaultKind::Ghl(failure),
        }
    }

    fn other(&mut self, brokers: usize) -> Fault {
        let machine = self.below(brokers);
        let machines: Vec<usize> = match self.below(3) {
            0 => (0..brokers).collect(),
            _ => vec![machine],
        };
        let (kind, lasts) = match self.below(11) {
            0 => (
                FaultKind::Crash {
                    machine,
                    is_disk_lost: false,
                },
                self.between(1, 60),
            ),
            1 => (
                FaultKind::Crash {
                    machine,
                    is_disk_lost: true,
                },
                self.between(1, 60),
            ),
            2 => (FaultKind::Pause { machine }, self.between(2, 90)),
            3 => (FaultKind::StoreDown, self.between(1, 90)),
            4 => {
                let last = Duration::from_millis(200) * u32::try_from(self.below(20)).unwrap_or(0);
                (FaultKind::StoreForgets { last }, self.between(1, 10))
            }
            5 => (FaultKind::Partition { machines }, self.between(3, 90)),
            6 | 7 => {
                let machines = vec![machine];
                (FaultKind::Split { machines }, self.between(5, 60))
            }
            8 => {
                let millis = self.one_of(&[-600_000, -30_000, -2_000, 2_000, 30_000]);
                (FaultKind::ClockStep { millis }, Duration::ZERO)
            }
            9 => {
                let node = self.below(NODES);
                let lasts = self.between(1, 60);
                match self.below(2) {
                    0 => (FaultKind::NodeDown { node }, lasts),
                    _ => (FaultKind::NodeForgets { node }, lasts),
                }
            }
            _ => {
                let node = self.below(NODES);
                (FaultKind::NodeCut { machine, node }, self.between(1, 60))
            }
        };
        Fault {
            at: self.between(20, 60),
            lasts,
            kind,
        }
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
