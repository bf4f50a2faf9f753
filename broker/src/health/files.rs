//! Watches the files that hold GHL's responses: the journal, and the store of `evergreen up`.

use std::time::Duration;

use service::readiness::{Gate, Readiness};
use service::shutdown::Shutdown;
use store_writer::group_commit_db::{DbHealth, GroupCommitDb, NotReady};
use store_writer::{Journal, StoreWriter};
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::metrics;

/// How often a file is checked while it reports no change.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Watches each file until shutdown.
pub(crate) fn watch(
    journal: &Journal,
    writer: &StoreWriter,
    readiness: &Readiness,
    shutdown: &Shutdown,
) {
    let files = [
        ("journal", "journal", Some(journal.file())),
        ("store", "store_file", writer.file()),
    ];
    for (name, awaited, file) in files {
        if let Some(file) = file {
            let gate = readiness.gate(awaited, "the file has not been looked at yet");
            shutdown.spawn(follow(name, file.clone(), gate, shutdown.clone()));
        }
    }
}

/// The reaction to the health of a file.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Open,
    Close,
    Stop,
}

/// Decides what follows from a change of health from `known` to `found`.
fn decide(known: Option<&DbHealth>, found: &DbHealth) -> Step {
    match found {
        _ if known == Some(found) => Step::Nothing,
        Ok(()) => Step::Open,
        Err(NotReady::Failed { .. }) => Step::Stop,
        Err(NotReady::Removed { .. } | NotReady::Full { .. }) => Step::Close,
    }
}

async fn follow(name: &'static str, file: GroupCommitDb, gate: Gate, shutdown: Shutdown) {
    let mut health = file.health();
    let mut known = None;
    loop {
        health.mark_unchanged();
        let found = file.ready_to_spend();
        match decide(known.as_ref(), &found) {
            Step::Nothing => {}
            Step::Open => {
                gate.open();
                if known.is_some() {
                    info!(file = name, "the file can take responses of GHL again");
                }
            }
            Step::Close => {
                if let Err(reason) = &found {
                    gate.close(reason.to_string());
                    warn!(file = name, %reason, "no refresh token is spent");
                }
            }
            Step::Stop => {
                if let Err(reason) = &found {
                    gate.close(reason.to_string());
                    error!(file = name, %reason, "this process stops: only a new one can open the file again");
                }
                metrics::file_ready(name, false);
                shutdown.fail();
                return;
            }
        }
        metrics::file_ready(name, found.is_ok());
        known = Some(found);
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            _ = timeout(CHECK_INTERVAL, health.changed()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_file_stops_the_process() {
        let path = || "journal.redb".into();
        let full = Err(NotReady::Full { path: path() });
        let removed = Err(NotReady::Removed { path: path() });
        let reason = "disk".to_owned();
        let failed = Err(NotReady::Failed {
            path: path(),
            reason,
        });
        assert_eq!(decide(None, &Ok(())), Step::Open);
        assert_eq!(decide(Some(&Ok(())), &full), Step::Close);
        assert_eq!(decide(Some(&full), &full), Step::Nothing);
        assert_eq!(decide(Some(&full), &removed), Step::Close);
        assert_eq!(decide(Some(&removed), &Ok(())), Step::Open);
        assert_eq!(decide(Some(&Ok(())), &failed), Step::Stop);
    }
}
