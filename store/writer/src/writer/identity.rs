//! Which store this is, and which servers hold it: see [`crate::identity`].

use store::InstallationId;

use super::{StoreWriter, WriteError};
use crate::backend::Held;
use crate::identity::{FORMAT, Servers, StoreId, StoreMark};

impl StoreWriter {
    /// What the store says of itself; `None` where nobody has marked it.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn mark(&self) -> Result<Option<StoreMark>, WriteError> {
        self.backend.mark().await
    }

    /// Gives the store an id, unless another process was faster; what it says of itself then.
    ///
    /// # Errors
    /// When the store is away, or refuses.
    pub async fn make_mark(&self, id: &StoreId) -> Result<StoreMark, WriteError> {
        let (id, format) = (id.clone(), FORMAT);
        self.backend.make_mark(&StoreMark { id, format }).await
    }

    /// The servers that hold the data; `None` where this process may not ask them.
    ///
    /// # Errors
    /// When none answers.
    pub async fn servers(&self) -> Result<Option<Servers>, WriteError> {
        self.backend.servers().await
    }

    /// Writes a number, and tells what each part of the store held before. It also proves that the
    /// store takes writes: a master that lost its replicas can still be read.
    ///
    /// # Errors
    /// When the store is away, or refuses.
    pub async fn tide(&self, name: &str, number: i64) -> Result<Vec<Held>, WriteError> {
        self.backend.tide(name, number).await
    }

    /// A number that grows before anything is read that another server has, or the same one after a
    /// restart. It may also grow for nothing.
    #[must_use]
    pub fn encounters(&self) -> u64 {
        self.backend.encounters()
    }

    /// Makes the store's servers known to [`StoreWriter::encounters`], so that they do not count when
    /// the first installation is read.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn meet(&self) -> Result<(), WriteError> {
        self.load(&InstallationId::random()).await.map(drop)
    }
}
