//! What GHL granted, from its arrival until the store has it.

use std::time::Duration;

use ghl::{Answer, Failure, Owner};
use store::clock::Moment;
use store::{CompanyId, InstallationId, LocationId};
use store_writer::escrow::NoMajority;
use store_writer::group_commit_db::DbError;
use store_writer::journal::{Entry, Standing};
use store_writer::writer::{Begun, Committed};
use store_writer::{Grant, IntentId, WriteError};
use tracing::{error, info, warn};

use super::{Worker, lock};
use crate::crash_point::{self, Step};
use crate::line;
use crate::metrics;
use crate::outcome::Outcome;

/// How often a commit is tried at once; after that the journal's replay goes on with it.
const COMMIT_ATTEMPTS: u32 = 5;
/// Longer than a master that was replaced goes on taking writes: `min-replicas-max-lag`, and what it
/// takes the Sentinels to turn it into a replica. And longer than other brokers take to notice that
/// the store lost its last seconds, and to look into escrow ([`crate::store_watch`]).
const LOOK_AGAIN: Duration = Duration::from_secs(12);

/// An answer that the store took a moment ago, and that is still in escrow. The answer itself is in the
/// journal.
#[derive(Debug)]
pub(super) struct Fresh {
    since: Moment,
    installation: InstallationId,
    intent: IntentId,
}

impl Fresh {
    fn new(entry: &Entry) -> Self {
        Self {
            since: Moment::now(),
            installation: entry.installation.clone(),
            intent: entry.intent.clone(),
        }
    }

    fn again(self) -> Self {
        let since = Moment::now();
        Self { since, ..self }
    }
}

impl Worker {
    /// Puts an answer where neither a crash nor the loss of this host takes it.
    pub(super) async fn keep(&self, entry: &Entry) {
        let (journaled, escrowed) = tokio::join!(self.journal.note(entry), self.escrow.keep(entry));
        if let Err(error) = journaled {
            // The store and the escrow are its only hope now.
            self.journal_failed(&error);
        }
        self.note_escrow(entry, escrowed);
    }

    /// Puts an answer from the journal where the loss of this host does not take it.
    pub(crate) async fn keep_in_escrow(&self, entry: &Entry) {
        self.note_escrow(entry, self.escrow.keep(entry).await);
    }

    fn note_escrow(&self, entry: &Entry, escrowed: Result<(), NoMajority>) {
        if let Err(error) = escrowed {
            metrics::escrow_missed();
            warn!(installation = %entry.installation, broker = self.name, %error,
                "an answer of GHL is on this host alone until the store has it");
        }
    }

    pub(super) async fn commit(&self, entry: Entry, grant: &Grant) -> Outcome {
        let id = &entry.installation;
        let mut pause = Duration::from_millis(50);
        for _ in 0..COMMIT_ATTEMPTS {
            match self.writer.commit(grant).await {
                Ok(committed) => {
                    crash_point::reached(Step::Committed);
                    self.confirmed(&entry, &committed).await;
                    return self.committed(grant, &committed);
                }
                Err(error) => {
                    warn!(installation = %id, error = &error as &dyn std::error::Error,
                        "a granted token waits in the journal for the store");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        self.keep_waiting(entry);
        Outcome::Journaled
    }

    /// The store has taken an answer. The journal keeps it until its successor is confirmed, the escrow
    /// for a moment ([`Worker::look_again`]).
    pub(super) async fn confirmed(&self, entry: &Entry, committed: &Committed) {
        let standing = match committed {
            Committed::Applied { .. } | Committed::Duplicate => Standing::Current,
            Committed::NotCurrent => Standing::Alternate,
        };
        #[cfg(feature = "simulation")]
        if !self.rules.keep_answers {
            return self.forget(entry).await;
        }
        if let Err(error) = self.journal.confirm(entry, standing).await {
            warn!(%error, "a finished attempt stays in the journal and is finished again at boot");
        }
        if self.escrow.is_enabled() {
            lock(&self.fresh).push_back(Fresh::new(entry));
        }
    }

    /// Looks once more at what the store took some seconds ago, and only then drops it from escrow: a
    /// failover that was under way may have lost it, and this host may be lost with it.
    pub(crate) async fn look_again(&self) {
        loop {
            let is_due = |fresh: &mut Fresh| fresh.since.elapsed() >= LOOK_AGAIN;
            let due = lock(&self.fresh).pop_front_if(is_due);
            let Some(fresh) = due else { return };
            let Fresh {
                installation,
                intent,
                ..
            } = &fresh;
            if !self.writer.can_fail_over() {
                self.escrow.forget(installation, intent);
                continue;
            }
            let is_there = match self.journal.confirmed_of(installation) {
                // Its successor is confirmed, or it was dropped for its age.
                Ok(kept) => match kept.filter(|kept| kept.entry.intent == *intent) {
                    Some(kept) => self.look_after(&kept.entry).await.is_ok(),
                    None => true,
                },
                Err(error) => return self.journal_failed(&error),
            };
            if !is_there {
                lock(&self.fresh).push_back(fresh.again());
                return;
            }
            self.escrow.forget(installation, intent);
        }
    }

    /// Commits an answer from a journal or from escrow. Idempotent.
    pub(crate) async fn commit_entry(&self, entry: &Entry) -> Result<(), WriteError> {
        match self.commit_answer(entry).await? {
            Some(committed) => self.confirmed(entry, &committed).await,
            None => self.forget(entry).await,
        }
        self.wait_no_more(entry);
        Ok(())
    }

    /// `None` where there is no answer.
    pub(super) async fn commit_answer(
        &self,
        entry: &Entry,
    ) -> Result<Option<Committed>, WriteError> {
        let Some(grant) = self.open(entry)? else {
            return Ok(None);
        };
        let id = &entry.installation;
        self.watch.recognised()?;
        let committed = self.writer.commit(&grant).await?;
        info!(installation = %id, ?committed, "an answer that had been kept reached the store");
        self.committed(&grant, &committed);
        Ok(Some(committed))
    }

    /// As [`Worker::commit_answer`], of an answer that was reported when it was new.
    pub(crate) async fn commit_quietly(
        &self,
        entry: &Entry,
    ) -> Result<Option<Committed>, WriteError> {
        let Some(grant) = self.open(entry)? else {
            return Ok(None);
        };
        self.writer.commit(&grant).await.map(Some)
    }

    fn open(&self, entry: &Entry) -> Result<Option<Grant>, WriteError> {
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

    /// Ends the attempt of an earlier process that got no answer.
    pub(crate) async fn abandon(&self, entry: &Entry) -> Result<(), WriteError> {
        self.watch.recognised()?;
        self.writer.abandon(entry, &self.name).await
    }

    /// Ends the lease of an earlier process: it is dead, or its journal would not be ours.
    pub(crate) async fn end_lease(&self, entry: &Entry) {
        if let Some(value) = &entry.lease {
            self.leases.end(&entry.installation, value).await;
        }
    }

    /// Leaves an answer in the journal that cannot be brought to the store by trying again. The next
    /// start tries it once more.
    pub(crate) fn leave(&self, entry: &Entry, error: &WriteError) {
        error!(installation = %entry.installation, error = error as &dyn std::error::Error,
            "an answer stays in the journal and is tried again at the next start");
        self.wait_no_more(entry);
    }

    fn wait_no_more(&self, entry: &Entry) {
        let mut waiting = lock(&self.waiting);
        let kept = waiting.get(&entry.installation);
        if kept.is_some_and(|kept| kept.intent == entry.intent) {
            waiting.remove(&entry.installation);
        }
    }

    pub(super) fn committed(&self, grant: &Grant, committed: &Committed) -> Outcome {
        let id = &grant.installation;
        match committed {
            // A duplicate is most often our own write, whose acknowledgement was lost.
            Committed::Applied { recovered, .. } => {
                line::refreshed(id, grant);
                if let Some(from) = *recovered {
                    metrics::recovered(from);
                    line::recovered(id, from);
                }
                Outcome::Refreshed {
                    generation: grant.spent.generation.next(),
                }
            }
            Committed::Duplicate => {
                line::refreshed(id, grant);
                Outcome::Refreshed {
                    generation: grant.spent.generation.next(),
                }
            }
            Committed::NotCurrent => {
                warn!(installation = %id, broker = self.name,
                    "the token chain moved on meanwhile: the granted token is kept as an alternate");
                Outcome::Superseded
            }
        }
    }

    /// Drops what was kept of an attempt that is finished.
    pub(crate) async fn forget(&self, entry: &Entry) {
        if entry.answer.is_some() {
            self.escrow.forget(&entry.installation, &entry.intent);
        }
        if let Err(error) = self.journal.forget(&entry.intent).await {
            warn!(%error, "a finished attempt stays in the journal and is finished again at boot");
        }
    }

    /// Without its journal a broker would spend tokens that a crash loses: it stops, and others go
    /// on.
    pub(crate) fn journal_failed(&self, error: &DbError) {
        error!(%error, "the journal cannot be written: this broker stops");
        self.shutdown.fail();
    }
}

/// An answer that is for this installation, as far as it says.
pub(super) fn unless_foreign(begun: &Begun, answer: Answer) -> Result<Answer, Failure> {
    let owner = Owner {
        location: begun.location.as_ref().map(LocationId::as_str),
        company: begun.company.as_ref().map(CompanyId::as_str),
        user_type: begun.user_type.as_str(),
    };
    match owner.check(&answer) {
        Ok(()) => Ok(answer),
        Err(mismatch) => Err(Failure::Foreign {
            mismatch,
            answer: Box::new(answer),
        }),
    }
}

pub(super) fn grant(begun: &Begun, answer: Answer) -> Grant {
    line::lifetime(&begun.installation, answer.lifetime());
    let lifetime = answer.lifetime().value;
    Grant {
        installation: begun.installation.clone(),
        spent: begun.link.clone(),
        access_token: answer.access_token,
        refresh_token: answer
            .refresh_token
            .unwrap_or_else(|| begun.refresh_token.clone()),
        expires_at: begun.began_at + lifetime,
        lifetime,
        scopes: answer.scope,
    }
}
