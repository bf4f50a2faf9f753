//! How many retries there may be: as many as do no harm to a GHL that is in trouble.

use std::sync::atomic::{AtomicU32, Ordering};

/// One retry for ten requests, and a hundred at once. Counted in tenths of a retry.
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
        // It is almost always full. Then nothing is written that other cores would have to fetch.
        if self.0.load(Ordering::Relaxed) < Self::FULL {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a retry, if there is one.
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
    fn a_long_outage_is_not_made_worse_by_more_than_a_tenth() {
        let budget = RetryBudget::full();
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.earn();
            retries += u32::from(budget.spend());
        }
        assert!((1000..=1101).contains(&retries), "{retries}");
    }
}
