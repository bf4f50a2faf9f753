//! The audit log outside the store: JSON lines in a file, or on the standard output.
//!
//! Lines are not synced to the disk. A crash of the machine may lose the last ones, which the store has.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use store::audit::Entry;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::error;

use crate::metrics;

/// How long a request waits for the disk.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the audit log is written, besides the store (`EVERGREEN_AUDIT_LOG`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditLog {
    /// The store alone has it.
    Off,
    /// The standard output.
    Stdout,
    /// A file, for its owner alone.
    File(PathBuf),
}

impl From<Option<String>> for AuditLog {
    fn from(setting: Option<String>) -> Self {
        match setting.as_deref() {
            None => Self::Off,
            Some("stdout") => Self::Stdout,
            Some(path) => Self::File(path.into()),
        }
    }
}

/// The file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("EVERGREEN_AUDIT_LOG: {path} cannot be opened")]
pub struct AuditLogError {
    path: PathBuf,
    source: io::Error,
}

/// Writes lines. Clones write to the same place.
#[derive(Debug, Clone)]
pub(super) struct LineLog(Option<Arc<Mutex<Sink>>>);

#[derive(Debug)]
enum Sink {
    Stdout,
    File {
        path: PathBuf,
        /// `None` after a failure.
        open: Option<File>,
    },
}

impl LineLog {
    /// Opens the file, or creates it.
    pub(super) fn open(log: &AuditLog) -> Result<Self, AuditLogError> {
        let sink = match log {
            AuditLog::Off => return Ok(Self(None)),
            AuditLog::Stdout => Sink::Stdout,
            AuditLog::File(path) => {
                let opened = open(path).map_err(|source| AuditLogError {
                    path: path.clone(),
                    source,
                })?;
                Sink::File {
                    path: path.clone(),
                    open: Some(opened),
                }
            }
        };
        Ok(Self(Some(Arc::new(Mutex::new(sink)))))
    }

    /// Writes entries. A failure is logged and counted.
    pub(super) async fn write<'e>(&self, entries: impl IntoIterator<Item = &'e Entry>) {
        let Self(Some(sink)) = self else {
            return;
        };
        let lines: Vec<String> = entries.into_iter().map(Entry::to_json).collect();
        if lines.is_empty() {
            return;
        }
        let (count, text) = (lines.len(), lines.join("\n") + "\n");
        let sink = sink.clone();
        let writing = async {
            // The lock goes with the write, so a disk that hangs takes one thread only.
            let mut sink = sink.lock_owned().await;
            let written = tokio::task::spawn_blocking(move || sink.write(&text)).await;
            written.unwrap_or_else(|ended| Err(io::Error::other(ended)))
        };
        let late = |_| Err(io::ErrorKind::TimedOut.into());
        if let Err(error) = timeout(PATIENCE, writing).await.unwrap_or_else(late) {
            metrics::audit_lost("file", count);
            error!(%error, entries = count, "entries were not written to EVERGREEN_AUDIT_LOG");
        }
    }
}

impl Sink {
    fn write(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes())?;
                out.flush()
            }
            Self::File { path, open: slot } => {
                let mut file = match slot.take().filter(|file| is_at(file, path)) {
                    Some(file) => file,
                    None => open(path)?,
                };
                // Not put back after a failure: opening it again ends a line that was written in part.
                file.write_all(text.as_bytes())?;
                *slot = Some(file);
                Ok(())
            }
        }
    }
}

/// Whether the file is still the one at this path. Log rotation moves it away.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |it: &fs::Metadata| (it.dev(), it.ino());
    let (open, there) = (file.metadata(), fs::metadata(path));
    matches!((open, there), (Ok(open), Ok(there)) if identity(&open) == identity(&there))
}

/// Opens the file for appending, at the begin of a line.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let mut file = options.open(path)?;
    if !ends_with_a_line(&mut file).unwrap_or(true) {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

fn ends_with_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use store::Timestamp;
    use store::audit::{Action, By};

    use super::*;

    /// A directory that is removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let name = format!("evergreen-audit-{}", store::random::hex::<8>());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn entry() -> Entry {
        Entry::new(Timestamp::from_millis(0), Action::KeyCreated, By::Operator)
    }

    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        text.lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn entries_are_lines_of_a_file_for_its_owner() {
        let directory = Directory::new();
        let path = directory.0.join("audit.log");
        let log = LineLog::open(&AuditLog::File(path.clone())).unwrap();
        let entries = [entry(), entry()];
        log.write(&entries).await;
        log.write([]).await;
        assert_eq!(lines(&path), [entries[0].to_json(), entries[1].to_json()]);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn moved_file_is_opened_anew() {
        let directory = Directory::new();
        let (path, moved) = (
            directory.0.join("audit.log"),
            directory.0.join("audit.log.1"),
        );
        let log = LineLog::open(&AuditLog::File(path.clone())).unwrap();
        for number in 1..=3 {
            log.write(&[entry()]).await;
            assert_eq!(lines(&path).len(), 1, "{number}");
            fs::rename(&path, &moved).unwrap();
        }
        log.write(&[entry()]).await;
        assert_eq!((lines(&path).len(), lines(&moved).len()), (1, 1));
    }

    #[tokio::test]
    async fn failed_write_is_followed_by_whole_lines() {
        let directory = Directory::new();
        let path = directory.0.join("sub/audit.log");
        assert!(LineLog::open(&AuditLog::File(path.clone())).is_err());
        fs::create_dir(directory.0.join("sub")).unwrap();
        let log = LineLog::open(&AuditLog::File(path.clone())).unwrap();
        fs::remove_dir_all(directory.0.join("sub")).unwrap();
        log.write(&[entry()]).await;
        fs::create_dir(directory.0.join("sub")).unwrap();
        // As a process leaves it that died within a write.
        fs::write(&path, "{\"id\":").unwrap();
        let entry = entry();
        log.write([&entry]).await;
        assert_eq!(lines(&path), ["{\"id\":", &entry.to_json()]);
    }

    #[test]
    fn setting_names_stdout_or_a_path() {
        let log = |text: &str| AuditLog::from(Some(text.to_owned()));
        assert_eq!(log("stdout"), AuditLog::Stdout);
        assert_eq!(
            log("/var/log/e.log"),
            AuditLog::File("/var/log/e.log".into())
        );
        assert_eq!(AuditLog::from(None), AuditLog::Off);
    }
}
