//! The data directory: where it may be, and what of it must be there before `up` starts.
//!
//! The first start makes the sealing keys, then the store, then a marker. A start that finds the
//! marker knows that there was a store: one that is gone was lost, and not yet to be made.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use service::config::Settings;
use store_writer::group_commit_db::{create_atomically, is_in_memory};

use crate::exit::Failure;
use crate::rings;

const STORE: &str = "store.redb";
const MARKER: &str = "store.made";

/// Reads whether a data directory in memory is allowed, and refuses one that is not.
pub(crate) fn check_disk(settings: &mut Settings<'_>, data_dir: &Path) {
    let is_allowed = settings.parse("EVERGREEN_ALLOW_TMPFS", false, "true or false");
    if !is_allowed && is_in_memory(data_dir).unwrap_or(false) {
        let directory = data_dir.display();
        settings.mistake(
            "EVERGREEN_DATA_DIR",
            format!(
                "is {directory}, on a tmpfs: what is written there is gone when the machine stops, \
                 and tokens with it. Name a directory on a disk, or set \
                 EVERGREEN_ALLOW_TMPFS=true to accept the loss"
            ),
        );
    }
}

/// What is in the data directory of `up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found<'a> {
    /// Key files that are not there; none where keys are settings.
    missing_keys: &'a [&'static str],
    has_store: bool,
    /// Whether an earlier start got as far as making the store.
    has_marker: bool,
}

/// What a start is to do first.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// Everything is there.
    Open,
    /// This is the first start, or the first one was cut short.
    Make,
    KeysLost,
    StoreLost,
}

fn decide(found: Found<'_>) -> Start {
    match (found.has_store, found.missing_keys, found.has_marker) {
        (true, [], _) => Start::Open,
        // The store is made after the keys.
        (true, _, _) => Start::KeysLost,
        (false, _, true) => Start::StoreLost,
        (false, _, false) => Start::Make,
    }
}

/// Makes the directory and its keys at the first start of `up`, and refuses to start where a part
/// of it was lost.
pub(crate) fn prepare(data_dir: &Path, keeps_keys: bool) -> Result<(), Failure> {
    make_private(data_dir)?;
    let missing_keys = if keeps_keys {
        rings::missing(data_dir)
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
        Start::Open => Ok(()),
        Start::Make if keeps_keys => rings::make(data_dir),
        Start::Make => Ok(()),
        Start::KeysLost => Err(Failure::Unavailable(format!(
            "{} is missing in {directory} beside {STORE}, and no token in the store can be read \
             without it. Restore the file from your backup. Without one, move {directory} away: \
             the next start makes an empty store, and every customer has to connect again",
            missing_keys.join(" and ")
        ))),
        Start::StoreLost => Err(Failure::Unavailable(format!(
            "{STORE} is missing in {directory}, and there was one: it holds all tokens. Restore \
             the file if it was moved. If it is lost, move {directory} away: the next start makes \
             an empty store, and every customer has to connect again"
        ))),
    }
}

/// Notes that the store was made: from now on it must be there.
pub(crate) fn mark(data_dir: &Path) -> Result<(), Failure> {
    let marker = data_dir.join(MARKER);
    if marker.exists() {
        return Ok(());
    }
    let made = create_atomically(&marker, |unfinished| File::create(unfinished)?.sync_all());
    made.map_err(|error| Failure::Unavailable(format!("{}: {error}", marker.display())))
}

/// The data directory, for its owner alone: it holds the sealing keys.
fn make_private(directory: &Path) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::Unavailable(format!("{}: {error}", directory.display()));
    if !directory.exists() {
        fs::create_dir_all(directory).map_err(failed)?;
        fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_was_cut_short_goes_on_and_a_loss_is_refused() {
        let both = ["access.keys", "refresh.keys"];
        let found = |missing_keys, has_store, has_marker| {
            decide(Found {
                missing_keys,
                has_store,
                has_marker,
            })
        };
        for missing in [&both[..], &both[1..], &[]] {
            assert_eq!(found(missing, false, false), Start::Make);
            assert_eq!(found(missing, false, true), Start::StoreLost);
        }
        for has_marker in [false, true] {
            assert_eq!(found(&[], true, has_marker), Start::Open);
            assert_eq!(found(&both[..1], true, has_marker), Start::KeysLost);
            assert_eq!(found(&both, true, has_marker), Start::KeysLost);
        }
    }
}
