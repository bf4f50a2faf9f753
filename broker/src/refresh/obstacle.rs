//! Why nothing was sent to GHL, or its answer not stored, though GHL is well.

use store_writer::sealing::KeysError;
use store_writer::{NotLeased, WriteError};

use crate::refresh::store_watch::Unverified;
use crate::refresh::worker::EscrowError;

/// The obstacle to an attempt, as the label of metrics. The text for people is beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Obstacle {
    /// The store did not answer, or too few replicas took a write.
    Store,
    /// The store refused a write, or is not the one that this broker knows.
    StoreRefused,
    /// The keys of this broker do not open what the store holds, or a record is damaged.
    SealingKeys,
    /// Other processes changed the record each time.
    Contended,
    /// Too few lock nodes answered.
    NoQuorum,
    /// A lock node refused.
    LockNodeRefused,
    /// The journal, or the file of the store, takes nothing.
    File,
    /// Brokers restore what the store may have lost.
    Restoring,
    /// Refreshes with these credentials pause: GHL refuses them, or all tokens.
    Paused,
    /// There is no agency that makes tokens for the location.
    NoAgency,
    /// The lease would have ended before the answer.
    Late,
}

impl Obstacle {
    pub(crate) const ALL: [Self; 11] = [
        Self::Store,
        Self::StoreRefused,
        Self::SealingKeys,
        Self::Contended,
        Self::NoQuorum,
        Self::LockNodeRefused,
        Self::File,
        Self::Restoring,
        Self::Paused,
        Self::NoAgency,
        Self::Late,
    ];

    /// The label in metrics.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store_unavailable",
            Self::StoreRefused => "store_refused",
            Self::SealingKeys => "sealing_keys",
            Self::Contended => "contended",
            Self::NoQuorum => "no_quorum",
            Self::LockNodeRefused => "lock_node_refused",
            Self::File => "file",
            Self::Restoring => "restoring",
            Self::Paused => "credentials_paused",
            Self::NoAgency => "no_agency",
            Self::Late => "late",
        }
    }

    /// Whether the store gave no answer, or refused.
    #[must_use]
    pub(crate) const fn is_of_store(self) -> bool {
        match self {
            Self::Store | Self::StoreRefused => true,
            Self::SealingKeys
            | Self::Contended
            | Self::NoQuorum
            | Self::LockNodeRefused
            | Self::File
            | Self::Restoring
            | Self::Paused
            | Self::NoAgency
            | Self::Late => false,
        }
    }
}

impl From<&WriteError> for Obstacle {
    fn from(error: &WriteError) -> Self {
        match error {
            WriteError::Unavailable(_) | WriteError::Unconfirmed(_) => Self::Store,
            WriteError::Refused(_) | WriteError::Unknown(_) => Self::StoreRefused,
            WriteError::Unreadable { .. } | WriteError::Unwritable { .. } => Self::SealingKeys,
            WriteError::Contended(_) => Self::Contended,
        }
    }
}

impl From<&Unverified> for Obstacle {
    fn from(unverified: &Unverified) -> Self {
        match unverified {
            Unverified::NotAsked => Self::Store,
            Unverified::Away(error) | Unverified::Keys(KeysError::Store(error)) => error.into(),
            Unverified::Refused(_) => Self::StoreRefused,
            Unverified::Keys(KeysError::Wrong(_) | KeysError::List(_)) => Self::SealingKeys,
            Unverified::Journal(_) => Self::File,
            Unverified::Restoring(_) => Self::Restoring,
        }
    }
}

/// Of a lease that was not taken.
impl From<&NotLeased> for Obstacle {
    fn from(not_leased: &NotLeased) -> Self {
        match not_leased {
            NotLeased::Held => Self::Contended,
            NotLeased::Unreachable { .. } => Self::NoQuorum,
            NotLeased::Misconfigured(_) => Self::LockNodeRefused,
        }
    }
}

impl From<&EscrowError> for Obstacle {
    fn from(error: &EscrowError) -> Self {
        match error {
            EscrowError::Unread(_) => Self::NoQuorum,
            EscrowError::Unwritten(error) => error.into(),
        }
    }
}
