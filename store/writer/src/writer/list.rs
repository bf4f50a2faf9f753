//! All installations, in pages.

use store::InstallationId;

use super::{Listed, StoreWriter, WriteError};

impl StoreWriter {
    /// Up to `limit` installations after `after`, in the order of their ids. An unreadable record is listed
    /// as such, so that it hides neither the others nor itself.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn list(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Listed>, WriteError> {
        let mut listed = Vec::new();
        // The first byte of an id is its partition, so ids in order of partitions are in order.
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
