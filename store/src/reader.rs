//! The read half of the store. A gateway has nothing else.

mod redis;

use std::sync::Arc;

use futures_util::future::{BoxFuture, try_join3};
use secrecy::SecretString;
use tokio::sync::broadcast;

use crate::app::AppName;
use crate::audit::Pass;
use crate::browser_key::BrowserKey;
use crate::caller::{Caller, KeyHash};
use crate::clock::Timestamp;
use crate::connection::{Address, BadAddress, RedisClient};
use crate::id::{Generation, InstallationId};
use crate::invalidation::Invalidation;
use crate::key_list::{KeyCheck, KeyList, RingKind};
use crate::metrics::Reads;
use crate::record::{AccessRecord, Fields, StoredAccess, Unreadable};
use crate::seal::KeyRing;
use crate::{lookup_request_mac, refresh_request_mac};

use lookup_request_mac::Question;

/// Why the store gave no answer. A missing record is an answer, not an error.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store is unreachable or refuses reads.
    #[error("the store did not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The record is malformed, of a newer schema, or sealed with another ring.
    #[error("the record of {of} cannot be read")]
    Unreadable {
        /// Names the record: an installation, a location or "a caller".
        of: String,
        /// Why it cannot be read.
        source: Unreadable,
    },
}

impl ReadError {
    /// Whether the store may answer later without a repair.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Unreadable { .. } => false,
        }
    }
}

/// Raw lookups of a backend. Sealed values stay sealed.
///
/// The embedded backend implements this in `store-writer`, which owns its database.
pub trait ReadBackend: Send + Sync + 'static {
    /// The access half of the record; empty if there is no such installation.
    fn access<'a>(&'a self, id: &'a InstallationId) -> BoxFuture<'a, Result<Fields, ReadError>>;
    /// The installation ids of a location or company, by the name of the app.
    fn location<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Fields, ReadError>>;
    /// The record of a caller's key; empty if there is no such key.
    fn caller<'a>(&'a self, key: &'a KeyHash) -> BoxFuture<'a, Result<Fields, ReadError>>;
    /// The list of the access ring's keys; empty if there is none.
    fn access_key_list(&self) -> BoxFuture<'_, Result<Fields, ReadError>>;
    /// Whether the store answers.
    fn ping(&self) -> BoxFuture<'_, Result<(), ReadError>>;
    /// Announcements from now on.
    fn invalidations(&self) -> broadcast::Receiver<Invalidation>;
    /// The store's time.
    fn now(&self) -> Timestamp;
}

/// Reads access tokens and callers, and receives cache invalidations. Cheap to clone.
#[derive(Clone)]
pub struct TokenReader {
    backend: Arc<dyn ReadBackend>,
    access_ring: Arc<KeyRing>,
    reads: Arc<Reads>,
}

impl TokenReader {
    /// A reader of the store at a URL of the form that [`Address::parse`] reads. Connects in the background
    /// and retries forever.
    ///
    /// # Errors
    /// When the URL is malformed.
    pub fn redis(url: &SecretString, access_ring: Arc<KeyRing>) -> Result<Self, BadAddress> {
        Self::at(Address::parse(url)?, access_ring)
    }

    /// As [`TokenReader::redis`], of the store at this address.
    ///
    /// # Errors
    /// When the address' settings contradict each other.
    pub fn at(address: Address, access_ring: Arc<KeyRing>) -> Result<Self, BadAddress> {
        let client = RedisClient::open(address)?;
        Ok(Self::from_client(client, access_ring))
    }

    /// A reader of the client's store.
    #[must_use]
    pub fn from_client(client: RedisClient, access_ring: Arc<KeyRing>) -> Self {
        Self::from_backend(
            Arc::new(redis::RedisReadBackend::start(client)),
            access_ring,
        )
    }

    /// A reader over any backend.
    #[must_use]
    pub fn from_backend(backend: Arc<dyn ReadBackend>, access_ring: Arc<KeyRing>) -> Self {
        Self {
            backend,
            access_ring,
            reads: Arc::new(Reads::new()),
        }
    }

    /// The installation's record with its access token; `None` if there is no such installation.
    ///
    /// # Errors
    /// When the store is unavailable or the record cannot be read.
    pub async fn access(&self, id: &InstallationId) -> Result<Option<AccessRecord>, ReadError> {
        let fields = self.access_fields(id).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        StoredAccess::from_fields(&fields)
            .and_then(|stored| stored.open(id, &self.access_ring))
            .map(Some)
            .map_err(|source| unreadable(id.as_str(), source))
    }

    /// The installations of a location or a company: one for each app. The order is that of the names of the apps.
    ///
    /// # Errors
    /// When the store is unavailable or an index entry is no id.
    pub async fn resolve(
        &self,
        location_or_company: &str,
    ) -> Result<Vec<(AppName, InstallationId)>, ReadError> {
        let reading = self.backend.location(location_or_company);
        let found = self.reads.location.observe(reading).await?;
        parse_index(&found).map_err(|source| unreadable(location_or_company, source))
    }

    /// The caller with this key; `None` if there is no such key.
    ///
    /// # Errors
    /// When the store is unavailable or the record cannot be read.
    pub async fn caller(&self, key: &KeyHash) -> Result<Option<Caller>, ReadError> {
        let fields = self.caller_fields(key).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        Caller::from_fields(&fields)
            .map(Some)
            .map_err(|source| unreadable("a caller", source))
    }

    /// Compares the access ring with the store's list of keys.
    ///
    /// # Errors
    /// When the store is unavailable, or refuses to show the list.
    pub async fn check_keys(&self) -> Result<KeyCheck, ReadError> {
        self.check_ring(&self.access_ring).await
    }

    /// As [`TokenReader::check_keys`], with another access ring.
    ///
    /// # Errors
    /// When the store is unavailable, or refuses to show the list.
    pub async fn check_ring(&self, access_ring: &KeyRing) -> Result<KeyCheck, ReadError> {
        let reading = self.backend.access_key_list();
        let fields = self.reads.key_list.observe(reading).await?;
        let list = KeyList::from_fields(&fields);
        let list = list.map_err(|source| unreadable("the list of sealing keys", source))?;
        Ok(list.check(RingKind::Access, access_ring))
    }

    /// The ring that opens access tokens. Its keys can be replaced.
    #[must_use]
    pub fn access_ring(&self) -> &KeyRing {
        &self.access_ring
    }

    /// Checks that the store answers.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn ping(&self) -> Result<(), ReadError> {
        self.reads.ping.observe(self.backend.ping()).await
    }

    /// Reads what the gateway needs for a token that it does not hold: an installation, a caller's key, and the list of
    /// sealing keys, with which the access ring is compared. The first two do not exist.
    ///
    /// # Errors
    /// When the store is unavailable, or refuses to show one of them.
    pub async fn probe(&self) -> Result<KeyCheck, ReadError> {
        let (nobody, no_key) = (InstallationId::none(), KeyHash::of("readiness"));
        let (keys, _, _) = try_join3(
            self.check_keys(),
            self.access_fields(&nobody),
            self.caller_fields(&no_key),
        )
        .await?;
        Ok(keys)
    }

    async fn access_fields(&self, id: &InstallationId) -> Result<Fields, ReadError> {
        self.reads.access.observe(self.backend.access(id)).await
    }

    async fn caller_fields(&self, key: &KeyHash) -> Result<Fields, ReadError> {
        self.reads.caller.observe(self.backend.caller(key)).await
    }

    /// Announcements from now on. A receiver that lagged must treat that as [`Invalidation::ChannelLost`].
    #[must_use]
    pub fn invalidations(&self) -> broadcast::Receiver<Invalidation> {
        self.backend.invalidations()
    }

    /// The store's time. Expiries are compared with it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.backend.now()
    }

    /// The browser key that a broker with the same access ring issued. `None` for any other text. It may have expired.
    #[must_use]
    pub fn browser_key(&self, presented: &str) -> Option<BrowserKey> {
        BrowserKey::verify(&self.access_ring, presented)
    }

    /// The `Authorization` value of a report to a broker: see [`Pass`].
    #[must_use]
    pub fn sign_report(&self, pass: &Pass) -> String {
        pass.sign(&self.access_ring)
    }

    /// The `Authorization` value of a question to a broker: see [`lookup_request_mac`].
    #[must_use]
    pub fn sign_lookup(&self, question: &Question<'_>) -> String {
        lookup_request_mac::sign(&self.access_ring, question)
    }

    /// The `Authorization` value of a refresh request to a broker: see [`refresh_request_mac`].
    #[must_use]
    pub fn sign_refresh_request(&self, id: &InstallationId, generation: Generation) -> String {
        refresh_request_mac::sign(&self.access_ring, id, generation)
    }
}

impl std::fmt::Debug for TokenReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReader").finish_non_exhaustive()
    }
}

/// The installations of a location or company by the name of the app, as they are stored.
///
/// # Errors
/// When a name or an id is malformed.
pub fn parse_index(fields: &Fields) -> Result<Vec<(AppName, InstallationId)>, Unreadable> {
    let parse = |(app, id): (&str, &[u8])| {
        let id = std::str::from_utf8(id).ok()?;
        Some((app.parse().ok()?, id.parse().ok()?))
    };
    let all: Option<Vec<_>> = fields.iter().map(parse).collect();
    all.ok_or(Unreadable::Malformed("id"))
}

fn unreadable(of: &str, source: Unreadable) -> ReadError {
    ReadError::Unreadable {
        of: of.to_owned(),
        source,
    }
}
