//! How many connections may be open, in all and from one address.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use metrics::Gauge;

use crate::client_address::TrustedProxies;
use crate::locks::lock;
use crate::metrics::connections;

/// The limits of a process. Clones share what is counted.
#[derive(Clone)]
pub struct ConnectionLimits {
    /// Load balancers, which have the connections of many callers.
    exempt: TrustedProxies,
    open: Arc<Mutex<Open>>,
    /// The open connections of one listener.
    counted: Gauge,
}

#[derive(Debug, Default)]
struct Open {
    most: usize,
    most_per_address: usize,
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The place of one open connection. It is free again when this is dropped.
pub(crate) struct Place {
    peer: IpAddr,
    open: Arc<Mutex<Open>>,
    counted: Gauge,
}

/// The limit that a connection exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exceeded {
    #[error("as many connections are open as EVERGREEN_MAX_CONNECTIONS allows")]
    Total,
    #[error(
        "as many connections of one address are open as EVERGREEN_MAX_CONNECTIONS_PER_ADDRESS allows"
    )]
    PerAddress,
}

impl ConnectionLimits {
    /// At most `total` connections, and `per_address` of one address that is not of an `exempt` load balancer.
    #[must_use]
    pub fn new(total: usize, per_address: usize, exempt: TrustedProxies) -> Self {
        Self {
            exempt,
            open: Arc::new(Mutex::new(Open {
                most: total,
                most_per_address: per_address,
                ..Open::default()
            })),
            counted: Gauge::noop(),
        }
    }

    /// The numbers of other limits from now on. Open connections stay open.
    pub fn set(&self, next: &Self) {
        let (most, per_address) = {
            let next = lock(&next.open);
            (next.most, next.most_per_address)
        };
        let mut open = lock(&self.open);
        open.most = most;
        open.most_per_address = per_address;
    }

    /// No limits.
    #[must_use]
    pub fn none() -> Self {
        Self::new(usize::MAX, usize::MAX, TrustedProxies::default())
    }

    /// The same limits, of which a listener of this name shows its connections as a metric.
    #[must_use]
    pub fn of_listener(&self, name: &'static str) -> Self {
        Self {
            counted: connections(name),
            ..self.clone()
        }
    }

    /// A place for a connection from this address.
    pub(crate) fn admit(&self, peer: IpAddr) -> Result<Place, Exceeded> {
        let mut open = lock(&self.open);
        if open.total >= open.most {
            return Err(Exceeded::Total);
        }
        let of_peer = open.by_address.get(&peer).copied().unwrap_or(0);
        if of_peer >= open.most_per_address && !self.exempt.contains(peer) {
            return Err(Exceeded::PerAddress);
        }
        open.total += 1;
        open.by_address.insert(peer, of_peer + 1);
        self.counted.increment(1.0);
        Ok(Place {
            peer,
            open: Arc::clone(&self.open),
            counted: self.counted.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counted.decrement(1.0);
        let mut open = lock(&self.open);
        open.total = open.total.saturating_sub(1);
        if let Some(count) = open.by_address.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.peer);
            }
        }
    }
}

impl fmt::Debug for ConnectionLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLimits").finish_non_exhaustive()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.peer).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    #[test]
    fn connections_are_limited_per_address_and_in_all_until_they_end() {
        let limits = ConnectionLimits::new(3, 1, "203.0.113.9".parse().unwrap());
        let first = limits.admit(address(1)).unwrap();
        assert_eq!(limits.admit(address(1)).unwrap_err(), Exceeded::PerAddress);
        let balancer: Vec<_> = (0..2).map(|_| limits.admit(address(9)).unwrap()).collect();
        assert_eq!(limits.admit(address(2)).unwrap_err(), Exceeded::Total);
        drop(first);
        let again = limits.admit(address(1));
        assert!(again.is_ok());
        drop((again, balancer));
        let open = lock(&limits.open);
        assert_eq!((open.total, open.by_address.len()), (0, 0));
    }

    #[test]
    fn limits_that_were_replaced_hold_for_new_connections_only() {
        let limits = ConnectionLimits::new(2, 2, TrustedProxies::default());
        let shared = limits.clone();
        let open: Vec<_> = (0..2).map(|_| limits.admit(address(1)).unwrap()).collect();
        shared.set(&ConnectionLimits::new(1, 2, TrustedProxies::default()));
        assert_eq!(limits.admit(address(2)).unwrap_err(), Exceeded::Total);
        shared.set(&ConnectionLimits::new(3, 2, TrustedProxies::default()));
        assert_eq!(limits.admit(address(1)).unwrap_err(), Exceeded::PerAddress);
        assert!(limits.admit(address(2)).is_ok());
        drop(open);
    }
}
