//! An installation as it was read.

use store::record::Unreadable;
use store::{InstallationId, Timestamp};

use crate::installation::Installation;

/// A record, and the store's time of the reading.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The record.
    pub installation: Installation,
    /// When it was read, in the store's time.
    pub now: Timestamp,
}

/// One entry of a list.
#[derive(Debug, Clone)]
pub enum Listed {
    /// A readable record.
    Readable(Box<Snapshot>),
    /// A record that cannot be read.
    Unreadable {
        /// The installation.
        id: InstallationId,
        /// Why the record cannot be read.
        source: Unreadable,
    },
}

impl Listed {
    /// The installation's id.
    #[must_use]
    pub fn id(&self) -> &InstallationId {
        match self {
            Self::Readable(snapshot) => &snapshot.installation.id,
            Self::Unreadable { id, .. } => id,
        }
    }
}
