//! Faults of a store.

use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Less is protected than could be, or the protection is unknown.
    Degraded,
    /// Tokens will be lost.
    Unsafe,
}

/// The subject of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Keys may be evicted.
    Eviction,
    /// Writes may not reach a disk.
    Persistence,
    /// Replicas are missing.
    Replicas,
    /// The user may not run scripts.
    Scripts,
    /// Writes are refused or lost.
    Writes,
    /// A clock stepped back or differs.
    Clock,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Eviction,
        Self::Persistence,
        Self::Replicas,
        Self::Scripts,
        Self::Writes,
        Self::Clock,
    ];

    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eviction => "eviction",
            Self::Persistence => "persistence",
            Self::Replicas => "replicas",
            Self::Scripts => "scripts",
            Self::Writes => "writes",
            Self::Clock => "clock",
        }
    }

    /// Whether an unsafe finding of this reason forbids a process to start. The other reasons can end without
    /// a restart of the store.
    #[must_use]
    pub const fn forbids_start(self) -> bool {
        match self {
            Self::Eviction | Self::Persistence => true,
            Self::Replicas | Self::Scripts | Self::Writes | Self::Clock => false,
        }
    }
}

/// One problem of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The subject.
    pub reason: Reason,
    /// How bad it is.
    pub severity: Severity,
    /// The fault, and the change that mends it.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
