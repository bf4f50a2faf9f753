//! Whether GHL's answer could be stored, asked before a token or a code is spent.

use store_writer::group_commit_db::NotReady;

use super::Worker;

impl Worker {
    /// Whether the files of this process can take another answer. Cheap.
    ///
    /// # Errors
    /// With the reason why not.
    pub(crate) fn ready_to_spend(&self) -> Result<(), NotReady> {
        self.journal.ready_to_spend()?;
        match self.writer.file() {
            Some(file) => file.ready_to_spend(),
            None => Ok(()),
        }
    }
}
