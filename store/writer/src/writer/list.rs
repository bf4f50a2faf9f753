//! All installations, in pages.

use store::{InstallationId, Tag};

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
                    listed.extend(self.read_entry(id).await?);
                }
            }
        }
        Ok(listed)
    }

    /// As [`StoreWriter::list`], of the locations of an agency. Some may belong to another installation by now.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn list_children(
        &self,
        parent: &InstallationId,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Listed>, WriteError> {
        let mut listed = Vec::new();
        let children = self.children(parent).await?;
        let rest = children
            .into_iter()
            .filter(|id| after.is_none_or(|after| id > after));
        for id in rest {
            if listed.len() == limit {
                break;
            }
            // Some are gone since. A page that they shorten would look like the last one.
            listed.extend(self.read_entry(id).await?);
        }
        Ok(listed)
    }

    /// As [`StoreWriter::list`], of agencies.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn list_agencies(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Listed>, WriteError> {
        let mut listed = Vec::new();
        for id in self.agencies().await? {
            if listed.len() == limit {
                break;
            }
            if after.is_none_or(|after| id > *after) {
                listed.extend(self.read_entry(id).await?);
            }
        }
        Ok(listed)
    }

    /// As [`StoreWriter::list`], of the installations with a tag.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn list_tagged(
        &self,
        tag: &Tag,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Listed>, WriteError> {
        let mut listed = Vec::new();
        for id in self.backend.family(&tag.family()).await? {
            if listed.len() == limit {
                break;
            }
            if after.is_some_and(|after| id <= *after) {
                continue;
            }
            // Some have lost the tag since.
            let entry = self.read_entry(id).await?;
            listed.extend(entry.filter(|entry| match entry {
                Listed::Readable(known) => known.installation.customer.tags.contains(tag),
                Listed::Unreadable { .. } => false,
            }));
        }
        Ok(listed)
    }

    /// As [`StoreWriter::list`], of the installations with a name of the index: one for each app.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn list_named(
        &self,
        name: &str,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Listed>, WriteError> {
        let named = self.resolve(name).await?.into_iter().map(|(_, id)| id);
        let mut rest: Vec<InstallationId> = named
            .filter(|id| after.is_none_or(|after| id > after))
            .collect();
        rest.sort_unstable();
        let mut listed = Vec::new();
        for id in rest {
            if listed.len() == limit {
                break;
            }
            listed.extend(self.read_entry(id).await?);
        }
        Ok(listed)
    }

    pub(super) async fn read_entry(
        &self,
        id: InstallationId,
    ) -> Result<Option<Listed>, WriteError> {
        match self.load(&id).await {
            Ok(found) => Ok(found.map(|found| Listed::Readable(Box::new(found)))),
            Err(WriteError::Unreadable { id, source }) => {
                Ok(Some(Listed::Unreadable { id, source }))
            }
            Err(error) => Err(error),
        }
    }
}
