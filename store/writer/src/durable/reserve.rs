//! Space that is kept free for answers of GHL: a file of its own, whose blocks are given back when
//! the disk is full.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An answer is a few kilobytes; a commit writes it and the pages of the tree above it. This is
/// enough for the answers of all refreshes that are in flight when the disk fills up.
const BYTES: u32 = 256 * 1024;
/// How often it is tried to reserve again.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Held,
    /// Not held; when it was last tried.
    Missing(Option<Instant>),
}

impl Reserve {
    pub(super) fn beside(path: &Path) -> Self {
        Self {
            path: path.with_added_extension("reserve"),
            state: Mutex::new(State::Missing(None)),
        }
    }

    /// Whether the space is reserved; reserves it if it is not.
    pub(super) fn hold(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = match *state {
            State::Held if self.path.exists() => return true,
            State::Held => None,
            State::Missing(tried) => tried,
        };
        if tried.is_some_and(|tried| tried.elapsed() < RETRY) {
            return false;
        }
        // While the disk is full a try would take what the last answers need.
        let may_try = self.path.exists() || has_room(&self.path);
        let is_held = may_try && allocate(&self.path).is_ok();
        if may_try && !is_held {
            // A part of it would be of use to nobody.
            let _ = fs::remove_file(&self.path);
        }
        *state = if is_held {
            State::Held
        } else {
            State::Missing(Some(Instant::now()))
        };
        is_held
    }

    /// Gives the space up, if there is any. It also takes what an earlier process has left: the
    /// disk may be full while the database is opened.
    pub(super) fn release(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State::Missing(Some(Instant::now()));
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the space could be reserved with as much left.
#[cfg(target_os = "linux")]
fn has_room(path: &Path) -> bool {
    let directory = path.parent().unwrap_or(path);
    // Where nothing is known, allocating tells.
    nix::sys::statfs::statfs(directory).map_or(true, |found| {
        let block = u64::try_from(found.block_size()).unwrap_or(1);
        found.blocks_available().saturating_mul(block) >= 2 * u64::from(BYTES)
    })
}

#[cfg(not(target_os = "linux"))]
fn has_room(_: &Path) -> bool {
    true
}

#[cfg(target_os = "linux")]
fn allocate(path: &Path) -> io::Result<()> {
    let file = reserve_file(path)?;
    nix::fcntl::posix_fallocate(&file, 0, i64::from(BYTES))?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn allocate(path: &Path) -> io::Result<()> {
    use std::io::Write;
    let zeros = vec![0; usize::try_from(BYTES).unwrap_or_default()];
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
