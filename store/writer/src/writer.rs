//! The writer: each verb reads, decides in [`crate::protocol`], and swaps.

mod callers;
mod check;
mod error;
mod identity;
mod list;
mod refresh;
mod shared;
mod takeover;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use store::freshness::Lead;
use store::record::Unreadable;
use store::{InstallationId, Status, Timestamp};

use tracing::warn;

pub use error::WriteError;
pub use list::Listed;
pub use refresh::{Begin, Begun, Committed, Conditions, GaveBack, Recovered, Wanted};

use crate::backend::{Backend, Confirmation, Loaded, REVISION, Schedule, Stock, Swap, Upcoming};
use crate::durable::Durable;
use crate::grant::Enrolment;
use crate::installation::{Installation, refresh_label};
use crate::journal::Entry;
use crate::open::Rings;
use crate::protocol;

/// How often a write that lost a race is decided anew. Losing this often in a row means that
/// something writes in a loop.
const ATTEMPTS: usize = 16;

/// Writes token state. Held by brokers only; cheap to clone.
#[derive(Debug, Clone)]
pub struct StoreWriter {
    backend: Arc<dyn Backend>,
    rings: Rings,
    lead: Lead,
}

/// A record, and when it was read in the store's time.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub installation: Installation,
    pub now: Timestamp,
}

/// What to do with the record that was read.
enum Decision<T> {
    Write(Box<Installation>, T),
    Leave(T),
}

impl StoreWriter {
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, rings: Rings, lead: Lead) -> Self {
        Self {
            backend,
            rings,
            lead,
        }
    }

    #[must_use]
    pub fn rings(&self) -> &Rings {
        &self.rings
    }

    /// The file of this process that holds the store; `None` where a server does.
    #[must_use]
    pub fn file(&self) -> Option<&Durable> {
        self.backend.file()
    }

    /// Whether the store may lose a write for some seconds although it was confirmed: `WAIT` speaks of
    /// replicas, and not of the one that becomes the master.
    #[must_use]
    pub fn can_fail_over(&self) -> bool {
        self.backend.can_fail_over()
    }

    /// # Errors
    /// When the store is away, or the record cannot be read.
    pub async fn load(&self, id: &InstallationId) -> Result<Option<Snapshot>, WriteError> {
        let loaded = self.backend.load(id).await?;
        let now = loaded.now;
        let installation = parse(id, &loaded)?;
        Ok(installation.map(|installation| Snapshot { installation, now }))
    }

    /// Makes or revives the installation of the enrolment's location or company.
    ///
    /// The same location keeps its id: whoever consents twice at once ends in one installation. An
    /// earlier record that cannot be read is replaced: nothing of it is needed any more.
    ///
    /// # Errors
    /// When the store is away, or replicas do not have it.
    pub async fn enrol(&self, enrolment: &Enrolment) -> Result<InstallationId, WriteError> {
        self.enrol_as(InstallationId::random(), enrolment).await
    }

    /// As [`StoreWriter::enrol`]. A location or company that is new gets the id `fresh`, which also names
    /// the consent: one that is stored already is left alone, since its token may be spent.
    ///
    /// # Errors
    /// As [`StoreWriter::enrol`].
    pub async fn enrol_as(
        &self,
        fresh: InstallationId,
        enrolment: &Enrolment,
    ) -> Result<InstallationId, WriteError> {
        let id = self.name(fresh.clone(), enrolment).await?;
        let (written, revision) = self
            .decide_loaded(&id, |loaded| {
                let earlier = match parse(&id, loaded) {
                    Ok(Some(current)) if current.is_of_consent(&fresh) => {
                        let stored = (current.access.generation, current.link());
                        return Ok(Decision::Leave(stored));
                    }
                    Ok(current) => current.as_ref().map(protocol::Earlier::of),
                    Err(error) => {
                        warn!(installation = %id, error = &error as &dyn std::error::Error,
                            "a consent replaces a record that cannot be read");
                        let Loaded {
                            access,
                            refresh,
                            now,
                        } = loaded;
                        Some(protocol::Earlier::of_fields(access, refresh, *now))
                    }
                };
                let next = self.enrolled(&id, fresh.as_str(), earlier, enrolment, loaded.now);
                let written = (next.access.generation, next.link());
                Ok(Decision::Write(Box::new(next), written))
            })
            .await?;
        let (generation, link) = written;
        // A later generation, such as another consent's, came after this one.
        let is_there = |current: &Installation, _| {
            current.access.generation > generation || current.link() == link
        };
        self.confirm(&id, revision, is_there).await?;
        Ok(id)
    }

    /// Enrols a static token, unless the location's consent lives; whether it did.
    ///
    /// # Errors
    /// As [`StoreWriter::enrol`].
    pub async fn enrol_static(
        &self,
        enrolment: &Enrolment,
    ) -> Result<(InstallationId, bool), WriteError> {
        let id = self.name(InstallationId::random(), enrolment).await?;
        let is_enrolled = self
            .decide(&id, |current, now| {
                if !protocol::may_be_static(current) {
                    return Decision::Leave(false);
                }
                let earlier = current.map(protocol::Earlier::of);
                let consent = InstallationId::random();
                let next = self.enrolled(&id, consent.as_str(), earlier, enrolment, now);
                Decision::Write(Box::new(next), true)
            })
            .await?;
        Ok((id, is_enrolled))
    }

    /// Ends an installation: its token is handed out no more. False: the customer consented after
    /// `told_at`, so this is old news.
    ///
    /// # Errors
    /// When there is no such installation, or the store is away.
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

    /// Puts an installation where its record says it belongs in the schedule.
    ///
    /// # Errors
    /// When there is no such installation, or the store is away.
    pub async fn reschedule(&self, id: &InstallationId) -> Result<(), WriteError> {
        self.decide_known(id, |current, _| {
            Decision::Write(Box::new(current.clone()), ())
        })
        .await
    }

    /// Ends the attempt of a process that is known to be dead, so that nobody waits for it.
    ///
    /// # Errors
    /// When there is no such installation, or the store is away.
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

    /// Takes up to `limit` installations of a partition that were due at `by`, which is now or
    /// before. Unless they are dealt with, they are due again after `claim`.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn claim(
        &self,
        schedule: Schedule,
        partition: u8,
        limit: usize,
        by: Timestamp,
        claim: Duration,
    ) -> Result<Vec<InstallationId>, WriteError> {
        self.backend
            .claim(schedule, partition, limit, by, claim)
            .await
    }

    /// Looks at a scheduled installation at `at` already, if that is sooner than planned.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn hasten(&self, id: &InstallationId, at: Timestamp) -> Result<(), WriteError> {
        self.backend.hasten(id, at).await
    }

    /// Takes an id that has no record off the schedule.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn unschedule(&self, id: &InstallationId) -> Result<(), WriteError> {
        self.backend.unschedule(id).await
    }

    /// # Errors
    /// When the store is away.
    pub async fn upcoming(&self, schedule: Schedule) -> Result<Upcoming, WriteError> {
        self.backend.upcoming(schedule).await
    }

    /// # Errors
    /// When the store is away.
    pub async fn stock(&self) -> Result<Stock, WriteError> {
        self.backend.stock().await
    }

    /// Bytes of memory that the store's data take; `None` where they are not in memory.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn memory(&self) -> Result<Option<u64>, WriteError> {
        self.backend.memory().await
    }

    /// The installation of a location or company.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn resolve(&self, name: &str) -> Result<Option<InstallationId>, WriteError> {
        let found = self.backend.location(name).await?;
        Ok(found.and_then(|id| id.parse().ok()))
    }

    /// The id of the enrolment's location or company: `fresh` where there was none.
    async fn name(
        &self,
        fresh: InstallationId,
        enrolment: &Enrolment,
    ) -> Result<InstallationId, WriteError> {
        let name = match (&enrolment.location, &enrolment.company) {
            (Some(location), _) => location.as_str(),
            (None, Some(company)) => company.as_str(),
            (None, None) => "static",
        };
        let id = self.backend.name_location(name, &fresh).await?;
        id.parse().map_err(|_| WriteError::Unreadable {
            id: fresh,
            source: Unreadable::Malformed("location index"),
        })
    }

    fn enrolled(
        &self,
        id: &InstallationId,
        consent: &str,
        earlier: Option<protocol::Earlier>,
        enrolment: &Enrolment,
        now: Timestamp,
    ) -> Installation {
        let generation = protocol::generation_for(earlier);
        let label = refresh_label(id, generation);
        let refresh = enrolment.refresh_token.as_ref();
        let sealed = protocol::SealedTokens {
            access: self
                .rings
                .seal_access(id, generation, &enrolment.access_token),
            refresh: refresh.map(|token| self.rings.seal_refresh(label, token)),
        };
        let expires_at = refresh.and(enrolment.expires_at);
        let lifetime = enrolment.lifetime;
        let due = expires_at.map(|expiry| self.lead.due(expiry, lifetime, id.jitter_seed()));
        protocol::enrol(id.clone(), consent, earlier, enrolment, sealed, due, now)
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

    /// Reads, decides, swaps; and again if somebody wrote in between. A write whose answer was
    /// lost and that is sent again loses against itself and is decided anew, so every decision
    /// recognises its own work.
    ///
    /// Tells the outcome, and the revision that the record has with it.
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

    /// As [`StoreWriter::decide_revision`], for a decision that reads the record itself.
    async fn decide_loaded<T>(
        &self,
        id: &InstallationId,
        decide: impl Fn(&Loaded) -> Result<Decision<T>, WriteError>,
    ) -> Result<(T, Vec<u8>), WriteError> {
        for _ in 0..ATTEMPTS {
            let loaded = self.backend.load(id).await?;
            match decide(&loaded)? {
                Decision::Leave(outcome) => return Ok((outcome, loaded.revision())),
                Decision::Write(next, outcome) => {
                    let swap = swap(&next, &loaded)?;
                    let revision = swap.revision();
                    if self.backend.swap(swap).await? {
                        return Ok((outcome, revision));
                    }
                }
            }
        }
        Err(WriteError::Contended(id.clone()))
    }

    /// Returns once what was written is where a failover does not lose it. Where others have
    /// written since, `is_there` tells whether it is in what they left.
    async fn confirm(
        &self,
        id: &InstallationId,
        mut revision: Vec<u8>,
        is_there: impl Fn(&Installation, Timestamp) -> bool,
    ) -> Result<(), WriteError> {
        for _ in 0..ATTEMPTS {
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

/// The write that turns what was read into `next`: only what differs.
///
/// # Errors
/// When no reader could read what it would become.
fn swap(next: &Installation, loaded: &Loaded) -> Result<Swap, WriteError> {
    let (mut access, mut whole) = (next.access.to_fields(), next.to_fields());
    Installation::from_fields(next.id.clone(), &access, &whole).map_err(|source| {
        WriteError::Unwritable {
            id: next.id.clone(),
            source,
        }
    })?;
    // What takes the place of a record for newer readers is for all readers.
    for (fields, earlier) in [(&mut access, &loaded.access), (&mut whole, &loaded.refresh)] {
        if earlier.check_schema().is_err() {
            fields.any_reader();
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
    // An unpaid customer's token may expire without anybody being paged for it.
    let is_refreshed = next.access.status == Status::Active;
    let announce = (!access.is_empty()).then(|| {
        let change = store::Change::Installation {
            id: next.id.clone(),
            generation: next.access.generation,
        };
        change.to_message()
    });
    Ok(Swap {
        id: next.id.clone(),
        expected: loaded.revision(),
        access,
        refresh,
        removed,
        wake_at: next.due,
        schedule: match next.intent {
            Some(_) => Schedule::InDoubt,
            None => Schedule::Due,
        },
        expires_at: next.access.expires_at.filter(|_| is_refreshed),
        announce: announce.flatten(),
    })
}
