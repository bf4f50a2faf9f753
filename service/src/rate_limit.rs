//! Rate limits in memory.
//!
//! This is the generic cell rate algorithm (GCRA). Each call delays the time at which a limit is unused again by its
//! share of the interval. The call is admitted if that time is at most one interval away. So one time is the full state,
//! and it can be dropped once that time has passed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::locks::lock;

/// A number of calls per interval. All of them may come at once, and they return evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    calls: u32,
    share: Duration,
}

impl Rate {
    /// `calls`, at least 1, per `interval`.
    #[must_use]
    pub fn new(calls: u32, interval: Duration) -> Self {
        let calls = calls.max(1);
        Self {
            calls,
            share: interval / calls,
        }
    }

    /// As many times as much.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        Self {
            calls: self.calls.saturating_mul(factor),
            share: self.share / factor.max(1),
        }
    }

    /// When the limit is unused again after one more call.
    ///
    /// # Errors
    /// How long until a call is left.
    pub fn spend(self, unused_at: Instant, now: Instant) -> Result<Instant, Duration> {
        let unused_at = unused_at.max(now) + self.share;
        let latest = now + self.share * self.calls;
        if unused_at <= latest {
            Ok(unused_at)
        } else {
            Err(unused_at - latest)
        }
    }
}

/// Limits for callers who are known by their address alone: one for each address, and one for all.
#[derive(Debug)]
pub struct AddressLimits(Mutex<Spent>);

#[derive(Debug, Clone, Copy)]
struct Rates {
    per_address: Rate,
    total: Rate,
}

#[derive(Debug)]
struct Spent {
    rates: Rates,
    total: Instant,
    by_address: HashMap<IpAddr, Instant>,
}

impl AddressLimits {
    /// Limits of which nothing is used.
    #[must_use]
    pub fn new(per_address: Rate, total: Rate) -> Self {
        Self(Mutex::new(Spent {
            rates: Rates { per_address, total },
            total: Instant::now(),
            by_address: HashMap::new(),
        }))
    }

    /// Other rates from now on. Calls that were counted stay counted.
    pub fn set(&self, per_address: Rate, total: Rate) {
        lock(&self.0).rates = Rates { per_address, total };
    }

    /// Counts a call.
    ///
    /// # Errors
    /// How long until a call of this address is left. It is not counted then.
    pub fn count(&self, address: IpAddr) -> Result<(), Duration> {
        let (address, now) = (network(address), Instant::now());
        let mut spent = lock(&self.0);
        let Rates { per_address, total } = spent.rates;
        let of_address = spent.by_address.get(&address).copied().unwrap_or(now);
        let of_address = per_address.spend(of_address, now)?;
        spent.total = total.spend(spent.total, now)?;
        // A client with ever more addresses is stopped by the total, so the map stays small.
        if spent.by_address.len() == spent.by_address.capacity() {
            spent.by_address.retain(|_, unused_at| *unused_at > now);
        }
        spent.by_address.insert(address, of_address);
        Ok(())
    }

    /// Takes back one call of this address that was counted.
    pub fn refund(&self, address: IpAddr) {
        let mut spent = lock(&self.0);
        let Rates { per_address, total } = spent.rates;
        spent.total = earlier(spent.total, total);
        if let Some(unused_at) = spent.by_address.get_mut(&network(address)) {
            *unused_at = earlier(*unused_at, per_address);
        }
    }
}

/// Without one call. A time in the past means the same as now.
fn earlier(unused_at: Instant, rate: Rate) -> Instant {
    unused_at.checked_sub(rate.share).unwrap_or(unused_at)
}

/// One customer of a provider has 2^64 addresses of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_share_and_all_together_theirs() {
        let per_address = Rate::new(2, 2 * SECOND);
        let limits = AddressLimits::new(per_address, per_address.times(2));
        for _ in 0..2 {
            assert_eq!(limits.count(address(1)), Ok(()));
        }
        assert_eq!(limits.count(address(1)), Err(SECOND));
        for last in [2, 3] {
            assert_eq!(limits.count(address(last)), Ok(()));
        }
        assert_eq!(limits.count(address(4)), Err(SECOND / 2), "all is used");
        limits.refund(address(3));
        assert_eq!(limits.count(address(4)), Ok(()));
        tokio::time::advance(SECOND).await;
        assert_eq!(limits.count(address(1)), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_network_of_ipv6_share_a_limit() {
        let rate = Rate::new(1, SECOND);
        let limits = AddressLimits::new(rate, rate.times(10));
        let [one, two, other] = ["2001:db8::1", "2001:db8::2", "2001:db8:1::1"];
        assert_eq!(limits.count(one.parse().unwrap()), Ok(()));
        assert_eq!(limits.count(two.parse().unwrap()), Err(SECOND));
        assert_eq!(limits.count(other.parse().unwrap()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn unused_addresses_are_forgotten() {
        let rate = Rate::new(1, SECOND);
        let limits = AddressLimits::new(rate, rate.times(1000));
        for second in 0..1000_u32 {
            let [_, _, a, b] = second.to_be_bytes();
            assert_eq!(limits.count(IpAddr::from([10, 0, a, b])), Ok(()));
            tokio::time::advance(SECOND).await;
        }
        assert!(lock(&limits.0).by_address.len() < 100);
    }

    #[tokio::test(start_paused = true)]
    async fn other_rates_hold_at_once_and_counted_calls_stay_counted() {
        let limits = AddressLimits::new(Rate::new(1, SECOND), Rate::new(100, SECOND));
        assert!(limits.count(address(1)).is_ok());
        assert!(limits.count(address(1)).is_err());
        limits.set(Rate::new(4, SECOND), Rate::new(100, SECOND));
        assert!(limits.count(address(2)).is_ok());
        assert!(limits.count(address(1)).is_err(), "a second is spent");
        tokio::time::advance(SECOND / 2).await;
        assert!(limits.count(address(1)).is_ok());
        limits.set(Rate::new(1, SECOND), Rate::new(1, SECOND));
        assert!(limits.count(address(3)).is_err());
    }
}
