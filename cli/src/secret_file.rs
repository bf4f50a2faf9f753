//! Files with secrets in the data directory. Only their owner has access.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use store_writer::group_commit_db::create_atomically;

use crate::exit::Failure;

/// Creates a file with one line, whole or not at all. A file that exists is kept.
pub(crate) fn create(path: &Path, line: &SecretString) -> Result<(), Failure> {
    let created = create_atomically(path, |unfinished| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(unfinished)?;
        writeln!(file, "{}", line.expose_secret())?;
        // Sync it, because sealed tokens must not survive their key.
        file.sync_all()
    });
    created.map_err(|error| failed(path, &error))
}

/// The failure of one file.
pub(crate) fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Unavailable(format!("{}: {error}", path.display()))
}
