//! The writer. Each operation reads the record, decides in [`crate::protocol`], and swaps.

mod apps;
mod attempt;
mod audit;
mod callers;
mod check;
mod count;
mod customer;
mod derived;
mod details;
mod export;
mod identity;
mod import;
mod list;
mod outbox;
mod refresh;
mod register;
mod rotation;
mod scan;
mod schedule;
mod sealing;
mod shared;
mod snapshot;
mod stats;
mod takeover;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use store::freshness::Lead;
use store::{InstallationId, Status, Timestamp};

pub use crate::error::WriteError;
pub use apps::AppIdentity;
pub use attempt::{
    Begin, Begun, Committed, Conditions, FailureOutcome, KnownApps, Recovered, Wanted,
};
pub use audit::AuditRecord;
pub use callers::RotatedKey;
pub use count::{AtRisk, Backlog, State, StateCount};
pub use customer::Naming;
pub use derived::{AgencyCall, CallPurpose, LocationNews, MintOutcome};
pub use export::{Exported, ExportedTokens, LeftOut};
pub use import::{ImportMode, ImportOutcome, ImportRow, Imported};
pub use register::TokenOrigin;
pub use rotation::{Resealed, SealCount};
pub use scan::Scanned;
pub use snapshot::{Listed, Snapshot};
pub use stats::{Bucket, FleetCount, NamedCounts};

use crate::backend::measured::Measured;
use crate::backend::{Backend, Confirmation, Loaded, REVISION, Schedule, Swap};
use crate::error::MAX_SWAP_ATTEMPTS;
use crate::group_commit_db::GroupCommitDb;
use crate::installation::Installation;
use crate::journal::Entry;
use crate::outbox::Subscribers;
use crate::protocol;
use crate::rings::Rings;

/// Writes token state. Only brokers have one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StoreWriter {
    backend: Arc<dyn Backend>,
    rings: Rings,
    lead: Lead,
    subscribers: Subscribers,
}

/// The decision about a record that was read.
enum Decision<T> {
    Write(Box<Installation>, T),
    Leave(T),
}

impl StoreWriter {
    /// A writer over a backend. `lead` is how long before its expiry a token is refreshed.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, rings: Rings, lead: Lead) -> Self {
        Self {
            backend: Arc::new(Measured::new(backend)),
            rings,
            lead,
            subscribers: Subscribers::default(),
        }
    }

    /// A writer of another process over the same store, with other rings.
    #[must_use]
    pub fn with_rings(&self, rings: Rings) -> Self {
        Self {
            rings,
            ..self.clone()
        }
    }

    /// The key rings.
    #[must_use]
    pub fn rings(&self) -> &Rings {
        &self.rings
    }

    /// The database file of this process; `None` if the store is a server.
    #[must_use]
    pub fn file(&self) -> Option<&GroupCommitDb> {
        self.backend.file()
    }

    /// Whether the store may lose a confirmed write of the last seconds. `WAIT` counts replicas, but not
    /// whether one of them becomes the master.
    #[must_use]
    pub fn can_fail_over(&self) -> bool {
        self.backend.can_fail_over()
    }

    /// Reads an installation; `None` if there is none.
    ///
    /// # Errors
    /// When the store is unavailable, or the record cannot be read.
    pub async fn load(&self, id: &InstallationId) -> Result<Option<Snapshot>, WriteError> {
        let loaded = self.backend.load(id).await?;
        let now = loaded.now;
        let installation = parse(id, &loaded)?;
        Ok(installation.map(|installation| Snapshot { installation, now }))
    }

    /// Revokes an installation, so that its token is not used any more. False if the customer consented after
    /// `told_at`.
    ///
    /// # Errors
    /// When there is no such installation, or the store is unavailable.
    pub async fn revoke(
        &self,
        id: &InstallationId,
        reason: &str,
        told_at: Timestamp,
    ) -> Result<bool, WriteError> {
        self.decide_known(id, |current, now| {
            match protocol::revoke(current, reason, told_at, now) {
                Some(next) => Decision::Write(Box::new(next), true),
                None => Decision::Leave(false),
            }
        })
        .await
    }

    /// Puts an installation on the schedule that its record requires.
    ///
    /// # Errors
    /// When there is no such installation, or the store is unavailable.
    pub async fn reschedule(&self, id: &InstallationId) -> Result<(), WriteError> {
        self.decide_known(id, |current, _| {
            Decision::Write(Box::new(current.clone()), ())
        })
        .await
    }

    /// Ends the attempt of a process that is known to be dead, so that no process waits for it.
    ///
    /// # Errors
    /// When there is no such installation, or the store is unavailable.
    pub async fn abandon(&self, entry: &Entry, holder: &str) -> Result<(), WriteError> {
        let (intent, spent) = (&entry.intent, entry.spent_generation);
        self.decide_known(&entry.installation, |current, now| match protocol::abandon(
            current, intent, spent, holder, now,
        ) {
            Some(next) => Decision::Write(Box::new(next), ()),
            None => Decision::Leave(()),
        })
        .await
    }

    /// The memory that the store's data take, in bytes; `None` if they are not in memory.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub async fn memory(&self) -> Result<Option<u64>, WriteError> {
        self.backend.memory().await
    }

    async fn decide_known<T>(
        &self,
        id: &InstallationId,
        decide: impl Fn(&Installation, Timestamp) -> Decision<T>,
    ) -> Result<T, WriteError> {
        let (outcome, _) = self.decide_known_revision(id, decide).await?;
        Ok(outcome)
    }

    async fn decide_known_revision<T>(
        &self,
        id: &InstallationId,
        decide: impl Fn(&Installation, Timestamp) -> Decision<T>,
    ) -> Result<(T, Vec<u8>), WriteError> {
        let outcome = self.decide_revision(id, |current, now| match current {
            None => Decision::Leave(None),
            Some(current) => match decide(current, now) {
                Decision::Write(next, outcome) => Decision::Write(next, Some(outcome)),
                Decision::Leave(outcome) => Decision::Leave(Some(outcome)),
            },
        });
        match outcome.await? {
            (Some(outcome), revision) => Ok((outcome, revision)),
            (None, _) => Err(WriteError::Unknown(id.clone())),
        }
    }

    async fn decide<T>(
        &self,
        id: &InstallationId,
        decide: impl Fn(Option<&Installation>, Timestamp) -> Decision<T>,
    ) -> Result<T, WriteError> {
        let (outcome, _) = self.decide_revision(id, decide).await?;
        Ok(outcome)
    }

    /// Reads, decides and swaps, and repeats this if another process wrote meanwhile. A repeated write whose
    /// acknowledgement was lost conflicts with itself and is decided again. Every decision must therefore
    /// recognise its own work.
    ///
    /// Returns the outcome and the record's revision with it.
    async fn decide_revision<T>(
        &self,
        id: &InstallationId,
        decide: impl Fn(Option<&Installation>, Timestamp) -> Decision<T>,
    ) -> Result<(T, Vec<u8>), WriteError> {
        self.decide_loaded(id, |loaded| {
            let current = parse(id, loaded)?;
            Ok(decide(current.as_ref(), loaded.now))
        })
        .await
    }

    /// As [`StoreWriter::decide_revision`], for a decision that parses the record itself.
    async fn decide_loaded<T>(
        &self,
        id: &InstallationId,
        decide: impl Fn(&Loaded) -> Result<Decision<T>, WriteError>,
    ) -> Result<(T, Vec<u8>), WriteError> {
        for _ in 0..MAX_SWAP_ATTEMPTS {
            let loaded = self.backend.load(id).await?;
            match decide(&loaded)? {
                Decision::Leave(outcome) => return Ok((outcome, loaded.revision())),
                Decision::Write(next, outcome) => {
                    let swap = self.swap(&next, &loaded)?;
                    let revision = swap.revision();
                    let event = swap.event.as_ref();
                    let told = event.map(|it| (it.endpoints.clone(), it.dropped.clone()));
                    if self.backend.swap(swap).await? {
                        if let Some((endpoints, dropped)) = told {
                            let partition = id.partition();
                            self.subscribers.published(partition, &endpoints, &dropped);
                        }
                        return Ok((outcome, revision));
                    }
                }
            }
        }
        Err(WriteError::Contended(id.clone()))
    }

    /// The write that changes the loaded record to `next`, with its event.
    fn swap(&self, next: &Installation, loaded: &Loaded) -> Result<Swap, WriteError> {
        let mut swap = swap(next, loaded)?;
        swap.event = self.event(next, loaded);
        Ok(swap)
    }

    /// Returns once the write survives a failover. If other processes have written since, `is_there` decides
    /// whether their record still contains the write.
    async fn confirm(
        &self,
        id: &InstallationId,
        mut revision: Vec<u8>,
        is_there: impl Fn(&Installation, Timestamp) -> bool,
    ) -> Result<(), WriteError> {
        for _ in 0..MAX_SWAP_ATTEMPTS {
            match self.backend.confirm(id, &revision).await? {
                Confirmation::Confirmed => return Ok(()),
                Confirmation::Unconfirmed => break,
                Confirmation::Overwritten => {
                    let loaded = self.backend.load(id).await?;
                    match parse(id, &loaded)? {
                        Some(current) if is_there(&current, loaded.now) => {
                            revision = loaded.revision();
                        }
                        Some(_) | None => break,
                    }
                }
            }
        }
        Err(WriteError::Unconfirmed(id.clone()))
    }
}

fn parse(id: &InstallationId, loaded: &Loaded) -> Result<Option<Installation>, WriteError> {
    if loaded.refresh.is_empty() {
        return Ok(None);
    }
    Installation::from_fields(id.clone(), &loaded.access, &loaded.refresh)
        .map(Some)
        .map_err(|source| WriteError::Unreadable {
            id: id.clone(),
            source,
        })
}

/// The write that changes the loaded record to `next`. It contains only the differences.
///
/// # Errors
/// When `next` could not be read back.
fn swap(next: &Installation, loaded: &Loaded) -> Result<Swap, WriteError> {
    let (mut access, mut whole) = (next.access.to_fields(), next.to_fields());
    Installation::from_fields(next.id.clone(), &access, &whole).map_err(|source| {
        WriteError::Unwritable {
            id: next.id.clone(),
            source,
        }
    })?;
    // A record that replaces one for newer readers is for all readers.
    for (fields, earlier) in [(&mut access, &loaded.access), (&mut whole, &loaded.refresh)] {
        if earlier.check_schema().is_err() {
            fields.clear_min_schema();
        }
    }
    let access = access.changed_from(&loaded.access);
    let removed = loaded
        .refresh
        .iter()
        .map(|(name, _)| name)
        .filter(|name| crate::installation::is_alternate(name) && !whole.contains(name))
        .map(str::to_owned)
        .collect();
    let mut refresh = whole.changed_from(&loaded.refresh);
    refresh.set(REVISION, store::random::hex::<8>());
    // The expiry of an inactive location's token must not raise an alarm, nor that of a minted one, which ends with its
    // use.
    let is_refreshed = next.access.status == Status::Active && next.access.parent.is_none();
    let announce = (!access.is_empty()).then(|| {
        let invalidation = store::Invalidation::Installation {
            id: next.id.clone(),
            generation: next.access.generation,
        };
        invalidation.to_message()
    });
    Ok(Swap {
        id: next.id.clone(),
        expected: loaded.revision(),
        keeps_schedule: false,
        access,
        refresh,
        removed,
        wake_at: next.wake_at(),
        schedule: match next.intent {
            Some(_) => Schedule::OpenIntent,
            None => Schedule::Due,
        },
        app: next.access.app.clone(),
        expires_at: next.access.expires_at.filter(|_| is_refreshed),
        families: next.families(),
        event: None,
        announce: announce.flatten(),
    })
}
