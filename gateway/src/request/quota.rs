//! A key's quota, counted by each gateway for itself: gateways cannot write, so there is nowhere to
//! count together.
//!
//! A call puts off by its share of the interval the moment at which the quota is whole again, and
//! may go if that moment is within an interval (GCRA). So one moment is all there is to remember,
//! and once it is past, nothing is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use service::locks::lock;
use store::{KeyHash, Quota};
use tokio::time::Instant;

use crate::admission::limited::Limited;

/// What one key has spent of its quota.
#[derive(Debug)]
pub(crate) struct QuotaBucket {
    quota: Quota,
    whole_at: Arc<Mutex<Instant>>,
}

/// What all keys with a quota have spent: that outlives the record that the quota was read from.
#[derive(Debug, Default)]
pub(crate) struct QuotaBuckets(Mutex<HashMap<KeyHash, Arc<Mutex<Instant>>>>);

impl QuotaBucket {
    /// Counts a call, if there is one left.
    pub(crate) fn count(&self) -> Result<(), Limited> {
        let mut whole_at = lock(&self.whole_at);
        let spent = spend(self.quota, *whole_at, Instant::now());
        *whole_at = spent.map_err(|retry_after| Limited::Quota {
            quota: self.quota,
            retry_after,
        })?;
        Ok(())
    }
}

impl QuotaBuckets {
    /// The key's meter: it goes on where it was for as long as there is something to remember.
    pub(crate) fn of(&self, key: &KeyHash, quota: Quota) -> QuotaBucket {
        let mut meters = lock(&self.0);
        if meters.len() == meters.capacity() && !meters.contains_key(key) {
            let now = Instant::now();
            meters.retain(|_, it| Arc::strong_count(it) > 1 || *lock(it) > now);
        }
        let whole_at = meters.entry(*key).or_insert_with(whole);
        QuotaBucket {
            quota,
            whole_at: Arc::clone(whole_at),
        }
    }
}

fn whole() -> Arc<Mutex<Instant>> {
    Arc::new(Mutex::new(Instant::now()))
}

/// When the quota is whole again after one more call; or else how long until there is one left.
fn spend(quota: Quota, whole_at: Instant, now: Instant) -> Result<Instant, Duration> {
    let share = quota.interval() / quota.calls();
    let whole_at = whole_at.max(now) + share;
    let latest = now + share * quota.calls();
    if whole_at <= latest {
        Ok(whole_at)
    } else {
        Err(whole_at - latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(text: &str) -> Quota {
        text.parse().unwrap()
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_whole_quota_goes_at_once_and_what_is_spent_comes_back_evenly() {
        let (quota, start) = (quota("3/10s"), Instant::now());
        let mut whole_at = start;
        for _ in 0..3 {
            whole_at = spend(quota, whole_at, start).unwrap();
        }
        let third = Duration::from_secs(10) / 3;
        assert_eq!(spend(quota, whole_at, start), Err(third));
        let then = start + ms(3000);
        assert_eq!(spend(quota, whole_at, then), Err(third - ms(3000)));
        let then = start + third;
        whole_at = spend(quota, whole_at, then).unwrap();
        assert_eq!(spend(quota, whole_at, then), Err(third));
    }

    #[test]
    fn a_quota_does_not_pile_up() {
        let (quota, start) = (quota("2/1s"), Instant::now());
        let mut whole_at = spend(quota, start, start).unwrap();
        let much_later = start + ms(3_600_000);
        for _ in 0..2 {
            whole_at = spend(quota, whole_at, much_later).unwrap();
        }
        assert_eq!(spend(quota, whole_at, much_later), Err(ms(500)));
    }

    #[test]
    fn whoever_always_calls_gets_the_quota_in_every_interval_and_no_refusal_costs_anything() {
        let (quota, start) = (quota("7/1s"), Instant::now());
        let mut whole_at = start;
        let mut passed = [0; 10];
        for at in 0..10_000 {
            if let Ok(spent) = spend(quota, whole_at, start + ms(at)) {
                whole_at = spent;
                passed[usize::try_from(at / 1000).unwrap()] += 1;
            }
        }
        // At first the whole quota is there besides what comes back meanwhile.
        assert_eq!(passed[0], 7 + 6);
        assert!(passed[1..].iter().all(|calls| (6..=7).contains(calls)));
        assert_eq!(passed.iter().sum::<u32>(), 7 + 69);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_remembered_until_its_quota_is_whole_and_no_longer() {
        let meters = QuotaBuckets::default();
        let key = KeyHash::of;
        meters.of(&key("spent"), quota("1/1h")).count().unwrap();
        let held = meters.of(&key("held"), quota("1/1ms"));
        held.count().unwrap();
        tokio::time::advance(ms(1)).await;
        for number in 0..1000 {
            meters.of(&key(&number.to_string()), quota("1/1h"));
        }
        assert!(lock(&meters.0).len() < 10);
        let again = meters.of(&key("spent"), quota("1/1h"));
        assert!(again.count().is_err());
        held.count().unwrap();
        assert!(meters.of(&key("held"), quota("1/1ms")).count().is_err());
    }
}
