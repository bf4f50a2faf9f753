//! Why a write failed.

use store::InstallationId;
use store::record::Unreadable;

use super::ATTEMPTS;

/// Why nothing was written, or not safely.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the store did not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the store refused to write")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the record of {id} cannot be read")]
    Unreadable {
        id: InstallationId,
        source: Unreadable,
    },
    /// A writer never writes what a reader could not read.
    #[error("what was to be written of {id} could not be read again, so it was not written")]
    Unwritable {
        id: InstallationId,
        source: Unreadable,
    },
    #[error("{0} was written by others {ATTEMPTS} times in a row")]
    Contended(InstallationId),
    #[error("there is no installation {0}")]
    Unknown(InstallationId),
    #[error("what was written of {0} is not on enough replicas")]
    Unconfirmed(InstallationId),
}
