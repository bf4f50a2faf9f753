//! Checks that a response of GHL could be stored, before a token or an authorization code is spent.

use store_writer::group_commit_db::NotReady;

use super::Worker;

impl Worker {
    /// Checks that the files of this process can take another response. Cheap.
    ///
    /// # Errors
    /// The reason why a file cannot take it.
    pub(crate) fn ready_to_spend(&self) -> Result<(), NotReady> {
        self.journal.ready_to_spend()?;
        match self.writer.file() {
            Some(file) => file.ready_to_spend(),
            None => Ok(()),
        }
    }
}
