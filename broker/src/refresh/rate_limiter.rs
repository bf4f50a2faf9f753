//! The rate of refreshes of a process, for all apps together.

use std::time::Duration;

use tokio::time::Instant;

/// Admits at most `rate` starts per second, evenly spaced.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    gap: Duration,
    next: Instant,
}

impl RateLimiter {
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            gap: gap(rate),
            next: Instant::now(),
        }
    }

    /// Changes the rate, at least 1.
    pub(crate) fn set(&mut self, rate: u32) {
        self.gap = gap(rate);
    }

    pub(crate) async fn wait(&mut self) {
        let now = Instant::now();
        // Allow a burst of 100 ms after a delay, so that a busy moment does not lower the rate.
        self.next = self
            .next
            .max(now.checked_sub(Duration::from_millis(100)).unwrap_or(now));
        tokio::time::sleep_until(self.next).await;
        self.next += self.gap;
    }
}

fn gap(rate: u32) -> Duration {
    Duration::from_secs(1) / rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn starts_follow_the_configured_rate() {
        let mut rate_limiter = RateLimiter::new(100);
        let started = Instant::now();
        for _ in 0..500 {
            rate_limiter.wait().await;
        }
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_millis(4850), "{elapsed:?}");
        assert!(elapsed <= Duration::from_millis(5100), "{elapsed:?}");
    }
}
