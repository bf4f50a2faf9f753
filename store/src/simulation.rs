//! Simulated clocks and randomness of one thread. Other threads keep the real ones.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

thread_local! {
    static CLOCK: Cell<Option<Clock>> = const { Cell::new(None) };
    static RANDOM: RefCell<Option<Random>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy)]
struct Clock {
    /// When the simulated machine booted, on tokio's clock.
    boot: Instant,
    /// The wall clock then, since the Unix epoch.
    wall_at_boot: Duration,
}

/// The simulation on this thread. Ends when dropped.
#[derive(Debug)]
#[must_use = "the thread gets its real clocks back when this is dropped"]
pub struct Simulation(());

/// Installs tokio's clock on this thread, and random bytes that follow from `seed`. `wall`: the time since the Unix
/// epoch.
pub fn install(seed: u64, wall: Duration) -> Simulation {
    let boot = Instant::now();
    CLOCK.set(Some(Clock {
        boot,
        wall_at_boot: wall,
    }));
    RANDOM.set(Some(Random::new(seed)));
    Simulation(())
}

impl Drop for Simulation {
    fn drop(&mut self) {
        CLOCK.set(None);
        RANDOM.set(None);
    }
}

/// The simulated time since boot.
pub(crate) fn since_boot() -> Option<Duration> {
    CLOCK.get().map(|clock| clock.boot.elapsed())
}

/// The simulated wall clock, as the time since the Unix epoch.
pub(crate) fn wall() -> Option<Duration> {
    CLOCK
        .get()
        .map(|clock| clock.wall_at_boot + clock.boot.elapsed())
}

/// Fills `bytes` if this thread has a simulation. Returns whether it did.
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    RANDOM.with_borrow_mut(|random| match random {
        None => false,
        Some(random) => {
            for chunk in bytes.chunks_mut(8) {
                let word = random.next().to_le_bytes();
                chunk.copy_from_slice(&word[..chunk.len()]);
            }
            true
        }
    })
}

/// SplitMix64: evenly distributed, fast, and predictable by design.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator whose numbers follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, so an Option would only be unwrapped"
    )]
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Moment, Timestamp};
    use crate::random;

    #[tokio::test(start_paused = true)]
    async fn time_and_randomness_follow_from_the_seed() {
        let run = async || {
            let _simulation = install(7, Duration::from_secs(1));
            let before = Moment::now();
            tokio::time::sleep(Duration::from_secs(3600)).await;
            let (slept, wall) = (before.elapsed(), Timestamp::of_this_machine());
            (random::bytes::<24>(), slept, wall)
        };
        let first = run().await;
        assert_eq!(first.1, Duration::from_secs(3600));
        assert_eq!(first.2, Timestamp::from_millis(3_601_000));
        assert_eq!(first, run().await);
        assert_ne!(random::bytes::<24>(), first.0, "the real ones are back");
        assert!(Timestamp::of_this_machine() > first.2);
    }
}
