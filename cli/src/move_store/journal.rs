//! Whether the journal of `up` has anything that its store lacks.

use std::path::Path;

use store::KeyRing;
use store_writer::group_commit_db::DbError;
use store_writer::identity::StoreId;
use store_writer::journal::Entry;
use store_writer::{Grant, Journal, Rings, StoreWriter};

use crate::data_dir::JOURNAL;
use crate::exit::{Failure, chain};

/// The rest of the journal.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The store that it belongs to.
    pub store: Option<StoreId>,
    /// Whether there is a journal.
    pub is_there: bool,
    /// Answers of GHL that no process can use: of installations that the store does not know, or sealed with a key that
    /// is missing.
    pub unusable: usize,
}

impl Left {
    /// Of a journal that was checked before.
    pub(super) fn unread(directory: &Path) -> Self {
        Self {
            is_there: directory.join(JOURNAL).exists(),
            ..Self::default()
        }
    }
}

/// Refuses a journal with work that `up` would finish at its next start: an answer of GHL that the store lacks, a
/// consent, or an attempt whose answer is unknown. Only `up` knows the endpoints that get the events of this work.
pub(super) async fn check(
    directory: &Path,
    file: &StoreWriter,
    rings: &Rings,
) -> Result<Left, Failure> {
    if !directory.join(JOURNAL).exists() {
        return Ok(Left::default());
    }
    // Nothing is written to it, so its size does not matter.
    let journal = match Journal::open(directory, u64::MAX) {
        Ok(journal) => journal,
        Err(DbError::InUse { path }) => {
            let path = path.display();
            let why = format!("{path} is in use: stop `evergreen up` first");
            return Err(Failure::Refused(why));
        }
        Err(error) => return Err(Failure::unavailable(error)),
    };
    let failed = |error: DbError| Failure::Refused(chain(&error));
    let mut left = Left {
        store: journal.store_id().map_err(failed)?,
        is_there: true,
        unusable: 0,
    };
    let mut unfinished = journal.consents().map_err(failed)?.len();
    for entry in journal.unfinished().map_err(failed)? {
        let is_usable = match &entry {
            Ok(entry) => can_be_finished(entry, file, &rings.refresh).await?,
            Err(_) => false,
        };
        match is_usable {
            true => unfinished += 1,
            false => left.unusable += 1,
        }
    }
    if unfinished == 0 {
        return Ok(left);
    }
    Err(Failure::Refused(format!(
        "`evergreen up` has ended in the middle of {unfinished} refreshes or consents, and their outcome is in {} and not \
         yet in the store. Start `evergreen up` once, with the same settings: it finishes them within seconds, and its \
         log says so. Then stop it with SIGTERM, and move again",
        directory.join(JOURNAL).display()
    )))
}

async fn can_be_finished(
    entry: &Entry,
    file: &StoreWriter,
    ring: &KeyRing,
) -> Result<bool, Failure> {
    if let Some(answer) = &entry.answer
        && Grant::open(&entry.installation, entry.spent_generation, answer, ring).is_err()
    {
        return Ok(false);
    }
    // A record that cannot be read is there, too.
    Ok(!matches!(file.load(&entry.installation).await, Ok(None)))
}
