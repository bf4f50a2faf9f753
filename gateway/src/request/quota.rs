//! A key's quota. Each gateway counts it separately, since gateways cannot write to the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use service::locks::lock;
use service::rate_limit::Rate;
use store::{KeyHash, Quota};
use tokio::time::Instant;

use crate::admission::limited::Limited;

/// The spent part of one key's quota.
#[derive(Debug)]
pub(crate) struct QuotaBucket {
    quota: Quota,
    full_at: Arc<Mutex<Instant>>,
}

/// The spent quota of all keys. It outlives the cached records that the quotas are read from.
#[derive(Debug, Default)]
pub(crate) struct QuotaBuckets(Mutex<HashMap<KeyHash, Arc<Mutex<Instant>>>>);

impl QuotaBucket {
    /// Counts a call, if there is one left.
    pub(crate) fn count(&self) -> Result<(), Limited> {
        let mut full_at = lock(&self.full_at);
        let spent = rate(self.quota).spend(*full_at, Instant::now());
        *full_at = spent.map_err(|retry_after| Limited::Quota {
            quota: self.quota,
            retry_after,
        })?;
        Ok(())
    }
}

impl QuotaBuckets {
    /// The key's bucket. It keeps its state until the quota is full again.
    pub(crate) fn of(&self, key: &KeyHash, quota: Quota) -> QuotaBucket {
        let mut buckets = lock(&self.0);
        if buckets.len() == buckets.capacity() && !buckets.contains_key(key) {
            let now = Instant::now();
            buckets.retain(|_, it| Arc::strong_count(it) > 1 || *lock(it) > now);
        }
        let full_at = buckets.entry(*key).or_insert_with(full);
        QuotaBucket {
            quota,
            full_at: Arc::clone(full_at),
        }
    }
}

fn rate(quota: Quota) -> Rate {
    Rate::new(quota.calls(), quota.interval())
}

fn full() -> Arc<Mutex<Instant>> {
    Arc::new(Mutex::new(Instant::now()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn quota(text: &str) -> Quota {
        text.parse().unwrap()
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn full_quota_allows_a_burst_and_refills_evenly() {
        let (quota, start) = (quota("3/10s"), Instant::now());
        let mut full_at = start;
        for _ in 0..3 {
            full_at = rate(quota).spend(full_at, start).unwrap();
        }
        let third = Duration::from_secs(10) / 3;
        assert_eq!(rate(quota).spend(full_at, start), Err(third));
        let then = start + ms(3000);
        assert_eq!(rate(quota).spend(full_at, then), Err(third - ms(3000)));
        let then = start + third;
        full_at = rate(quota).spend(full_at, then).unwrap();
        assert_eq!(rate(quota).spend(full_at, then), Err(third));
    }

    #[test]
    fn unused_quota_does_not_accumulate() {
        let (quota, start) = (quota("2/1s"), Instant::now());
        let mut full_at = rate(quota).spend(start, start).unwrap();
        let much_later = start + ms(3_600_000);
        for _ in 0..2 {
            full_at = rate(quota).spend(full_at, much_later).unwrap();
        }
        assert_eq!(rate(quota).spend(full_at, much_later), Err(ms(500)));
    }

    #[test]
    fn constant_load_gets_the_quota_per_interval_and_refusals_are_free() {
        let (quota, start) = (quota("7/1s"), Instant::now());
        let mut full_at = start;
        let mut passed = [0; 10];
        for at in 0..10_000 {
            if let Ok(spent) = rate(quota).spend(full_at, start + ms(at)) {
                full_at = spent;
                passed[usize::try_from(at / 1000).unwrap()] += 1;
            }
        }
        // The first interval has the full quota in addition to the refill.
        assert_eq!(passed[0], 7 + 6);
        assert!(passed[1..].iter().all(|calls| (6..=7).contains(calls)));
        assert_eq!(passed.iter().sum::<u32>(), 7 + 69);
    }

    #[tokio::test(start_paused = true)]
    async fn bucket_is_dropped_once_its_quota_is_full() {
        let buckets = QuotaBuckets::default();
        let key = KeyHash::of;
        buckets.of(&key("spent"), quota("1/1h")).count().unwrap();
        let held = buckets.of(&key("held"), quota("1/1ms"));
        held.count().unwrap();
        tokio::time::advance(ms(1)).await;
        for number in 0..1000 {
            buckets.of(&key(&number.to_string()), quota("1/1h"));
        }
        assert!(lock(&buckets.0).len() < 10);
        let again = buckets.of(&key("spent"), quota("1/1h"));
        assert!(again.count().is_err());
        held.count().unwrap();
        assert!(buckets.of(&key("held"), quota("1/1ms")).count().is_err());
    }
}
