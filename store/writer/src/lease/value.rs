//! The value of a lease, and the reasons for having none.

use serde::{Deserialize, Serialize};

/// The random value of a lease on the lock nodes. It outlives the process that took the lease. Any process
/// that knows it can end the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseValue(Vec<u8>);

impl LeaseValue {
    pub(super) fn from_bytes(value: Vec<u8>) -> Self {
        Self(value)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A new random value.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn random() -> Self {
        Self(store::random::bytes::<20>().to_vec())
    }
}

/// Why there is no lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLeased {
    /// Another broker holds it.
    #[error("another broker holds the lease")]
    Held,
    /// Fewer than a majority of the lock nodes answer.
    #[error("{reachable} of {nodes} lock nodes answer, {needed} are needed")]
    Unreachable {
        /// The nodes that answer.
        reachable: usize,
        /// All nodes.
        nodes: usize,
        /// The majority.
        needed: usize,
    },
    /// A lock node refuses, for example because of a wrong password. The text is the node's error.
    #[error("a lock node refuses: {0}")]
    Misconfigured(String),
}
