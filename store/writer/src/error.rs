//! Why a write failed.

use store::InstallationId;
use store::record::Unreadable;

/// How often a write that lost a race is decided again. After this many losses in a row some process writes in
/// a loop.
pub(crate) const MAX_SWAP_ATTEMPTS: usize = 16;

/// Why nothing was written, or not safely.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The store is unreachable. The write may have taken effect.
    #[error("the store did not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A server refused the write.
    #[error("the store refused to write")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The record is malformed, of a newer schema, or sealed with another ring.
    #[error("the record of {id} cannot be read")]
    Unreadable {
        /// The installation.
        id: InstallationId,
        /// Why the record cannot be read.
        source: Unreadable,
    },
    /// The new record could not be read back, so it was not written.
    #[error("the new record of {id} could not be read back, so it was not written")]
    Unwritable {
        /// The installation.
        id: InstallationId,
        /// Why the new record could not be read back.
        source: Unreadable,
    },
    /// Other processes wrote first in every attempt.
    #[error("{0} was written by other processes {MAX_SWAP_ATTEMPTS} times in a row")]
    Contended(InstallationId),
    /// There is no record of the installation.
    #[error("there is no installation {0}")]
    Unknown(InstallationId),
    /// The record is written, but too few replicas have it.
    #[error("the write to {0} is not on enough replicas")]
    Unconfirmed(InstallationId),
}
