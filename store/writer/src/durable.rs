//! A database file in this process, with group commit: writes that arrive while the disk is busy
//! share its next sync.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use redb::{Database, Durability, ReadTransaction, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

/// How much of a file is kept in memory.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Writes that share one sync at most.
const BATCH: usize = 256;

#[derive(Debug, Clone, thiserror::Error)]
pub enum DurableError {
    #[error(
        "{path} is in use by another process: stop it, or give this one a directory of its own"
    )]
    InUse { path: PathBuf },
    #[error("cannot open {path}: {reason}")]
    Open { path: PathBuf, reason: String },
    #[error("the database failed: {0}")]
    Failed(String),
    #[error("the database is closed")]
    Closed,
}

impl From<redb::Error> for DurableError {
    fn from(error: redb::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

type Finish = Box<dyn FnOnce(Result<(), DurableError>) + Send>;
type Job = Box<dyn FnOnce(&WriteTransaction) -> Result<Finish, redb::Error> + Send>;

/// An open file. Cheap to clone.
#[derive(Clone)]
pub struct Durable {
    database: Arc<Database>,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Durable {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, DurableError> {
        let open = |reason: String| DurableError::Open {
            path: path.to_owned(),
            reason,
        };
        if !path.exists() {
            make_whole(path, |unfinished| {
                Database::create(unfinished)
                    .map(drop)
                    .map_err(io::Error::other)
            })
            .map_err(|error| open(error.to_string()))?;
        }
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .open(path)
            .map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen => DurableError::InUse {
                    path: path.to_owned(),
                },
                other => open(other.to_string()),
            })?;
        let database = Arc::new(database);
        let (jobs, queue) = mpsc::unbounded_channel();
        let writer = database.clone();
        thread::Builder::new()
            .name("durable".to_owned())
            .spawn(move || write_all(&writer, queue))
            .map_err(|error| open(error.to_string()))?;
        Ok(Self { database, jobs })
    }

    /// Writes, and returns once it is on the disk.
    ///
    /// # Errors
    /// When the disk or the file fails; then nothing was written.
    pub async fn write<T, F>(&self, change: F) -> Result<T, DurableError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    {
        let (answer, done) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let outcome = change(transaction)?;
            Ok(Box::new(move |committed: Result<(), DurableError>| {
                // Whoever asked may be gone: the write stands all the same.
                let _ = answer.send(committed.map(|()| outcome));
            }))
        });
        self.jobs.send(job).map_err(|_| DurableError::Closed)?;
        done.await.map_err(|_| DurableError::Closed)?
    }

    /// A view of what is written by now.
    ///
    /// # Errors
    /// When the file fails.
    pub fn read(&self) -> Result<ReadTransaction, redb::Error> {
        use redb::ReadableDatabase;
        Ok(self.database.begin_read()?)
    }
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Durable").finish_non_exhaustive()
    }
}

/// Makes a file that is there as a whole or not at all, whenever this process is killed: `write`
/// makes it under another name first. What somebody else has made in the meantime stays.
///
/// # Errors
/// When `write` fails, or the directory.
pub fn make_whole(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let extension = format!("{}.new", store::random::hex::<4>());
    let unfinished = path.with_added_extension(extension);
    let made = write(&unfinished).and_then(|()| match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    });
    // Left behind it would only be litter.
    let _ = fs::remove_file(&unfinished);
    made?;
    // What is written into a file whose name is lost is lost as well.
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn write_all(database: &Database, mut queue: mpsc::UnboundedReceiver<Job>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        commit(database, batch.drain(..));
    }
}

/// One transaction for the whole batch: if one write fails, none happened and all are told.
fn commit(database: &Database, batch: impl Iterator<Item = Job>) {
    let mut finishes = Vec::new();
    let outcome = (|| {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        for job in batch {
            finishes.push(job(&transaction)?);
        }
        transaction.commit()?;
        Ok(())
    })();
    let outcome = outcome.map_err(|error: redb::Error| DurableError::from(error));
    for finish in finishes {
        finish(outcome.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::scratch_directory;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_file_is_whole_or_not_there() {
        let directory = scratch_directory();
        let path = directory.join("store.redb");
        let broken = make_whole(&path, |unfinished| {
            fs::write(unfinished, "half")?;
            assert!(!path.exists());
            Err(io::Error::other("killed"))
        });
        assert!(broken.is_err());
        assert!(names(&directory).is_empty());
        for content in ["first", "second"] {
            make_whole(&path, |unfinished| fs::write(unfinished, content)).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(names(&directory), ["store.redb"]);
        fs::remove_dir_all(directory).unwrap();
    }
}
