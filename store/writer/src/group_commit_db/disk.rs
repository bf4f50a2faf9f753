//! The file under a database. It reports its first error, and it reserves space for one more response of GHL
//! before a refresh token is spent.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};
use tokio::sync::watch;

use super::reserve::Reserve;

/// Why no refresh token may be spent: GHL's response might not be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The file failed. This is final; only a new process opens it again.
    #[error("{} failed: {reason}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// The first error in words.
        reason: String,
    },
    /// The path names no file or another one.
    #[error(
        "{} was removed or replaced while it is in use: this process still has its content, and \
         no other process does; restore the file before you restart",
        path.display()
    )]
    Removed {
        /// The path of the file.
        path: PathBuf,
    },
    /// No space can be reserved.
    #[error("no space is left for a response of GHL beside {}: free some disk space", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
}

/// The state of the file.
pub type DbHealth = Result<(), NotReady>;

#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    /// Device and inode of the open file.
    identity: (u64, u64),
    reserve: Reserve,
    health: watch::Sender<DbHealth>,
}

impl Disk {
    /// Opens an existing file.
    pub(super) fn open(path: &Path) -> io::Result<(Arc<Self>, File)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let metadata = file.metadata()?;
        if metadata.len() == 0 {
            // The database would initialize an empty file as a new one.
            let reason = "the file is empty: it was truncated";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let disk = Self {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            reserve: Reserve::beside(path),
            health: watch::Sender::new(Ok(())),
        };
        Ok((Arc::new(disk), file))
    }

    /// Whether another response can be stored. Costs two calls of `stat`.
    pub(super) fn ready_to_spend(&self) -> DbHealth {
        let found = self.check();
        self.set_health(found);
        self.health.borrow().clone()
    }

    pub(super) fn health(&self) -> watch::Receiver<DbHealth> {
        self.health.subscribe()
    }

    pub(super) fn fail(&self, reason: &impl std::fmt::Display) {
        self.set_health(Err(NotReady::Failed {
            path: self.path.clone(),
            reason: reason.to_string(),
        }));
    }

    fn check(&self) -> DbHealth {
        let path = || self.path.clone();
        let named = fs::metadata(&self.path);
        let is_there = named.is_ok_and(|named| (named.dev(), named.ino()) == self.identity);
        if !is_there {
            return Err(NotReady::Removed { path: path() });
        }
        if !self.reserve.hold() {
            return Err(NotReady::Full { path: path() });
        }
        Ok(())
    }

    /// Changes the state. A file that has failed stays failed.
    fn set_health(&self, found: DbHealth) {
        self.health.send_if_modified(|known| {
            let is_final = matches!(known, Err(NotReady::Failed { .. }));
            let is_changed = !is_final && *known != found;
            if is_changed {
                *known = found;
            }
            is_changed
        });
    }

    /// Records that the disk is full, and frees the reserved space.
    fn use_reserve(&self) {
        self.set_health(Err(NotReady::Full {
            path: self.path.clone(),
        }));
        self.reserve.release();
    }

    fn record_error<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &outcome {
            self.fail(error);
        }
        outcome
    }
}

/// The file as the database accesses it.
#[derive(Debug)]
pub(super) struct WatchedFile {
    file: FileBackend,
    disk: Arc<Disk>,
}

impl WatchedFile {
    pub(super) fn new(file: File, disk: Arc<Disk>) -> Result<Self, DatabaseError> {
        let file = FileBackend::new(file)?;
        Ok(Self { file, disk })
    }

    /// Runs `change`. If it fails because the disk is full, frees the reserved space and runs it once more.
    fn with_reserve(&self, change: impl Fn(&FileBackend) -> io::Result<()>) -> io::Result<()> {
        let outcome = match change(&self.file) {
            Err(error) if is_full(&error) => {
                self.disk.use_reserve();
                change(&self.file)
            }
            outcome => outcome,
        };
        self.disk.record_error(outcome)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl StorageBackend for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.disk.record_error(self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.record_error(self.file.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with_reserve(|file| file.set_len(len))
    }

    /// No retry, because after a failed sync the kernel may have dropped the unwritten data.
    fn sync_data(&self) -> io::Result<()> {
        self.disk.record_error(self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with_reserve(|file| file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::factory::scratch_directory;

    fn watched(directory: &Path) -> (Arc<Disk>, WatchedFile) {
        let path = directory.join("journal.redb");
        fs::write(&path, "content").unwrap();
        let (disk, file) = Disk::open(&path).unwrap();
        assert_eq!(disk.ready_to_spend(), Ok(()));
        let file = WatchedFile::new(file, disk.clone()).unwrap();
        (disk, file)
    }

    fn full() -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn full_disk_stores_one_more_response_and_then_fails() {
        let directory = scratch_directory();
        let (disk, file) = watched(&directory);
        let reserve = directory.join("journal.redb.reserve");
        assert!(fs::metadata(&reserve).unwrap().len() >= 256 * 1024);
        let tries = Cell::new(0);
        let written = file.with_reserve(|_| {
            tries.set(tries.get() + 1);
            if reserve.exists() { full() } else { Ok(()) }
        });
        assert!(written.is_ok() && tries.get() == 2);
        let health = disk.health();
        assert!(matches!(*health.borrow(), Err(NotReady::Full { .. })));
        assert!(matches!(disk.ready_to_spend(), Err(NotReady::Full { .. })));

        assert!(file.with_reserve(|_| full()).is_err());
        assert!(matches!(*health.borrow(), Err(NotReady::Failed { .. })));
        let failed = disk.ready_to_spend();
        assert!(matches!(failed, Err(NotReady::Failed { .. })), "{failed:?}");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn error_other_than_full_disk_is_final() {
        let directory = scratch_directory();
        let (disk, file) = watched(&directory);
        let tries = Cell::new(0);
        let written = file.with_reserve(|_| {
            tries.set(tries.get() + 1);
            Err(io::Error::other("medium error"))
        });
        assert!(written.is_err() && tries.get() == 1);
        let failed = disk.ready_to_spend().unwrap_err();
        assert!(failed.to_string().contains("medium error"), "{failed}");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn removed_or_replaced_file_is_not_ready() {
        let directory = scratch_directory();
        let (disk, _file) = watched(&directory);
        let (path, aside) = (directory.join("journal.redb"), directory.join("aside"));
        fs::rename(&path, &aside).unwrap();
        let removed = disk.ready_to_spend();
        assert!(matches!(removed, Err(NotReady::Removed { .. })));
        fs::write(&path, "another").unwrap();
        assert_eq!(disk.ready_to_spend(), removed);
        fs::rename(&aside, &path).unwrap();
        assert_eq!(disk.ready_to_spend(), Ok(()));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn empty_file_is_rejected() {
        let directory = scratch_directory();
        let path = directory.join("store.redb");
        fs::write(&path, "").unwrap();
        assert!(Disk::open(&path).is_err());
        fs::remove_dir_all(directory).unwrap();
    }
}
