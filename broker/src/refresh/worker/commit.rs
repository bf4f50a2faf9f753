//! From GHL's response to its commit: the journal, escrow, the store, and the clean-up afterwards.

use std::time::Duration;

use ghl::{Failure, Owner, TokenResponse};
use store::clock::Moment;
use store::{CompanyId, InstallationId, LocationId};
use store_writer::escrow::NoMajority;
use store_writer::group_commit_db::DbError;
use store_writer::journal::{Entry, Standing};
use store_writer::writer::{Begun, Committed};
use store_writer::{Grant, IntentId, WriteError};
use tracing::{error, info, warn};

use super::{Worker, lock};
use crate::metrics;
use crate::refresh::crash_point::{self, Step};
use crate::refresh::outcome::Outcome;
use crate::refresh::refresh_log;
use crate::refresh::spans;

/// How often an attempt tries to commit. After that, `recovery` commits from the journal.
const MAX_COMMIT_ATTEMPTS: u32 = 5;
/// How long a response stays in escrow after its commit. This is longer than a replaced master takes writes:
/// `min-replicas-max-lag` plus the time until Sentinel demotes it. It is also longer than other brokers
/// need to notice a loss and to read escrow ([`crate::refresh::store_watch`]).
const ESCROW_RETENTION: Duration = Duration::from_secs(12);

/// A response that was committed a moment ago and is still in escrow. The response itself is in the journal.
#[derive(Debug)]
pub(super) struct RecentCommit {
    since: Moment,
    installation: InstallationId,
    intent: IntentId,
}

impl RecentCommit {
    fn new(entry: &Entry) -> Self {
        Self {
            since: Moment::now(),
            installation: entry.installation.clone(),
            intent: entry.intent.clone(),
        }
    }

    /// Restarts the retention time.
    fn again(self) -> Self {
        let since = Moment::now();
        Self { since, ..self }
    }
}

impl Worker {
    /// Writes a response to the journal and to escrow. It then survives a crash and the loss of this host.
    pub(super) async fn persist_response(&self, entry: &Entry) {
        let (journaled, escrowed) = tokio::join!(
            spans::journal(self.journal.note(entry)),
            spans::escrow(self.escrow.keep(entry))
        );
        if let Err(error) = journaled {
            // Only the store and escrow can keep it now.
            self.stop_on_journal_error(&error);
        }
        self.report_escrow(entry, escrowed);
    }

    /// Writes a response from the journal to escrow, so that it survives the loss of this host.
    pub(crate) async fn keep_in_escrow(&self, entry: &Entry) {
        self.report_escrow(entry, self.escrow.keep(entry).await);
    }

    fn report_escrow(&self, entry: &Entry, escrowed: Result<(), NoMajority>) {
        if let Err(error) = escrowed {
            metrics::escrow_missed();
            warn!(installation = %entry.installation, broker = self.name, %error,
                "a response of GHL is only on this host until the store has it");
        }
    }

    /// Commits a new response, with retries. If they fail, `recovery` continues from the journal.
    pub(super) async fn commit(&self, entry: Entry, grant: &Grant) -> Outcome {
        let id = &entry.installation;
        let mut pause = Duration::from_millis(50);
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            match spans::commit(self.writer.commit(grant)).await {
                Ok(committed) => {
                    crash_point::reached(Step::Committed);
                    self.mark_confirmed(&entry, &committed).await;
                    return self.report_commit(grant, &committed);
                }
                Err(error) => {
                    warn!(installation = %id, error = &error as &dyn std::error::Error,
                        "a granted token waits in the journal for the store");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        self.queue_commit(entry);
        Outcome::Journaled
    }

    /// Marks a response as confirmed by the store. The journal keeps it until its successor is confirmed,
    /// escrow for [`ESCROW_RETENTION`].
    pub(super) async fn mark_confirmed(&self, entry: &Entry, committed: &Committed) {
        let standing = match committed {
            Committed::Applied { .. } | Committed::Duplicate => Standing::Current,
            Committed::NotCurrent => Standing::Alternate,
        };
        #[cfg(feature = "simulation")]
        if !self.rules.keep_answers {
            return self.forget(entry).await;
        }
        if let Err(error) = self.journal.confirm(entry, standing).await {
            warn!(%error, "a finished attempt stays in the journal and is finished again at the next start");
        }
        if self.escrow.is_enabled() {
            lock(&self.recent_commits).push_back(RecentCommit::new(entry));
        }
    }

    /// Checks recent commits again, and removes them from escrow if the store still has them. A failover in
    /// progress may have lost a commit, and this host may be lost as well.
    pub(crate) async fn recheck_recent_commits(&self) {
        loop {
            let is_due = |recent: &mut RecentCommit| recent.since.elapsed() >= ESCROW_RETENTION;
            let due = lock(&self.recent_commits).pop_front_if(is_due);
            let Some(recent) = due else { return };
            let RecentCommit {
                installation,
                intent,
                ..
            } = &recent;
            if !self.writer.can_fail_over() {
                self.escrow.forget(installation, intent);
                continue;
            }
            let is_there = match self.journal.confirmed_of(installation) {
                // `None`: its successor is confirmed, or it was pruned.
                Ok(kept) => match kept.filter(|kept| kept.entry.intent == *intent) {
                    Some(kept) => self.recheck(&kept.entry).await.is_ok(),
                    None => true,
                },
                Err(error) => return self.stop_on_journal_error(&error),
            };
            if !is_there {
                lock(&self.recent_commits).push_back(recent.again());
                return;
            }
            self.escrow.forget(installation, intent);
        }
    }

    /// Commits a response from a journal or from escrow. Idempotent.
    pub(crate) async fn commit_entry(&self, entry: &Entry) -> Result<(), WriteError> {
        match self.commit_response(entry).await? {
            Some(committed) => self.mark_confirmed(entry, &committed).await,
            None => self.forget(entry).await,
        }
        self.dequeue_commit(entry);
        Ok(())
    }

    /// Commits the response of an entry. `None` if the entry has no response.
    pub(super) async fn commit_response(
        &self,
        entry: &Entry,
    ) -> Result<Option<Committed>, WriteError> {
        let Some(grant) = self.open_grant(entry)? else {
            return Ok(None);
        };
        let id = &entry.installation;
        self.watch.ensure_verified()?;
        let committed = self.writer.commit(&grant).await?;
        let standing = match &committed {
            Committed::Applied { .. } => "applied",
            Committed::Duplicate => "duplicate",
            Committed::NotCurrent => "not_current",
        };
        info!(installation = %id, committed = standing, "a kept response reached the store");
        self.report_commit(&grant, &committed);
        Ok(Some(committed))
    }

    /// As [`Worker::commit_response`], without log lines. The response was logged when it was new.
    pub(crate) async fn commit_without_log(
        &self,
        entry: &Entry,
    ) -> Result<Option<Committed>, WriteError> {
        let Some(grant) = self.open_grant(entry)? else {
            return Ok(None);
        };
        self.writer.commit(&grant).await.map(Some)
    }

    fn open_grant(&self, entry: &Entry) -> Result<Option<Grant>, WriteError> {
        let Some(sealed) = &entry.answer else {
            return Ok(None);
        };
        let (id, ring) = (&entry.installation, &self.writer.rings().refresh);
        let grant = Grant::open(id, entry.spent_generation, sealed, ring);
        grant.map(Some).map_err(|source| WriteError::Unreadable {
            id: id.clone(),
            source,
        })
    }

    /// Ends the attempt of an earlier process that got no response.
    pub(crate) async fn abandon(&self, entry: &Entry) -> Result<(), WriteError> {
        self.watch.ensure_verified()?;
        self.writer.abandon(entry, &self.name).await
    }

    /// Ends the lease of an earlier process. That process is dead, because this one holds its journal.
    pub(crate) async fn end_lease(&self, entry: &Entry) {
        if let Some(value) = &entry.lease {
            self.leases.end(&entry.installation, value).await;
        }
    }

    /// Leaves a response in the journal because a retry cannot commit it. The next start tries again.
    pub(crate) fn leave_in_journal(&self, entry: &Entry, error: &WriteError) {
        error!(installation = %entry.installation, error = error as &dyn std::error::Error,
            "a response stays in the journal and is tried again at the next start");
        self.dequeue_commit(entry);
    }

    fn dequeue_commit(&self, entry: &Entry) {
        let mut uncommitted = lock(&self.uncommitted);
        let kept = uncommitted.get(&entry.installation);
        if kept.is_some_and(|kept| kept.intent == entry.intent) {
            uncommitted.remove(&entry.installation);
        }
    }

    /// Logs a commit, and returns the outcome.
    pub(super) fn report_commit(&self, grant: &Grant, committed: &Committed) -> Outcome {
        let id = &grant.installation;
        match committed {
            // A duplicate is usually our own write, whose acknowledgement was lost.
            Committed::Applied { recovered, .. } => {
                refresh_log::refreshed(id, grant);
                if let Some(from) = *recovered {
                    metrics::recovered(from);
                    refresh_log::recovered(id, from);
                }
                Outcome::Refreshed {
                    generation: grant.spent.generation.next(),
                }
            }
            Committed::Duplicate => {
                refresh_log::refreshed(id, grant);
                Outcome::Refreshed {
                    generation: grant.spent.generation.next(),
                }
            }
            Committed::NotCurrent => {
                warn!(installation = %id, broker = self.name,
                    "the token chain advanced meanwhile: the granted token is kept as an alternate");
                Outcome::Superseded
            }
        }
    }

    /// Removes a finished attempt from the journal and from escrow.
    pub(crate) async fn forget(&self, entry: &Entry) {
        if entry.answer.is_some() {
            self.escrow.forget(&entry.installation, &entry.intent);
        }
        if let Err(error) = self.journal.forget(&entry.intent).await {
            warn!(%error, "a finished attempt stays in the journal and is finished again at the next start");
        }
    }

    /// Stops this broker after an error of the journal. Without it, a crash would lose tokens. The other
    /// brokers continue.
    pub(crate) fn stop_on_journal_error(&self, error: &DbError) {
        error!(%error, "the journal cannot be written: this broker stops");
        self.shutdown.fail();
    }
}

/// Checks that a response is for this installation, as far as it says.
///
/// # Errors
/// [`Failure::Foreign`] if it names another owner.
pub(super) fn check_owner(
    begun: &Begun,
    response: TokenResponse,
) -> Result<TokenResponse, Failure> {
    let owner = Owner {
        location: begun.location.as_ref().map(LocationId::as_str),
        company: begun.company.as_ref().map(CompanyId::as_str),
        user_type: begun.user_type.as_str(),
    };
    match owner.check(&response) {
        Ok(()) => Ok(response),
        Err(mismatch) => Err(Failure::Foreign {
            mismatch,
            response: Box::new(response),
        }),
    }
}

/// The grant to commit for a response. A missing refresh token means that the spent one stays valid.
pub(super) fn build_grant(begun: &Begun, response: TokenResponse) -> Grant {
    refresh_log::lifetime(&begun.installation, response.lifetime());
    let lifetime = response.lifetime().value;
    Grant {
        installation: begun.installation.clone(),
        client: begun.client.clone(),
        spent: begun.link.clone(),
        access_token: response.access_token,
        refresh_token: response
            .refresh_token
            .unwrap_or_else(|| begun.refresh_token.clone()),
        expires_at: begun.began_at + lifetime,
        lifetime,
        scopes: response.scope,
    }
}
