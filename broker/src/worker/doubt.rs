//! A token whose answer was lost is asked for again by whoever lost it, or found its lease held by
//! another, whatever has become of the store, of the lock nodes, or of the broker that took the
//! installation over.
//!
//! Usually the schedule does that, every two seconds. It needs a store that takes writes, and whoever
//! claims an installation can hang with it. Inside its grace GHL gives everybody the same answer: one
//! repeat too many harms nothing, one too few loses the installation.

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

use super::{Called, Gate, UnderWay, Worker, late, lock};
use crate::outcome::Outcome;

const ROUND: Duration = Duration::from_millis(500);
/// The schedule's turn comes first.
const PATIENCE: Duration = Duration::from_secs(3);

/// An attempt whose answer was lost.
#[derive(Debug)]
pub(super) struct Doubt {
    begun: Begun,
    /// From before the begin of the attempt.
    since: Moment,
    tried: Moment,
}

/// Until shutdown: asks again for what was lost here and is not known to be found.
pub(crate) async fn run(worker: Arc<Worker>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(ROUND) => {}
        }
        // A slot first: what is taken out is tried.
        while let Some(slot) = worker.try_doubt_slot() {
            let Some(doubt) = worker.pressing() else {
                break;
            };
            let worker = worker.clone();
            shutdown.spawn(async move {
                worker.settle_doubt(doubt).await;
                drop(slot);
            });
        }
    }
}

impl Worker {
    /// Notes what is not known after a call that failed, and what is.
    pub(super) fn doubt(&self, begun: &Begun, since: Moment, failure: &Failure) {
        let id = &begun.installation;
        let again = may_be_spent(failure, begun.first_spent_at.is_some())
            .then(|| begun.retry(since.elapsed()))
            .flatten();
        let mut doubts = lock(&self.doubts);
        match again {
            Some(begun) => {
                let tried = Moment::now();
                let doubt = Doubt {
                    begun,
                    since,
                    tried,
                };
                doubts.insert(id.clone(), doubt);
            }
            None => drop(doubts.remove(id)),
        }
    }

    pub(super) fn no_doubt(&self, begun: &Begun) {
        lock(&self.doubts).remove(&begun.installation);
    }

    /// Makes the doubt about an installation this broker's, too: whoever holds the lease may hang with
    /// it.
    pub(super) async fn share_doubt(&self, id: &InstallationId) {
        let since = Moment::now();
        if let Ok(Some(known)) = self.writer.load(id).await
            && let Ok(Some(begun)) = self.writer.adopt_lost_response(&known, self.timing.grace)
        {
            self.put_back(begun, since);
        }
    }

    /// Takes out the oldest of what nobody has tried for a while.
    fn pressing(&self) -> Option<Doubt> {
        let mut doubts = lock(&self.doubts);
        let pressing = doubts
            .iter()
            .filter(|(_, doubt)| doubt.tried.elapsed() >= PATIENCE);
        let (oldest, _) = pressing.min_by_key(|(_, doubt)| doubt.since)?;
        let oldest = oldest.clone();
        doubts.remove(&oldest)
    }

    async fn settle_doubt(self: &Arc<Self>, doubt: Doubt) {
        let Doubt { begun, since, .. } = doubt;
        // The schedule's attempt may be under way, or its answer on the way.
        let id = begun.installation.clone();
        let under_way = UnderWay::begin(&self.under_way, &id);
        let may_send = match self.gate(&id).await {
            Gate::Free | Gate::LastChance => true,
            Gate::Wait(_) => false,
        };
        if under_way.is_none() || !may_send {
            return self.put_back(begun, since);
        }
        match self.writer.load(&begun.installation).await {
            Ok(None) => return,
            Ok(Some(known)) => match weigh(&known, &begun) {
                Weighed::Settled => return,
                Weighed::Tried => {
                    self.put_back(begun, since);
                    return;
                }
                Weighed::Open => {}
            },
            // All the more reason.
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
            return self.journal_failed(&error);
        }
        let well_at = again.began_at + since.elapsed();
        match self.call(&again, since).await {
            Called::Answered(answer) => {
                match self.granted(&again, &entry, *answer, well_at).await {
                    Outcome::Refreshed { .. } | Outcome::Journaled => {
                        warn!(installation = %again.installation, broker = self.name,
                        "an answer that was lost was repeated in time, outside the schedule");
                    }
                    _ => {}
                }
            }
            // What it means for the installation, the schedule finds out.
            Called::Failed(failure) => {
                self.doubt(&again, since, &failure);
                self.finish_failed(&entry, &failure).await;
            }
            Called::Late(call) => {
                self.doubt(&again, since, &late());
                self.read_late(again, entry, call);
            }
        }
    }

    fn put_back(&self, begun: Begun, since: Moment) {
        let tried = Moment::now();
        let mut doubts = lock(&self.doubts);
        let id = begun.installation.clone();
        doubts.entry(id).or_insert(Doubt {
            begun,
            since,
            tried,
        });
    }
}

/// Whether GHL may have spent the token by now.
fn may_be_spent(failure: &Failure, is_repeat: bool) -> bool {
    match failure {
        Failure::Lost(_) | Failure::Unreadable { .. } | Failure::Foreign { .. } => true,
        Failure::Unavailable { status, .. } => {
            *status != StatusCode::TOO_MANY_REQUESTS || is_repeat
        }
        Failure::NotSent(_)
        | Failure::LocationInactive
        | Failure::ClientRejected(_)
        | Failure::BadRequest { .. } => is_repeat,
        Failure::InvalidGrant(_) => false,
    }
}

/// What the store says of an attempt whose answer was lost.
#[derive(Debug, PartialEq, Eq)]
enum Weighed {
    /// The chain went on, or ended.
    Settled,
    /// Somebody asked GHL a moment ago.
    Tried,
    Open,
}

fn weigh(known: &Snapshot, begun: &Begun) -> Weighed {
    let Snapshot { installation, now } = known;
    if installation.link().as_ref() != Some(&begun.link)
        || matches!(
            installation.access.status,
            Status::Invalid | Status::Revoked
        )
    {
        return Weighed::Settled;
    }
    let Installation {
        intent, last_error, ..
    } = installation;
    let opened = intent.as_ref().map(|intent| intent.opened_at);
    let ended = last_error.as_ref().map(|error| error.at);
    match opened.max(ended) {
        Some(at) if now.since(at) < PATIENCE => Weighed::Tried,
        Some(_) | None => Weighed::Open,
    }
}
