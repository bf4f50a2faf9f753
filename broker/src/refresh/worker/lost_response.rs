//! Lost responses: requests them again, independently of the store, the lock nodes and other brokers.
//!
//! Usually the schedule retries a lost response every two seconds. The schedule needs a store that takes
//! writes, and a broker that claims an installation can hang. So each broker also retries what it lost
//! itself, and what it finds leased by another broker. Within its grace period GHL gives every request the
//! same response: one retry too many is harmless, one too few loses the installation.

use std::sync::Arc;
use std::time::Duration;

use ghl::Failure;
use http::StatusCode;
use service::shutdown::Shutdown;
use store::InstallationId;
use store::clock::Moment;
use store::record::Status;
use store_writer::installation::Installation;
use store_writer::journal::Entry;
use store_writer::writer::{Begun, Snapshot};
use tokio::time::sleep;
use tracing::warn;

use super::spend::{CallOutcome, late_failure};
use super::{InProgressGuard, SendPermission, Worker, lock};
use crate::metrics;
use crate::refresh::outcome::Outcome;

const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The schedule gets this long to retry first.
const SCHEDULE_HEAD_START: Duration = Duration::from_secs(3);

/// An attempt whose response was lost.
#[derive(Debug)]
pub(super) struct LostResponse {
    begun: Begun,
    /// Just before the attempt began.
    since: Moment,
    last_try: Moment,
}

/// Runs until shutdown. Retries lost responses that are not known to be recovered.
pub(crate) async fn run(worker: Arc<Worker>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(POLL_INTERVAL) => {}
        }
        // Take a slot first, because each response that leaves the queue is retried.
        while let Some(slot) = worker.try_retry_slot() {
            let Some(lost) = worker.next_due() else {
                break;
            };
            let worker = worker.clone();
            shutdown.spawn(async move {
                worker.retry_lost_response(lost).await;
                drop(slot);
            });
        }
    }
}

impl Worker {
    /// After a failed call: queues the attempt if GHL may have spent the token, removes it otherwise.
    pub(super) fn note_lost_response(&self, begun: &Begun, since: Moment, failure: &Failure) {
        let id = &begun.installation;
        let is_lost = may_be_spent(failure, begun.first_spent_at.is_some());
        if is_lost {
            metrics::lost_response();
        }
        let again = is_lost.then(|| begun.retry(since.elapsed())).flatten();
        let mut lost_responses = lock(&self.lost_responses);
        match again {
            Some(begun) => {
                let last_try = Moment::now();
                let lost = LostResponse {
                    begun,
                    since,
                    last_try,
                };
                lost_responses.insert(id.clone(), lost);
            }
            None => drop(lost_responses.remove(id)),
        }
    }

    /// Forgets a lost response that has been recovered.
    pub(super) fn clear_lost_response(&self, begun: &Begun) {
        lock(&self.lost_responses).remove(&begun.installation);
    }

    /// Also queues the lost response of another broker on this one. The other broker may hang while it
    /// holds the lease.
    pub(super) async fn adopt_lost_response(&self, id: &InstallationId) {
        let since = Moment::now();
        if let Ok(Some(known)) = self.writer.load(id).await
            && let Ok(Some(begun)) = self.writer.adopt_lost_response(&known, self.timing.grace)
        {
            self.requeue(begun, since);
        }
    }

    /// Takes the oldest lost response whose last try is long enough ago.
    fn next_due(&self) -> Option<LostResponse> {
        let mut lost_responses = lock(&self.lost_responses);
        let next_due = lost_responses
            .iter()
            .filter(|(_, lost)| lost.last_try.elapsed() >= SCHEDULE_HEAD_START);
        let (oldest, _) = next_due.min_by_key(|(_, lost)| lost.since)?;
        let oldest = oldest.clone();
        lost_responses.remove(&oldest)
    }

    async fn retry_lost_response(self: &Arc<Self>, lost: LostResponse) {
        let LostResponse { begun, since, .. } = lost;
        // The attempt of the schedule may be in progress, or its response on the way.
        let id = begun.installation.clone();
        let in_progress = InProgressGuard::begin(&self.in_progress, &id);
        let may_send = match self.send_permission(&id).await {
            SendPermission::Allowed | SendPermission::FinalRetry => true,
            SendPermission::Wait(_) => false,
        };
        if in_progress.is_none() || !may_send {
            return self.requeue(begun, since);
        }
        match self.writer.load(&begun.installation).await {
            Ok(None) => return,
            Ok(Some(known)) => match stored_state(&known, &begun) {
                StoredState::Resolved => return,
                StoredState::RetriedRecently => {
                    self.requeue(begun, since);
                    return;
                }
                StoredState::Open => {}
            },
            // The schedule does not work without the store either.
            Err(_) => {}
        }
        let Some(again) = begun.retry(since.elapsed()) else {
            return;
        };
        let entry = Entry::asked(
            again.intent.clone(),
            again.installation.clone(),
            again.link.generation,
            None,
        );
        if let Err(error) = self.journal.note(&entry).await {
            return self.stop_on_journal_error(&error);
        }
        let healthy_at = again.began_at + since.elapsed();
        match self.call(&again, since).await {
            CallOutcome::Response(response) => {
                match self
                    .handle_grant(&again, &entry, *response, healthy_at)
                    .await
                {
                    Outcome::Refreshed { .. } | Outcome::Journaled => {
                        warn!(installation = %again.installation, broker = self.name,
                        "a lost response was recovered in time, outside the schedule");
                    }
                    _ => {}
                }
            }
            // The schedule records what the failure means for the installation.
            CallOutcome::Failed(failure) => {
                self.note_lost_response(&again, since, &failure);
                self.close_failed_entry(&entry, &failure).await;
            }
            CallOutcome::Late(call) => {
                self.note_lost_response(&again, since, &late_failure());
                self.read_in_background(again, entry, call);
            }
        }
    }

    /// Puts a lost response back, unless the installation has one already.
    fn requeue(&self, begun: Begun, since: Moment) {
        let last_try = Moment::now();
        let mut lost_responses = lock(&self.lost_responses);
        let id = begun.installation.clone();
        lost_responses.entry(id).or_insert(LostResponse {
            begun,
            since,
            last_try,
        });
    }
}

/// Whether GHL may have spent the token.
fn may_be_spent(failure: &Failure, is_retry: bool) -> bool {
    match failure {
        Failure::Lost(_) | Failure::Unreadable { .. } | Failure::Foreign { .. } => true,
        Failure::Unavailable { status, .. } => *status != StatusCode::TOO_MANY_REQUESTS || is_retry,
        Failure::NotSent(_)
        | Failure::LocationInactive
        | Failure::ClientRejected(_)
        | Failure::BadRequest { .. } => is_retry,
        Failure::InvalidGrant(_) => false,
    }
}

/// The state of a lost response according to the store.
#[derive(Debug, PartialEq, Eq)]
enum StoredState {
    /// The token chain has advanced or ended.
    Resolved,
    /// A broker sent the token a moment ago.
    RetriedRecently,
    /// No broker has retried it recently.
    Open,
}

fn stored_state(known: &Snapshot, begun: &Begun) -> StoredState {
    let Snapshot { installation, now } = known;
    if installation.link().as_ref() != Some(&begun.link)
        || matches!(
            installation.access.status,
            Status::Invalid | Status::Revoked
        )
    {
        return StoredState::Resolved;
    }
    let Installation {
        intent, last_error, ..
    } = installation;
    let opened = intent.as_ref().map(|intent| intent.opened_at);
    let ended = last_error.as_ref().map(|error| error.at);
    match opened.max(ended) {
        Some(at) if now.since(at) < SCHEDULE_HEAD_START => StoredState::RetriedRecently,
        Some(_) | None => StoredState::Open,
    }
}
