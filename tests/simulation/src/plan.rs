//! What a seed decides beforehand: the fleet, and the faults.

use std::time::Duration;

use store::simulation::Random;

use super::ghl::{Mood, Shape};
use super::nodes::NODES;

/// Everything that is decided before a run begins.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) seed: u64,
    pub(super) brokers: usize,
    pub(super) customers: usize,
    /// Of an access token.
    pub(super) lifetime: Duration,
    /// For how long GHL repeats an answer.
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
    pub(super) what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Ghl(Mood),
    /// Killed, and started again when the fault ends.
    Crash {
        machine: usize,
        is_disk_lost: bool,
    },
    Pause {
        machine: usize,
    },
    StoreDown,
    /// Down, and back without what was written last.
    StoreForgets {
        last: Duration,
    },
    /// These do not reach the store.
    Partition {
        machines: Vec<usize>,
    },
    /// These write to a former master, which loses it all when the fault ends.
    Split {
        machines: Vec<usize>,
    },
    ClockStep {
        millis: i64,
    },
    NodeDown {
        node: usize,
    },
    /// Down, and back without its memory.
    NodeForgets {
        node: usize,
    },
    /// This one does not reach this node.
    NodeCut {
        machine: usize,
        node: usize,
    },
}

/// Which runs a plan is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// One fault of GHL and nothing else.
    GhlAlone,
    /// One fault of something else.
    Other,
    /// Two faults of any kind, one beside the other.
    Two,
}

impl Plan {
    /// How many installations a run has.
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

    /// The plan of a seed among those of one class.
    #[must_use]
    pub fn of_class(seed: u64, class: Class) -> Self {
        let mut dice = Dice::new(seed);
        let brokers = 2 + dice.below(2);
        let first = match class {
            Class::GhlAlone => dice.ghl(),
            Class::Other => dice.other(brokers),
            Class::Two if dice.below(2) == 0 => dice.ghl(),
            Class::Two => dice.other(brokers),
        };
        let mut faults = vec![first];
        if class == Class::Two {
            let mut second = dice.other(brokers);
            let early = faults[0].at.saturating_sub(seconds(20));
            second.at = early + dice.between(0, 60);
            faults.push(second);
        }
        let arrival = if dice.below(2) == 0 {
            Arrival::Even
        } else {
            let at = faults[0].at.saturating_sub(dice.between(0, 15));
            let width = dice.between(10, 60);
            Arrival::Burst { at, width }
        };
        Self {
            seed,
            brokers,
            customers: Self::CUSTOMERS,
            lifetime: dice.between(600, 1200),
            grace: if dice.below(3) == 0 {
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
        let fails = Mood::Fails {
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
                what: What::Ghl(fails),
            }],
            ..Self::of(seed)
        }
    }

    /// Whether tokens may end at another time than the store says.
    pub(super) fn sets_a_clock(&self) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|fault| matches!(fault.what, What::ClockStep { .. }))
    }
}

struct Dice(Random);

impl Dice {
    fn new(seed: u64) -> Self {
        // Not the numbers that the run itself goes by.
        Self(Random::new(!seed))
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from(self.0.next() % limit).unwrap_or_default()
    }

    /// In seconds, `to` included.
    fn between(&mut self, from: u64, to: u64) -> Duration {
        seconds(from + self.0.next() % (to - from + 1))
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn ghl(&mut self) -> Fault {
        let is_spent = self.below(3) > 0;
        let (mood, lasts) = match self.below(9) {
            0 => (Mood::Slow(self.between(2, 9)), self.between(20, 90)),
            1 | 2 => (Mood::Slow(self.between(11, 40)), self.between(20, 90)),
            3 | 4 => {
                let status = self.one_of(&[500, 502, 503, 504, 520]);
                (Mood::Fails { status, is_spent }, self.between(5, 90))
            }
            5 => (Mood::Resets { is_spent }, self.between(5, 90)),
            6 if self.below(3) == 0 => (Mood::RefusesAll, self.between(20, 90)),
            6 => {
                let times = self.one_of(&[1, 1, 2]);
                (Mood::Refuses(times), self.between(5, 50))
            }
            7 => (Mood::Odd(self.one_of(&Shape::ALL)), self.between(20, 90)),
            _ => {
                let retry_after = self.one_of(&[None, Some(1), Some(20)]);
                let mood = [
                    Mood::Overloaded { retry_after },
                    Mood::Unreachable,
                    Mood::Hangs,
                ];
                (self.one_of(&mood), self.between(5, 90))
            }
        };
        Fault {
            at: self.between(20, 60),
            lasts,
            what: What::Ghl(mood),
        }
    }

    fn other(&mut self, brokers: usize) -> Fault {
        let machine = self.below(brokers);
        let machines: Vec<usize> = match self.below(3) {
            0 => (0..brokers).collect(),
            _ => vec![machine],
        };
        let (what, lasts) = match self.below(11) {
            0 => (
                What::Crash {
                    machine,
                    is_disk_lost: false,
                },
                self.between(1, 60),
            ),
            1 => (
                What::Crash {
                    machine,
                    is_disk_lost: true,
                },
                self.between(1, 60),
            ),
            2 => (What::Pause { machine }, self.between(2, 90)),
            3 => (What::StoreDown, self.between(1, 90)),
            4 => {
                let last = Duration::from_millis(200) * u32::try_from(self.below(20)).unwrap_or(0);
                (What::StoreForgets { last }, self.between(1, 10))
            }
            5 => (What::Partition { machines }, self.between(3, 90)),
            6 | 7 => {
                let machines = vec![machine];
                (What::Split { machines }, self.between(5, 60))
            }
            8 => {
                let millis = self.one_of(&[-600_000, -30_000, -2_000, 2_000, 30_000]);
                (What::ClockStep { millis }, Duration::ZERO)
            }
            9 => {
                let node = self.below(NODES);
                let lasts = self.between(1, 60);
                match self.below(2) {
                    0 => (What::NodeDown { node }, lasts),
                    _ => (What::NodeForgets { node }, lasts),
                }
            }
            _ => {
                let node = self.below(NODES);
                (What::NodeCut { machine, node }, self.between(1, 60))
            }
        };
        Fault {
            at: self.between(20, 60),
            lasts,
            what,
        }
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
