//! Disk space that is reserved for responses of GHL. A separate file holds it and is deleted when the disk is
//! full.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A response is a few kilobytes, and a commit writes it and the tree pages above it. This is enough for the
/// responses of all refreshes in flight when the disk fills up.
const RESERVE_BYTES: u32 = 256 * 1024;
/// How often a failed reservation is retried.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Held,
    /// Not reserved; the time of the last attempt.
    Missing(Option<Instant>),
}

impl Reserve {
    pub(super) fn beside(path: &Path) -> Self {
        Self {
            path: path.with_added_extension("reserve"),
            state: Mutex::new(State::Missing(None)),
        }
    }

    /// Whether the space is reserved. Tries to reserve it if not.
    pub(super) fn hold(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = match *state {
            State::Held if self.path.exists() => return true,
            State::Held => None,
            State::Missing(tried) => tried,
        };
        if tried.is_some_and(|tried| tried.elapsed() < RETRY_INTERVAL) {
            return false;
        }
        // On a full disk an attempt would take the space of the last responses.
        let may_try = self.path.exists() || has_room(&self.path);
        let is_held = may_try && allocate(&self.path).is_ok();
        if may_try && !is_held {
            // A partial reservation is useless.
            let _ = fs::remove_file(&self.path);
        }
        *state = if is_held {
            State::Held
        } else {
            State::Missing(Some(Instant::now()))
        };
        is_held
    }

    /// Frees the space. This includes the reserve of an earlier process, because the disk may be full while
    /// the database is opened.
    pub(super) fn release(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State::Missing(Some(Instant::now()));
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether as much space would be left after the reservation.
#[cfg(target_os = "linux")]
fn has_room(path: &Path) -> bool {
    let directory = path.parent().unwrap_or(path);
    // If the free space is unknown, the allocation decides.
    nix::sys::statfs::statfs(directory).map_or(true, |found| {
        let block = u64::try_from(found.block_size()).unwrap_or(1);
        found.blocks_available().saturating_mul(block) >= 2 * u64::from(RESERVE_BYTES)
    })
}

#[cfg(not(target_os = "linux"))]
fn has_room(_: &Path) -> bool {
    true
}

#[cfg(target_os = "linux")]
fn allocate(path: &Path) -> io::Result<()> {
    let file = reserve_file(path)?;
    nix::fcntl::posix_fallocate(&file, 0, i64::from(RESERVE_BYTES))?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn allocate(path: &Path) -> io::Result<()> {
    use std::io::Write;
    let zeros = vec![0; usize::try_from(RESERVE_BYTES).unwrap_or_default()];
    let mut file = reserve_file(path)?;
    file.write_all(&zeros)?;
    file.sync_all()
}

fn reserve_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}
