//! The id of the store, and the servers that hold it: see [`crate::identity`].

use store::InstallationId;

use super::{StoreWriter, WriteError};
use crate::backend::CanaryReading;
use crate::identity::{FORMAT, Servers, StoreId, StoreMark};

impl StoreWriter {
    /// The store's own id and format; `None` if it has none yet.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn mark(&self) -> Result<Option<StoreMark>, WriteError> {
        self.backend.mark().await
    }

    /// Gives the store an id, unless it has one. Returns the id that it has then.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub async fn make_mark(&self, id: &StoreId) -> Result<StoreMark, WriteError> {
        let (id, format) = (id.clone(), FORMAT);
        self.backend.make_mark(&StoreMark { id, format }).await
    }

    /// The servers that hold the data; `None` if this user may not ask.
    ///
    /// # Errors
    /// When no server answers.
    pub async fn servers(&self) -> Result<Option<Servers>, WriteError> {
        self.backend.servers().await
    }

    /// Writes a number and returns the previous one of each part of the store. It also proves that the store
    /// accepts writes: a master without replicas can still be read.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub async fn write_canary(
        &self,
        name: &str,
        number: i64,
    ) -> Result<Vec<CanaryReading>, WriteError> {
        self.backend.write_canary(name, number).await
    }

    /// A counter that grows before anything is read from another server, or from the same one after a
    /// restart. It may also grow without a reason.
    #[must_use]
    pub fn server_change_count(&self) -> u64 {
        self.backend.server_change_count()
    }

    /// Contacts the store's servers, so that the first read of an installation does not increase
    /// [`StoreWriter::server_change_count`].
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn learn_servers(&self) -> Result<(), WriteError> {
        self.load(&InstallationId::random()).await.map(drop)
    }
}
