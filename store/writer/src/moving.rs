//! Moves the store of one process from its file to Redis, or back as long as nobody has used it there.
//!
//! A refresh token works once, so two stores with the same tokens would spend each other's. At any time at most one of
//! the two may be used, whenever the move is killed:
//!
//! 1. The file is marked: it refuses to open from now on, for every process but a move.
//! 2. The target is marked, too. Brokers refuse a store with this mark ([`CLOSED`]).
//! 3. All keys are copied, and counted in the target. A record that the target has with another revision is never
//!    overwritten: somebody has written it there.
//! 4. The file is marked as moved.
//! 5. The target is opened.
//!
//! A move that was killed is repeated from the start. Nothing has changed in between, since nobody could use either
//! store. Each move has a random id, which both marks carry: the rest of a move that was given up is not opened.

mod copy;
mod decide;
mod part;
mod undo;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use store::connection::{Address, RedisClient};
use store::freshness::Lead;

pub use decide::{FileState, Refusal, Step, TargetState, decide};
pub use part::Counts;
pub(crate) use part::{Part, Position, Table};
pub use undo::Undone;

use crate::backend::Backend;
use crate::backend::embedded::EmbeddedBackend;
use crate::backend::redis::RedisBackend;
use crate::backend::redis::moving::Target;
use crate::error::WriteError;
use crate::factory::OpenStoreError;
use crate::group_commit_db::DbError;
use crate::identity::{CLOSED, FORMAT, StoreId, StoreMark};
use crate::rings::Rings;
use crate::writer::StoreWriter;

/// The clocks of this machine and of the target may differ by this much. Expiries in the records are this machine's
/// time, and brokers compare them with the target's.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(60);

/// Why a move or an undo did not end. It may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The address or the file is not usable.
    #[error(transparent)]
    Open(#[from] OpenStoreError),
    /// The file cannot be read or written.
    #[error("the file of the store failed")]
    File(#[from] DbError),
    /// The store in the file cannot be read.
    #[error("the store in the file cannot be read")]
    Source(#[source] WriteError),
    /// The target did not answer, or refused.
    #[error("the store to move to failed")]
    Target(#[from] WriteError),
    /// It must not be done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The file is of a newer build.
    #[error("the file has format {0}, which this build does not know: use the build that wrote it")]
    Newer(u32),
    /// The clocks differ.
    #[error(
        "the clocks of this machine and of the store to move to differ by {0} s, so tokens would seem valid for too \
         long: have both follow a time server, start `evergreen up` once, stop it, and move again"
    )]
    Clocks(u64),
    /// The target lost something.
    #[error(
        "the store to move to has {found} of the {expected} entries of {key} that were written: it loses writes, or \
         another process writes to it. Nothing uses it yet. Mend it, and move again"
    )]
    Lost {
        /// The key.
        key: String,
        /// How many entries it should have.
        expected: usize,
        /// How many it has.
        found: usize,
    },
    /// Too few replicas have the writes.
    #[error(
        "the writes are not on enough replicas (EVERGREEN_REDIS_REPLICAS): move again once they are there"
    )]
    Unconfirmed,
}

impl From<redb::Error> for MoveError {
    fn from(error: redb::Error) -> Self {
        Self::File(error.into())
    }
}

/// A move that the file knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The random id of the move.
    pub id: String,
    /// Whether everything was copied. The target may be in use since.
    pub is_complete: bool,
    /// The address of the target, without a password.
    pub to: String,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// This many keys are copied.
    Copied(u64),
    /// This many keys are counted in the target.
    Counted(u64),
    /// The file is marked as moved, and the target is still closed.
    FileMarked,
    /// An undo has closed the target, and looks once more whether it was used.
    Closed,
    /// This many keys are removed from the target again.
    Removed(u64),
}

/// The file and the target, opened.
#[derive(Debug)]
pub struct Move {
    file: Arc<EmbeddedBackend>,
    target: Target,
    replicas: usize,
    /// The address of the target, without a password.
    to: String,
    file_writer: StoreWriter,
    target_writer: StoreWriter,
}

impl Move {
    /// Opens the store in `directory`, which must be there, also if it was moved. `to` names the address to people.
    ///
    /// # Errors
    /// When another process has the file open, or the address' settings contradict each other.
    pub fn open(
        directory: &Path,
        rings: &Rings,
        (address, to): (Address, String),
        replicas: usize,
    ) -> Result<Self, MoveError> {
        let file = EmbeddedBackend::open(&directory.join("store.redb"));
        let file = Arc::new(file.map_err(OpenStoreError::from)?);
        let client = RedisClient::open(address).map_err(OpenStoreError::from)?;
        let redis = RedisBackend::new(client, replicas).map_err(OpenStoreError::from)?;
        let redis = Arc::new(redis);
        let writer =
            |backend: Arc<dyn Backend>| StoreWriter::new(backend, rings.clone(), Lead::Auto);
        Ok(Self {
            file_writer: writer(file.clone()),
            target_writer: writer(redis.clone()),
            target: Target::new(redis),
            file,
            replicas,
            to,
        })
    }

    /// The store in the file.
    #[must_use]
    pub fn file(&self) -> &StoreWriter {
        &self.file_writer
    }

    /// The store to move to.
    #[must_use]
    pub fn target(&self) -> &StoreWriter {
        &self.target_writer
    }

    /// The move that the file knows of.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn moved(&self) -> Result<Option<Moved>, MoveError> {
        Ok(self.file.moved()?)
    }

    /// Counts what the file has.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn count(&self) -> Result<Counts, MoveError> {
        let mut counts = Counts::default();
        let mut position = Position::default();
        while let Some((next, part)) = self.file.part_after(&position)? {
            counts.add(&part);
            position = next;
        }
        Ok(counts)
    }

    /// The step that the next call of [`Move::run`] takes. Changes nothing. `journal`: the store that the journal
    /// belongs to.
    ///
    /// # Errors
    /// When it would be refused, or one of the stores fails.
    pub async fn next_step(&self, journal: Option<&StoreId>) -> Result<Step, MoveError> {
        let mark = self.mark(journal).await?;
        let target = self.target.state(&mark.id).await?;
        let step = decide(&self.file_state()?, &target)?;
        self.check_clocks().await?;
        Ok(step)
    }

    /// The mark of the file, or the one that it gets.
    async fn mark(&self, journal: Option<&StoreId>) -> Result<StoreMark, MoveError> {
        let mark = self.file.mark().await.map_err(MoveError::Source)?;
        if let Some(newer) = mark
            .as_ref()
            .filter(|it| it.format > FORMAT && it.format != CLOSED)
        {
            return Err(MoveError::Newer(newer.format));
        }
        let id = || journal.cloned().unwrap_or_else(StoreId::random);
        Ok(mark.unwrap_or_else(|| StoreMark {
            id: id(),
            format: FORMAT,
        }))
    }

    fn file_state(&self) -> Result<FileState, MoveError> {
        Ok(match self.file.moved()? {
            None => FileState::Here,
            Some(moved) if moved.is_complete => FileState::Moved(moved),
            Some(moved) => FileState::Moving(moved),
        })
    }

    async fn check_clocks(&self) -> Result<(), MoveError> {
        for facts in self.target.backend().facts().await? {
            let (server, local) = (facts.clock.server_time, facts.clock.local_time);
            let difference = server.since(local).max(local.since(server));
            if difference > MAX_CLOCK_DIFFERENCE {
                return Err(MoveError::Clocks(difference.as_secs()));
            }
        }
        Ok(())
    }
}
