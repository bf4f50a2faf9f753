//! Whether deliveries to an endpoint are attempted at all.
//!
//! The gate of an endpoint closes after five failures in a row. So an endpoint that is down costs neither connections
//! nor attempts of its messages. Then one probe at a time is let through, after growing pauses. An answer that shows
//! that the endpoint works opens the gate, also if it refuses the message.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that close a gate.
const FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// When a probe without a result counts as lost. A delivery takes at most 15 s.
const PROBE_LIMIT: Duration = Duration::from_secs(60);

/// The gate of one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointGate {
    state: State,
    /// How many probes were let through. It distinguishes the current one from an earlier one that was lost.
    probes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open {
        /// In a row.
        failures: u32,
    },
    Closed {
        reopens_at: Instant,
        /// Before the next probe, if the one after `reopens_at` fails.
        next_pause: Duration,
    },
    Probing {
        lost_at: Instant,
        next_pause: Duration,
    },
}

/// The right to attempt one delivery. It is given back with the result, or unused.
#[must_use = "give it back with the result of the delivery"]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permit {
    /// The number of the probe. `None` while the gate was open.
    probe: Option<u64>,
}

impl Permit {
    /// Whether the gate was closed.
    pub(crate) fn is_probe(self) -> bool {
        self.probe.is_some()
    }
}

impl EndpointGate {
    /// An open gate.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Open { failures: 0 },
            probes: 0,
        }
    }

    /// The permit for a delivery. `None` while the gate is closed, and while a probe is under way.
    pub(crate) fn may_send(&mut self, now: Instant) -> Option<Permit> {
        let next_pause = match self.state {
            State::Open { .. } => return Some(Permit { probe: None }),
            State::Closed {
                reopens_at,
                next_pause,
            } => (now >= reopens_at).then_some(next_pause)?,
            State::Probing {
                lost_at,
                next_pause,
            } => (now >= lost_at).then_some(next_pause)?,
        };
        self.probes += 1;
        self.state = State::Probing {
            lost_at: now + PROBE_LIMIT,
            next_pause,
        };
        Some(Permit {
            probe: Some(self.probes),
        })
    }

    /// The endpoint took the message, or refused this message alone. Any such answer opens the gate. Whether it was
    /// closed.
    pub(crate) fn answered(&mut self, Permit { probe: _ }: Permit) -> bool {
        let before = std::mem::replace(&mut self.state, State::Open { failures: 0 });
        !matches!(before, State::Open { .. })
    }

    /// Nothing was sent. The next probe may begin at once.
    pub(crate) fn unused(&mut self, Permit { probe }: Permit, now: Instant) {
        if let State::Probing { next_pause, .. } = self.state
            && probe == Some(self.probes)
        {
            self.state = State::Closed {
                reopens_at: now,
                next_pause,
            };
        }
    }

    /// The endpoint failed.
    pub(crate) fn failed(&mut self, Permit { probe }: Permit, now: Instant) {
        let is_current = probe == Some(self.probes);
        self.state = match self.state {
            State::Open { failures } if failures + 1 < FAILURES => State::Open {
                failures: failures + 1,
            },
            State::Open { .. } => State::Closed {
                reopens_at: now + FIRST_PAUSE,
                next_pause: longer(FIRST_PAUSE),
            },
            State::Probing { next_pause, .. } if is_current => State::Closed {
                reopens_at: now + next_pause,
                next_pause: longer(next_pause),
            },
            // It began before the gate was closed, or was given up as lost.
            unchanged @ (State::Closed { .. } | State::Probing { .. }) => unchanged,
        };
    }

    /// When the next delivery may be attempted at the earliest. `None` if the gate is open.
    pub(crate) fn reopens_at(&self) -> Option<Instant> {
        match self.state {
            State::Open { .. } => None,
            State::Closed { reopens_at, .. } => Some(reopens_at),
            State::Probing { lost_at, .. } => Some(lost_at),
        }
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permit(gate: &mut EndpointGate, now: Instant) -> Permit {
        gate.may_send(now).expect("a permit")
    }

    fn fail(gate: &mut EndpointGate, now: Instant) {
        let permit = permit(gate, now);
        gate.failed(permit, now);
    }

    /// Closed just now.
    fn closed(now: Instant) -> EndpointGate {
        let mut gate = EndpointGate::new();
        (0..FAILURES).for_each(|_| fail(&mut gate, now));
        gate
    }

    #[test]
    fn gate_closes_after_five_failures_in_a_row() {
        let now = Instant::now();
        let mut gate = EndpointGate::new();
        for _ in 0..4 {
            fail(&mut gate, now);
        }
        let success = permit(&mut gate, now);
        gate.answered(success);
        for _ in 0..4 {
            fail(&mut gate, now);
        }
        assert_eq!(gate.reopens_at(), None);
        fail(&mut gate, now);
        assert_eq!(gate.reopens_at(), Some(now + FIRST_PAUSE));
        assert!(gate.may_send(now).is_none());
    }

    #[test]
    fn one_probe_at_a_time_after_growing_pauses() {
        let mut now = Instant::now();
        let mut gate = closed(now);
        for seconds in [5, 10, 20, 40, 80, 120, 120] {
            let reopens_at = now + Duration::from_secs(seconds);
            assert_eq!(gate.reopens_at(), Some(reopens_at));
            assert!(
                gate.may_send(reopens_at - Duration::from_millis(1))
                    .is_none()
            );
            now = reopens_at;
            let probe = permit(&mut gate, now);
            assert!(gate.may_send(now).is_none(), "a second probe");
            gate.failed(probe, now);
        }
    }

    #[test]
    fn success_of_a_probe_opens_the_gate() {
        let now = Instant::now();
        let mut gate = closed(now);
        let probe = permit(&mut gate, now + FIRST_PAUSE);
        gate.answered(probe);
        assert_eq!(gate.reopens_at(), None);
        // All five failures are needed again, and the pause is the first one again.
        (0..4).for_each(|_| fail(&mut gate, now));
        assert_eq!(gate.reopens_at(), None);
        fail(&mut gate, now);
        assert_eq!(gate.reopens_at(), Some(now + FIRST_PAUSE));
    }

    #[test]
    fn failure_of_a_delivery_from_before_makes_no_pause_longer() {
        let now = Instant::now();
        let mut gate = EndpointGate::new();
        let earlier = [(); 8].map(|()| permit(&mut gate, now));
        let [a, b, c, d, e, f, g, h] = earlier;
        for it in [a, b, c, d, e, f] {
            gate.failed(it, now);
        }
        assert_eq!(gate.reopens_at(), Some(now + FIRST_PAUSE));
        let later = now + FIRST_PAUSE;
        let probe = permit(&mut gate, later);
        gate.failed(g, later);
        assert!(gate.may_send(later).is_none(), "the probe is under way");
        gate.failed(probe, later);
        assert_eq!(gate.reopens_at(), Some(later + 2 * FIRST_PAUSE));
        gate.answered(h);
        assert_eq!(gate.reopens_at(), None);
    }

    #[test]
    fn unused_probe_is_followed_by_another_at_once() {
        let now = Instant::now() + FIRST_PAUSE;
        let mut gate = closed(now - FIRST_PAUSE);
        let unused = permit(&mut gate, now);
        gate.unused(unused, now);
        let probe = permit(&mut gate, now);
        gate.unused(unused, now);
        assert!(gate.may_send(now).is_none(), "it was given back already");
        gate.failed(probe, now);
        assert_eq!(gate.reopens_at(), Some(now + 2 * FIRST_PAUSE));
        assert!(gate.answered(probe), "it was closed");
        assert!(!gate.answered(probe));
    }

    #[test]
    fn lost_probe_is_followed_by_another() {
        let now = Instant::now() + FIRST_PAUSE;
        let mut gate = closed(now - FIRST_PAUSE);
        let lost = permit(&mut gate, now);
        let later = now + PROBE_LIMIT;
        assert_eq!(gate.reopens_at(), Some(later));
        let second = permit(&mut gate, later);
        gate.failed(lost, later);
        assert!(gate.may_send(later).is_none(), "the second is under way");
        gate.failed(second, later);
        assert_eq!(gate.reopens_at(), Some(later + 2 * FIRST_PAUSE));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Send,
        Succeed,
        Fail,
        Lose,
        GiveBack,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Send),
            1 => Just(Step::Succeed),
            6 => Just(Step::Fail),
            1 => Just(Step::Lose),
            1 => Just(Step::GiveBack),
            4 => (0_u64..70).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn gate_always_reopens_and_lets_one_probe_at_a_time_through(steps in prop::collection::vec(step(), 0..200)) {
            let mut now = Instant::now();
            let mut gate = EndpointGate::new();
            let mut in_flight: Vec<Permit> = Vec::new();
            for step in steps {
                match step {
                    Step::Send => {
                        in_flight.extend(gate.may_send(now));
                        let is_open = gate.reopens_at().is_none();
                        prop_assert!(is_open || gate.may_send(now).is_none(), "a second probe");
                    }
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                    Step::Succeed | Step::Fail | Step::Lose | Step::GiveBack => {
                        let Some(permit) = in_flight.pop() else { continue };
                        match step {
                            Step::Succeed => {
                                gate.answered(permit);
                                prop_assert!(gate.reopens_at().is_none());
                            }
                            Step::Fail => gate.failed(permit, now),
                            Step::GiveBack => gate.unused(permit, now),
                            Step::Lose | Step::Send | Step::Wait(_) => {}
                        }
                    }
                }
                if let Some(reopens_at) = gate.reopens_at() {
                    prop_assert!(reopens_at <= now + LONGEST_PAUSE);
                }
            }
            let end = now + LONGEST_PAUSE;
            prop_assert!(gate.may_send(end).is_some());
        }
    }
}
