//! All installations, a page at a time.

use store::InstallationId;
use store::record::Unreadable;

use super::{Snapshot, StoreWriter, WriteError};

/// One of a list.
#[derive(Debug, Clone)]
pub enum Listed {
    Readable(Box<Snapshot>),
    Unreadable {
        id: InstallationId,
        source: Unreadable,
    },
}

impl Listed {
    #[must_use]
    pub fn id(&self) -> &InstallationId {
        match self {
            Self::Readable(snapshot) => &snapshot.installation.id,
            Self::Unreadable { id, .. } => id,
        }
    }
}

impl StoreWriter {
    /// Up to `limit` installations after `after`, in the order of their ids. One that cannot be read
    /// is listed as that: it must not hide the others, nor itself.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn list(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Listed>, WriteError> {
        let mut listed = Vec::new();
        // The first byte of an id is its partition, so partitions in order are ids in order.
        for partition in after.map_or(0, InstallationId::partition)..=u8::MAX {
            for id in self.backend.ids(partition).await? {
                if listed.len() == limit {
                    return Ok(listed);
                }
                if after.is_none_or(|after| id > *after) {
                    match self.load(&id).await {
                        Ok(found) => {
                            listed.extend(found.map(|found| Listed::Readable(Box::new(found))));
                        }
                        Err(WriteError::Unreadable { id, source }) => {
                            listed.push(Listed::Unreadable { id, source });
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(listed)
    }
}
