//! A database file with group commit: writes that arrive during a sync share the next one.
//!
//! After an I/O error the database refuses every operation until the file is opened again. The owner learns
//! of the first error from [`GroupCommitDb::health`] and ends the process. A new process opens the file
//! again.

mod disk;
mod reserve;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use redb::{Database, Durability, ReadTransaction, WriteTransaction};
use tokio::sync::{mpsc, oneshot, watch};

use disk::{Disk, WatchedFile};

pub use disk::{DbHealth, NotReady};

/// The memory for cached pages of a file.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// The most writes that share one sync.
const BATCH: usize = 256;
/// Half of the time that a write to a simulated disk takes.
#[cfg(feature = "simulation")]
const SIMULATED_LATENCY: std::time::Duration = std::time::Duration::from_millis(1);

/// Why an operation on a database file failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// Another process has the file open.
    #[error(
        "{path} is in use by another process: stop it, or give this one a directory of its own"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened or created.
    #[error("cannot open {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The error in words.
        reason: String,
    },
    /// A write, a sync or a read failed.
    #[error("the database failed: {0}")]
    Failed(String),
    /// The thread of the database has ended.
    #[error("the database is closed")]
    Closed,
}

impl From<redb::Error> for DbError {
    fn from(error: redb::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

type Finish = Box<dyn FnOnce(Result<(), DbError>) + Send>;
type Job = Box<dyn FnOnce(&WriteTransaction) -> Result<Finish, redb::Error> + Send>;

/// An open database file. Cheap to clone.
#[derive(Clone)]
pub struct GroupCommitDb {
    database: Arc<Database>,
    writer: Writer,
}

/// Carries out the writes.
#[derive(Clone)]
enum Writer {
    Thread {
        jobs: mpsc::UnboundedSender<Job>,
        disk: Arc<Disk>,
    },
    /// The calling task, on a simulated disk.
    #[cfg(feature = "simulation")]
    Inline(Arc<watch::Sender<DbHealth>>),
}

impl GroupCommitDb {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        let open = |reason: String| DbError::Open {
            path: path.to_owned(),
            reason,
        };
        if !path.exists() {
            create_atomically(path, |unfinished| {
                Database::create(unfinished)
                    .map(drop)
                    .map_err(io::Error::other)
            })
            .map_err(|error| open(error.to_string()))?;
        }
        let (disk, file) = Disk::open(path).map_err(|error| open(error.to_string()))?;
        let file = WatchedFile::new(file, disk.clone()).map_err(|error| open(error.to_string()))?;
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(file)
            .map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen => DbError::InUse {
                    path: path.to_owned(),
                },
                other => open(other.to_string()),
            })?;
        // Not before the database has locked the file, because another process may be using it.
        let _ = disk.ready_to_spend();
        let database = Arc::new(database);
        let (jobs, queue) = mpsc::unbounded_channel();
        let writer = (database.clone(), disk.clone());
        thread::Builder::new()
            .name("group-commit".to_owned())
            .spawn(move || write_all(&writer.0, &writer.1, queue))
            .map_err(|error| open(error.to_string()))?;
        Ok(Self {
            database,
            writer: Writer::Thread { jobs, disk },
        })
    }

    /// A file on a simulated disk. It exists as long as a clone of it. Only the writing thread is involved.
    ///
    /// # Panics
    /// Never. Memory accepts every write.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn simulated() -> Self {
        let memory = redb::backends::InMemoryBackend::new();
        let database = Database::builder()
            .create_with_backend(memory)
            .expect("memory accepts every write");
        Self {
            database: Arc::new(database),
            writer: Writer::Inline(Arc::new(watch::Sender::new(Ok(())))),
        }
    }

    /// Runs a write, and returns once it is synced.
    ///
    /// # Errors
    /// When the disk or the file fails. Nothing is written then.
    pub async fn write<T, F>(&self, change: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    {
        let (answer, done) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let outcome = change(transaction)?;
            Ok(Box::new(move |committed: Result<(), DbError>| {
                // The caller may be gone; the write is done anyway.
                let _ = answer.send(committed.map(|()| outcome));
            }))
        });
        match &self.writer {
            Writer::Thread { jobs, .. } => jobs.send(job).map_err(|_| DbError::Closed)?,
            #[cfg(feature = "simulation")]
            Writer::Inline(_) => {
                // A simulated crash comes before the write, or between the write and its acknowledgement.
                tokio::time::sleep(SIMULATED_LATENCY).await;
                commit(&self.database, None, std::iter::once(job));
                tokio::time::sleep(SIMULATED_LATENCY).await;
            }
        }
        done.await.map_err(|_| DbError::Closed)?
    }

    /// Whether the file can store another response of GHL. It has not failed, its path still names it, and
    /// space is reserved. Cheap.
    ///
    /// # Errors
    /// The reason why not.
    pub fn ready_to_spend(&self) -> Result<(), NotReady> {
        match &self.writer {
            Writer::Thread { disk, .. } => disk.ready_to_spend(),
            #[cfg(feature = "simulation")]
            Writer::Inline(health) => health.borrow().clone(),
        }
    }

    /// The state of the file. Changes at the first error.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<DbHealth> {
        match &self.writer {
            Writer::Thread { disk, .. } => disk.health(),
            #[cfg(feature = "simulation")]
            Writer::Inline(health) => health.subscribe(),
        }
    }

    /// A consistent view of all completed writes.
    ///
    /// # Errors
    /// When the file fails.
    pub fn read(&self) -> Result<ReadTransaction, redb::Error> {
        use redb::ReadableDatabase;
        Ok(self.database.begin_read()?)
    }
}

impl std::fmt::Debug for GroupCommitDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupCommitDb").finish_non_exhaustive()
    }
}

/// Creates a file atomically: it exists as a whole or not at all, even if this process is killed. `write`
/// gets a temporary path. A file that another process created meanwhile stays.
///
/// # Errors
/// When `write` or an operation on the directory fails.
pub fn create_atomically(
    path: &Path,
    write: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let extension = format!("{}.new", store::random::hex::<4>());
    let unfinished = path.with_added_extension(extension);
    let made = write(&unfinished).and_then(|()| match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    });
    // An error leaves a useless file behind.
    let _ = fs::remove_file(&unfinished);
    made?;
    // Without this sync a crash could lose the directory entry, and the file with it.
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Whether files below this path are lost when the machine stops: the path is on a tmpfs or ramfs.
///
/// # Errors
/// When neither the path nor a directory above it can be examined.
#[cfg(target_os = "linux")]
pub fn is_in_memory(path: &Path) -> io::Result<bool> {
    use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
    const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
    let path = std::path::absolute(path)?;
    // The path may not exist yet.
    let there = path.ancestors().find(|path| path.exists());
    let kind = statfs(there.unwrap_or(&path))?.filesystem_type();
    Ok(kind == TMPFS_MAGIC || kind == RAMFS_MAGIC)
}

/// Other systems keep files in memory only if an operator configured that.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub fn is_in_memory(_: &Path) -> io::Result<bool> {
    Ok(false)
}

fn write_all(database: &Database, disk: &Disk, mut queue: mpsc::UnboundedReceiver<Job>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        commit(database, Some(disk), batch.drain(..));
    }
}

/// Commits one transaction for the whole batch. If one write fails, none is applied and all callers get the
/// error.
fn commit(database: &Database, disk: Option<&Disk>, batch: impl Iterator<Item = Job>) {
    let mut finishes = Vec::new();
    let outcome = (|| {
        let mut transaction = database.begin_write()?;
        // A simulated disk is memory, so there is nothing to sync.
        let durability = disk.map_or(Durability::None, |_| Durability::Immediate);
        transaction.set_durability(durability)?;
        for job in batch {
            finishes.push(job(&transaction)?);
        }
        transaction.commit()?;
        Ok(())
    })();
    let outcome = outcome.map_err(|error: redb::Error| {
        if let Some(disk) = disk {
            disk.fail(&error);
        }
        DbError::from(error)
    });
    for finish in finishes {
        finish(outcome.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factory::scratch_directory;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn file_is_created_as_a_whole_or_not_at_all() {
        let directory = scratch_directory();
        let path = directory.join("store.redb");
        let broken = create_atomically(&path, |unfinished| {
            fs::write(unfinished, "half")?;
            assert!(!path.exists());
            Err(io::Error::other("killed"))
        });
        assert!(broken.is_err());
        assert!(names(&directory).is_empty());
        for content in ["first", "second"] {
            create_atomically(&path, |unfinished| fs::write(unfinished, content)).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(names(&directory), ["store.redb"]);
        fs::remove_dir_all(directory).unwrap();
    }
}
