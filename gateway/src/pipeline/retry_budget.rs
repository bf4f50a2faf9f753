//! Limits retries, so that they do not make an outage of GHL worse.

use std::sync::atomic::{AtomicU32, Ordering};

/// One retry for every ten requests, and up to a hundred at once. Counted in tenths of a retry.
#[derive(Debug)]
pub(crate) struct RetryBudget(AtomicU32);

impl RetryBudget {
    const FULL: u32 = 1000;
    const ONE: u32 = 10;

    pub(crate) fn full() -> Self {
        Self(AtomicU32::new(Self::FULL))
    }

    /// A request was sent.
    pub(super) fn earn(&self) {
        // The budget is almost always full. Without a write, other cores keep their cached copy.
        if self.0.load(Ordering::Relaxed) < Self::FULL {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a retry from the budget, if one is left.
    pub(super) fn spend(&self) -> bool {
        let spent = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(Self::ONE)
            });
        spent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_capped_at_a_tenth_in_a_long_outage() {
        let budget = RetryBudget::full();
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.earn();
            retries += u32::from(budget.spend());
        }
        assert!((1000..=1101).contains(&retries), "{retries}");
    }
}
