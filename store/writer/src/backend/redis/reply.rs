//! Converts Redis replies and errors.

use std::time::Duration;

use redis::{Cmd, ErrorKind, ServerErrorKind};
use store::connection::CommandError;
use store::{InstallationId, Timestamp};

use crate::backend::DuePoll;
use crate::check::ProbeError;
use crate::error::WriteError;

/// The first entries of a sorted set and their scores.
pub(super) type FirstEntries = Vec<(String, f64)>;

/// Reads the first entries of a sorted set and their scores.
pub(super) fn first_entries(key: &str, count: usize) -> Cmd {
    let mut command = redis::cmd("ZRANGE");
    command.arg(key).arg(0).arg(count - 1).arg("WITHSCORES");
    command
}

pub(super) fn all_or_error<T>(answers: Vec<Result<T, WriteError>>) -> Result<Vec<T>, WriteError> {
    answers.into_iter().collect()
}

/// The result of a poll from the partitions that answered. An error if none answered.
pub(super) fn due_poll(
    now: Timestamp,
    asked: &[u8],
    answers: Vec<Result<FirstEntries, WriteError>>,
) -> Result<DuePoll, WriteError> {
    let (mut scheduled, mut failed, mut missing) = (Vec::new(), None, 0);
    for (&partition, first_entries) in asked.iter().zip(answers) {
        match first_entries {
            Ok(first_entries) => {
                let times = first_entries
                    .iter()
                    .filter_map(|(_, score)| score_time(*score));
                scheduled.extend(times.map(|at| (partition, at)));
            }
            Err(error) => {
                missing += 1;
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if missing == asked.len() => Err(error),
        Some(_) | None => Ok(DuePoll {
            missing,
            ..DuePoll::of(scheduled, now)
        }),
    }
}

/// A score as a time. Scores are whole milliseconds far below 2^53, or infinite for "never".
pub(super) fn score_time(score: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
    score
        .is_finite()
        .then_some(Timestamp::from_millis(score as i64))
}

pub(super) fn timestamp((seconds, micros): (i64, i64)) -> Timestamp {
    Timestamp::from_millis(seconds * 1000 + micros / 1000)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn parse_ids(ids: &[String]) -> Vec<InstallationId> {
    ids.iter().filter_map(|id| id.parse().ok()).collect()
}

/// Converts an error of a probe; `meaning` applies if the server refused.
pub(super) fn probe_error(
    error: WriteError,
    meaning: impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> ProbeError,
) -> ProbeError {
    match error {
        WriteError::Refused(source) => meaning(source),
        WriteError::Unavailable(_)
        | WriteError::Unreadable { .. }
        | WriteError::Unwritable { .. }
        | WriteError::Contended(_)
        | WriteError::Unknown(_)
        | WriteError::Unconfirmed(_) => ProbeError::Unavailable(error),
    }
}

/// Distinguishes an unavailable server from one that refuses.
pub(super) fn classify(error: CommandError) -> WriteError {
    let error = match error {
        CommandError::Redis(error) => error,
        unavailable @ (CommandError::TimedOut | CommandError::NoMaster(_)) => {
            return WriteError::Unavailable(Box::new(unavailable));
        }
    };
    let is_refusal = match error.kind() {
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown => false,
            // READONLY, NOPERM, OOM, MISCONF and any other refusal of a server.
            _ => true,
        },
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => true,
        _ => false,
    };
    if is_refusal {
        WriteError::Refused(Box::new(error))
    } else {
        WriteError::Unavailable(Box::new(error))
    }
}
