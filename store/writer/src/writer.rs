//! The writer: each verb reads, decides in [`crate::protocol`], and swaps.

mod callers;
mod refresh;

use std::sync::Arc;
use std::time::Duration;

use store::freshness::Lead;
use store::record::Unreadable;
use store::{InstallationId, Status, Timestamp, keys};

pub use refresh::{Begin, Begun, Committed, GaveBack, Wanted};

use crate::backend::{Backend, Loaded, REVISION, Stock, Swap, Upcoming};
use crate::grant::Enrolment;
use crate::installation::{Installation, refresh_label};
use crate::open::Rings;
use crate::protocol;

/// How often a write that lost a race is decided anew. Losing this often in a row means that
/// something writes in a loop.
const ATTEMPTS: usize = 16;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the store did not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the store refused to write")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the record of {id} cannot be read")]
    Unreadable {
        id: InstallationId,
        source: Unreadable,
    },
    #[error("{0} was written by others {ATTEMPTS} times in a row")]
    Contended(InstallationId),
    #[error("there is no installation {0}")]
    Unknown(InstallationId),
}

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
    /// The same location keeps its id: whoever consents twice at once ends in one installation.
    ///
    /// # Errors
    /// When the store is away, or an earlier record cannot be read.
    pub async fn enrol(&self, enrolment: &Enrolment) -> Result<InstallationId, WriteError> {
        let name = match (&enrolment.location, &enrolment.company) {
            (Some(location), _) => location.as_str(),
            (None, Some(company)) => company.as_str(),
            (None, None) => "static",
        };
        let fresh = InstallationId::random();
        let id = self.backend.name_location(name, &fresh).await?;
        let id: InstallationId = id.parse().map_err(|_| WriteError::Unreadable {
            id: fresh,
            source: Unreadable::Malformed("location index"),
        })?;
        self.decide(&id, |current, now| {
            let generation = protocol::generation_for(current);
            let sealed = protocol::SealedTokens {
                access: self
                    .rings
                    .seal_access(&id, generation, &enrolment.access_token),
                refresh: enrolment.refresh_token.as_ref().map(|token| {
                    let label = refresh_label(&id, generation);
                    self.rings.seal_refresh(label, token)
                }),
            };
            let due = enrolment.refresh_token.as_ref().and(enrolment.expires_at);
            let due = due.map(|expiry| self.lead.due(expiry, enrolment.lifetime, id.jitter_seed()));
            let next = protocol::enrol(id.clone(), current, enrolment, sealed, due, now);
            Decision::Write(Box::new(next), ())
        })
        .await?;
        Ok(id)
    }

    /// Ends an installation: its token is handed out no more.
    ///
    /// # Errors
    /// When there is no such installation, or the store is away.
    pub async fn revoke(&self, id: &InstallationId, reason: &str) -> Result<(), WriteError> {
        self.decide_known(id, |current, now| {
            Decision::Write(Box::new(protocol::revoke(current, reason, now)), ())
        })
        .await
    }

    /// Takes up to `limit` due installations of a partition. Unless they are dealt with, they are
    /// due again after `claim`.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn claim(
        &self,
        partition: u8,
        limit: usize,
        claim: Duration,
    ) -> Result<Vec<InstallationId>, WriteError> {
        self.backend.claim(partition, limit, claim).await
    }

    /// Looks at a scheduled installation again at `at`.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn defer(&self, id: &InstallationId, at: Timestamp) -> Result<(), WriteError> {
        self.backend.defer(id, at).await
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
    pub async fn upcoming(&self) -> Result<Upcoming, WriteError> {
        self.backend.upcoming().await
    }

    /// # Errors
    /// When the store is away.
    pub async fn stock(&self) -> Result<Stock, WriteError> {
        self.backend.stock().await
    }

    /// Up to `limit` installations after `after`, in the order of their ids.
    ///
    /// # Errors
    /// When the store is away, or a record cannot be read.
    pub async fn list(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Snapshot>, WriteError> {
        let mut listed = Vec::new();
        // The first byte of an id is its partition, so partitions in order are ids in order.
        for partition in after.map_or(0, InstallationId::partition)..=u8::MAX {
            for id in self.backend.ids(partition).await? {
                if listed.len() == limit {
                    return Ok(listed);
                }
                if after.is_none_or(|after| id > *after) {
                    listed.extend(self.load(&id).await?);
                }
            }
        }
        Ok(listed)
    }

    /// The installation of a location or company.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn resolve(&self, name: &str) -> Result<Option<InstallationId>, WriteError> {
        let found = self.backend.location(name).await?;
        Ok(found.and_then(|id| id.parse().ok()))
    }

    async fn decide_known<T>(
        &self,
        id: &InstallationId,
        decide: impl Fn(&Installation, Timestamp) -> Decision<T>,
    ) -> Result<T, WriteError> {
        let outcome = self.decide(id, |current, now| match current {
            None => Decision::Leave(None),
            Some(current) => match decide(current, now) {
                Decision::Write(next, outcome) => Decision::Write(next, Some(outcome)),
                Decision::Leave(outcome) => Decision::Leave(Some(outcome)),
            },
        });
        outcome
            .await?
            .ok_or_else(|| WriteError::Unknown(id.clone()))
    }

    /// Reads, decides, swaps; and again if somebody wrote in between. A write whose answer was
    /// lost and that is sent again loses against itself and is decided anew, so every decision
    /// recognises its own work.
    async fn decide<T>(
        &self,
        id: &InstallationId,
        decide: impl Fn(Option<&Installation>, Timestamp) -> Decision<T>,
    ) -> Result<T, WriteError> {
        for _ in 0..ATTEMPTS {
            let loaded = self.backend.load(id).await?;
            let current = parse(id, &loaded)?;
            match decide(current.as_ref(), loaded.now) {
                Decision::Leave(outcome) => return Ok(outcome),
                Decision::Write(next, outcome) => {
                    if self.backend.swap(swap(&next, &loaded)).await? {
                        return Ok(outcome);
                    }
                }
            }
        }
        Err(WriteError::Contended(id.clone()))
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
fn swap(next: &Installation, loaded: &Loaded) -> Swap {
    let access = next.access.to_fields().changed_from(&loaded.access);
    let whole = next.to_fields();
    let removed = loaded
        .refresh
        .iter()
        .map(|(name, _)| name)
        .filter(|name| crate::installation::is_alternate(name) && !whole.contains(name))
        .map(str::to_owned)
        .collect();
    let mut refresh = whole.changed_from(&loaded.refresh);
    refresh.set(REVISION, store::random::hex::<8>());
    let is_refreshed = matches!(next.access.status, Status::Active | Status::Paused);
    let announce = (!access.is_empty()).then(|| {
        let change = store::Change::Installation {
            id: next.id.clone(),
            generation: next.access.generation,
        };
        change.to_message()
    });
    Swap {
        id: next.id.clone(),
        expected: loaded.revision(),
        access,
        refresh,
        removed,
        wake_at: next.wake_at(loaded.now),
        expires_at: next.access.expires_at.filter(|_| is_refreshed),
        announce: announce.flatten(),
    }
}

/// How long a consent may take.
const CONSENT: Duration = Duration::from_secs(10 * 60);
/// Webhooks older than 5 minutes are refused anyway.
const WEBHOOK: Duration = Duration::from_secs(15 * 60);

impl StoreWriter {
    /// Notes that a consent with this state is under way, for 10 minutes.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn remember_consent(&self, state: &str) -> Result<(), WriteError> {
        let key = keys::consent(state);
        self.backend.remember(&key, "1", CONSENT).await.map(|_| ())
    }

    /// Whether this consent was under way; it is no more.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn take_consent(&self, state: &str) -> Result<bool, WriteError> {
        let taken = self.backend.take(&keys::consent(state)).await?;
        Ok(taken.is_some())
    }

    /// Whether the webhook was dealt with before.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn was_seen(&self, webhook_id: &str) -> Result<bool, WriteError> {
        let seen = self.backend.recall(&keys::webhook(webhook_id)).await?;
        Ok(seen.is_some())
    }

    /// Notes that the webhook was dealt with.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn note_seen(&self, webhook_id: &str) -> Result<(), WriteError> {
        let key = keys::webhook(webhook_id);
        self.backend.remember(&key, "1", WEBHOOK).await.map(|_| ())
    }

    /// Stops all brokers from calling the token endpoint for a while.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn open_breaker(&self, reason: &str, pause: Duration) -> Result<(), WriteError> {
        let opened = self.backend.remember(keys::BREAKER, reason, pause).await;
        opened.map(|_| ())
    }

    /// Why no broker may call the token endpoint now; `None`: they may.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn breaker(&self) -> Result<Option<String>, WriteError> {
        self.backend.recall(keys::BREAKER).await
    }
}
