//! The read half of the store: all that a gateway ever holds.

mod redis;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use tokio::sync::broadcast;

use crate::caller::{Caller, KeyHash};
use crate::change::Change;
use crate::clock::Timestamp;
use crate::connection::{Address, BadAddress, Link};
use crate::id::{Generation, InstallationId};
use crate::record::{AccessRecord, Fields, StoredAccess, Unreadable};
use crate::refresh_pass;
use crate::seal::KeyRing;

/// Why the store gave no answer. "There is no such record" is an answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the store did not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the record of {of} cannot be read")]
    Unreadable { of: String, source: Unreadable },
}

impl ReadError {
    /// Whether the store may answer later, without anybody repairing anything.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Unreadable { .. } => false,
        }
    }
}

/// What a backend can look up; sealed values stay sealed.
///
/// The embedded backend implements this in `store-writer`, which owns its database.
pub trait Reads: Send + Sync + 'static {
    fn access<'a>(&'a self, id: &'a InstallationId) -> BoxFuture<'a, Result<Fields, ReadError>>;
    fn location<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<String>, ReadError>>;
    fn caller<'a>(&'a self, key: &'a KeyHash) -> BoxFuture<'a, Result<Fields, ReadError>>;
    fn keys_in_use(&self) -> BoxFuture<'_, Result<bool, ReadError>>;
    fn ping(&self) -> BoxFuture<'_, Result<(), ReadError>>;
    fn changes(&self) -> broadcast::Receiver<Change>;
    fn now(&self) -> Timestamp;
}

/// Reads access tokens and callers, and is told of changes. Cheap to clone.
#[derive(Clone)]
pub struct TokenReader {
    reads: Arc<dyn Reads>,
    access_ring: Arc<KeyRing>,
}

impl TokenReader {
    /// A reader of the store at a URL as [`Address::parse`] reads it. Connects in the background
    /// and keeps trying.
    ///
    /// # Errors
    /// When the URL is malformed.
    pub fn redis(url: &SecretString, access_ring: Arc<KeyRing>) -> Result<Self, BadAddress> {
        let link = Link::to(Address::parse(url)?)?;
        Ok(Self::on(link, access_ring))
    }

    /// A reader of the store at the other end of a link.
    #[must_use]
    pub fn on(link: Link, access_ring: Arc<KeyRing>) -> Self {
        Self::over(Arc::new(redis::RedisReads::start(link)), access_ring)
    }

    #[must_use]
    pub fn over(reads: Arc<dyn Reads>, access_ring: Arc<KeyRing>) -> Self {
        Self { reads, access_ring }
    }

    /// The installation's access token; `None` where there is no such installation.
    ///
    /// # Errors
    /// When the store is away or the record cannot be read.
    pub async fn access(&self, id: &InstallationId) -> Result<Option<AccessRecord>, ReadError> {
        let fields = self.reads.access(id).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        StoredAccess::from_fields(&fields)
            .and_then(|stored| stored.open(id, &self.access_ring))
            .map(Some)
            .map_err(|source| unreadable(id.as_str(), source))
    }

    /// The installation of a location or a company.
    ///
    /// # Errors
    /// When the store is away or the index holds something else than an id.
    pub async fn resolve(
        &self,
        location_or_company: &str,
    ) -> Result<Option<InstallationId>, ReadError> {
        let found = self.reads.location(location_or_company).await?;
        found
            .map(|id| {
                let malformed = |_| unreadable(location_or_company, Unreadable::Malformed("id"));
                id.parse().map_err(malformed)
            })
            .transpose()
    }

    /// The caller with this key; `None` where nobody has it.
    ///
    /// # Errors
    /// When the store is away or the record cannot be read.
    pub async fn caller(&self, key: &KeyHash) -> Result<Option<Caller>, ReadError> {
        let fields = self.reads.caller(key).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        Caller::from_fields(&fields)
            .map(Some)
            .map_err(|source| unreadable("a caller", source))
    }

    /// Whether a caller's key was ever made: from then on every call needs one.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn keys_in_use(&self) -> Result<bool, ReadError> {
        self.reads.keys_in_use().await
    }

    /// # Errors
    /// When the store is away.
    pub async fn ping(&self) -> Result<(), ReadError> {
        self.reads.ping().await
    }

    /// Announcements from now on. A receiver that lagged must take that for [`Change::Lost`].
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.reads.changes()
    }

    /// The store's time: what expiries are compared with.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.reads.now()
    }

    /// The `Authorization` with which a broker is asked for a refresh.
    #[must_use]
    pub fn sign_refresh(&self, id: &InstallationId, generation: Generation) -> String {
        refresh_pass::sign(&self.access_ring, id, generation)
    }
}

impl std::fmt::Debug for TokenReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReader").finish_non_exhaustive()
    }
}

fn unreadable(of: &str, source: Unreadable) -> ReadError {
    ReadError::Unreadable {
        of: of.to_owned(),
        source,
    }
}
