//! Limits the lines of failed requests (token bucket).

use std::time::Duration;

use service::rate_limit::Rate;
use tokio::time::Instant;

/// The lines of one kind of failure. A second's worth may come at once.
pub(super) const LINES_PER_SECOND: u32 = 100;

/// The lines that may still be written.
#[derive(Debug)]
pub(super) struct LineLimit {
    rate: Rate,
    unused_at: Instant,
}

impl LineLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rate: Rate::new(LINES_PER_SECOND, Duration::from_secs(1)),
            unused_at: now,
        }
    }

    /// Takes a line from the limit, if one is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        match self.rate.spend(self.unused_at, now) {
            Ok(unused_at) => {
                self.unused_at = unused_at;
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(limit: &mut LineLimit, now: Instant) -> u32 {
        (0..10 * LINES_PER_SECOND)
            .map(|_| u32::from(limit.take(now)))
            .sum()
    }

    #[test]
    fn lines_come_back_evenly() {
        let start = Instant::now();
        let mut limit = LineLimit::new(start);
        assert_eq!(taken(&mut limit, start), LINES_PER_SECOND);
        let half = start + Duration::from_millis(500);
        assert_eq!(taken(&mut limit, half), LINES_PER_SECOND / 2);
        let later = half + Duration::from_secs(60);
        assert_eq!(taken(&mut limit, later), LINES_PER_SECOND);
    }
}
