//! The data directory: where it may be, and what it must contain before `up` starts.
//!
//! The first start creates the sealing keys, then the store, then a marker. If a later start finds the marker
//! without the store, the store was lost.

use std::fs::{self, DirBuilder, File, Metadata};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use service::config::Settings;
use store_writer::group_commit_db::{create_atomically, is_in_memory};

use crate::exit::Failure;
use crate::key_rings;

pub(crate) const STORE: &str = "store.redb";
pub(crate) const JOURNAL: &str = "journal.redb";
const MARKER: &str = "store.made";

/// Reads whether a data directory in memory is allowed, and refuses one that is not.
pub(crate) fn check_disk(settings: &mut Settings<'_>, data_dir: &Path) {
    let is_allowed = settings.parse("EVERGREEN_ALLOW_TMPFS", false, "true or false");
    if !is_allowed && is_in_memory(data_dir).unwrap_or(false) {
        let directory = data_dir.display();
        settings.mistake(
            "EVERGREEN_DATA_DIR",
            format!(
                "is {directory}, on a tmpfs: its files, and the tokens in them, are lost when the machine \
                 stops. Name a directory on a disk, or set EVERGREEN_ALLOW_TMPFS=true to accept the loss"
            ),
        );
    }
}

/// The contents of the data directory of `up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found<'a> {
    /// The missing key files. Empty if the keys are in the settings.
    missing_keys: &'a [&'static str],
    has_store: bool,
    /// Whether an earlier start created the store.
    has_marker: bool,
}

/// The first step of a start.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// Nothing: everything is present.
    Open,
    /// Create the directory: this is the first start, or the first one was interrupted.
    Create,
    KeysLost,
    StoreLost,
}

fn decide(found: Found<'_>) -> Start {
    match (found.has_store, found.missing_keys, found.has_marker) {
        (true, [], _) => Start::Open,
        // The store is created after the keys, so the keys were lost.
        (true, _, _) => Start::KeysLost,
        (false, _, true) => Start::StoreLost,
        (false, _, false) => Start::Create,
    }
}

/// Creates the directory and its keys at the first start of `up`. Refuses to start if a part of it was lost.
pub(crate) fn prepare(data_dir: &Path, keeps_keys: bool) -> Result<(), Failure> {
    create_private(data_dir)?;
    match look(data_dir, keeps_keys)? {
        Start::Create if keeps_keys => key_rings::create(data_dir),
        Start::Open | Start::Create | Start::KeysLost | Start::StoreLost => Ok(()),
    }
}

/// Whether the directory has a store already. Refuses one of which a part was lost. Changes nothing.
pub(crate) fn has_store(data_dir: &Path, keeps_keys: bool) -> Result<bool, Failure> {
    Ok(look(data_dir, keeps_keys)? == Start::Open)
}

fn look(data_dir: &Path, keeps_keys: bool) -> Result<Start, Failure> {
    let missing_keys = if keeps_keys {
        key_rings::missing(data_dir)
    } else {
        Vec::new()
    };
    let found = Found {
        missing_keys: &missing_keys,
        has_store: data_dir.join(STORE).exists(),
        has_marker: data_dir.join(MARKER).exists(),
    };
    let directory = data_dir.display();
    match decide(found) {
        start @ (Start::Open | Start::Create) => Ok(start),
        Start::KeysLost => Err(Failure::Unavailable(format!(
            "{} is missing in {directory} beside {STORE}, and no token in the store can be read \
             without it. Restore the file from your backup. Without one, move {directory} away: \
             the next start creates an empty store, and every customer has to connect again",
            missing_keys.join(" and ")
        ))),
        Start::StoreLost => Err(Failure::Unavailable(format!(
            "{STORE} is missing in {directory}, where an earlier start created it: it holds all tokens. \
             Restore the file if it was moved. If it is lost, move {directory} away: the next start creates \
             an empty store, and every customer has to connect again"
        ))),
    }
}

/// Writes the marker: from now on the store must exist.
pub(crate) fn mark(data_dir: &Path) -> Result<(), Failure> {
    let marker = data_dir.join(MARKER);
    if marker.exists() {
        return Ok(());
    }
    let made = create_atomically(&marker, |unfinished| File::create(unfinished)?.sync_all());
    made.map_err(|error| Failure::Unavailable(format!("{}: {error}", marker.display())))
}

/// Creates the data directory, with access for its owner alone. Refuses one to which others have access: it has keys and
/// tokens.
pub(crate) fn create_private(directory: &Path) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::Unavailable(format!("{}: {error}", directory.display()));
    if !directory.exists() {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
    }
    refuse_open(directory)
}

/// Refuses a directory to which other users have access.
pub(crate) fn refuse_open(directory: &Path) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::Unavailable(format!("{}: {error}", directory.display()));
    let mut open = Vec::new();
    let metadata = directory.metadata().map_err(failed)?;
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        open.push(format!("chown \"$(id -u)\" {}", directory.display()));
    }
    if is_open_to_others(&metadata) {
        open.push(format!("chmod 700 {}", directory.display()));
    }
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Of the file that a link leads to. One that leads nowhere is nobody's.
        let Ok(metadata) = fs::metadata(entry.path()) else {
            continue;
        };
        if metadata.is_file() && is_open_to_others(&metadata) {
            open.push(format!("chmod 600 {}", entry.path().display()));
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    Err(Failure::Unavailable(format!(
        "other users have access to {}, which holds keys and tokens. Change that:\n    {}",
        directory.display(),
        open.join("\n    ")
    )))
}

fn is_open_to_others(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_first_start_continues_and_a_loss_is_refused() {
        let both = ["access.keys", "refresh.keys"];
        let found = |missing_keys, has_store, has_marker| {
            decide(Found {
                missing_keys,
                has_store,
                has_marker,
            })
        };
        for missing in [&both[..], &both[1..], &[]] {
            assert_eq!(found(missing, false, false), Start::Create);
            assert_eq!(found(missing, false, true), Start::StoreLost);
        }
        for has_marker in [false, true] {
            assert_eq!(found(&[], true, has_marker), Start::Open);
            assert_eq!(found(&both[..1], true, has_marker), Start::KeysLost);
            assert_eq!(found(&both, true, has_marker), Start::KeysLost);
        }
    }
}
