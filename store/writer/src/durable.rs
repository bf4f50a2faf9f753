//! A database file in this process, with group commit: writes that arrive while the disk is busy
//! share its next sync.
//!
//! After an I/O error the database refuses everything, for ever. Its owner is told of the first
//! one ([`Durable::health`]) and ends the process: a new one opens the file again.

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

pub use disk::{Health, NotReady};

/// How much of a file is kept in memory.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Writes that share one sync at most.
const BATCH: usize = 256;
/// Half of what a write to a simulated disk takes.
#[cfg(feature = "simulation")]
const DISK: std::time::Duration = std::time::Duration::from_millis(1);

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
    writer: Writer,
}

/// What carries out the writes.
#[derive(Clone)]
enum Writer {
    Thread {
        jobs: mpsc::UnboundedSender<Job>,
        disk: Arc<Disk>,
    },
    /// The task that asks, on a disk that is only simulated.
    #[cfg(feature = "simulation")]
    Inline(Arc<watch::Sender<Health>>),
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
        let (disk, file) = Disk::open(path).map_err(|error| open(error.to_string()))?;
        let file = WatchedFile::new(file, disk.clone()).map_err(|error| open(error.to_string()))?;
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(file)
            .map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen => DurableError::InUse {
                    path: path.to_owned(),
                },
                other => open(other.to_string()),
            })?;
        // Not before the database has locked the file: another process may be using it.
        let _ = disk.ready_to_spend();
        let database = Arc::new(database);
        let (jobs, queue) = mpsc::unbounded_channel();
        let writer = (database.clone(), disk.clone());
        thread::Builder::new()
            .name("durable".to_owned())
            .spawn(move || write_all(&writer.0, &writer.1, queue))
            .map_err(|error| open(error.to_string()))?;
        Ok(Self {
            database,
            writer: Writer::Thread { jobs, disk },
        })
    }

    /// A file on a simulated disk. It is there for as long as a clone of it is, and no thread but the
    /// one that writes has a part in it.
    ///
    /// # Panics
    /// Never: memory takes what is written.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn simulated() -> Self {
        let memory = redb::backends::InMemoryBackend::new();
        let database = Database::builder()
            .create_with_backend(memory)
            .expect("memory takes what is written");
        Self {
            database: Arc::new(database),
            writer: Writer::Inline(Arc::new(watch::Sender::new(Ok(())))),
        }
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
        match &self.writer {
            Writer::Thread { jobs, .. } => jobs.send(job).map_err(|_| DurableError::Closed)?,
            #[cfg(feature = "simulation")]
            Writer::Inline(_) => {
                // A crash comes before the write, or between it and its acknowledgement.
                tokio::time::sleep(DISK).await;
                commit(&self.database, None, std::iter::once(job));
                tokio::time::sleep(DISK).await;
            }
        }
        done.await.map_err(|_| DurableError::Closed)?
    }

    /// Whether the file can take another answer of GHL: it has not failed, it is still the one
    /// that its name stands for, and there is space. Cheap.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn ready_to_spend(&self) -> Result<(), NotReady> {
        match &self.writer {
            Writer::Thread { disk, .. } => disk.ready_to_spend(),
            #[cfg(feature = "simulation")]
            Writer::Inline(health) => health.borrow().clone(),
        }
    }

    /// What is known about the file; changes with its first error.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        match &self.writer {
            Writer::Thread { disk, .. } => disk.health(),
            #[cfg(feature = "simulation")]
            Writer::Inline(health) => health.subscribe(),
        }
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

/// Whether what is written below this path is gone when the machine stops: on a tmpfs.
///
/// # Errors
/// When neither the path nor a directory above it can be examined.
#[cfg(target_os = "linux")]
pub fn is_in_memory(path: &Path) -> io::Result<bool> {
    use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
    const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
    let path = std::path::absolute(path)?;
    // It may not have been made yet.
    let there = path.ancestors().find(|path| path.exists());
    let kind = statfs(there.unwrap_or(&path))?.filesystem_type();
    Ok(kind == TMPFS_MAGIC || kind == RAMFS_MAGIC)
}

/// Other systems keep no files in memory unless they are told to.
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

/// One transaction for the whole batch: if one write fails, none happened and all are told.
fn commit(database: &Database, disk: Option<&Disk>, batch: impl Iterator<Item = Job>) {
    let mut finishes = Vec::new();
    let outcome = (|| {
        let mut transaction = database.begin_write()?;
        // A simulated disk is memory: there is nothing to sync.
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
        DurableError::from(error)
    });
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
