//! An access token as the data path needs it, and the sources of tokens, callers and installation names.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use store::clock::Moment;
use store::{
    AccessRecord, AppName, Caller, CompanyId, Freshness, Generation, InstallationId, KeyHash,
    LocationId, ReadError, Status, Timestamp, TokenReader, UserType, freshness,
};
use tokio::time::Instant;

use super::cache::{Source, Unavailable};
use crate::admission::concurrency::{Share, Shares};
use crate::admission::limit::RateLimit;
use crate::admission::limits::RateLimits;
use crate::audit::{AuditQueue, LastUse};
use crate::request::quota::{QuotaBucket, QuotaBuckets};

const SCHEME: &str = "Bearer ";

/// One installation's access token, ready to be sent.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) id: InstallationId,
    /// The whole `Authorization` header. Cloning it does not copy the token.
    pub(crate) bearer: HeaderValue,
    pub(crate) generation: Generation,
    /// `None` if it never expires.
    pub(crate) expires_at: Option<Timestamp>,
    /// When it expires by this process's monotonic clock. The store's clock may be set back.
    pub(crate) ends: Option<Moment>,
    pub(crate) lifetime: Duration,
    pub(crate) status: Status,
    pub(crate) app: AppName,
    pub(crate) user_type: UserType,
    pub(crate) location: Option<LocationId>,
    pub(crate) company: Option<CompanyId>,
    /// The installation of the agency whose grant it comes from.
    pub(crate) parent: Option<InstallationId>,
    pub(crate) scopes: Box<str>,
    /// The rate limit of its location, or of its company for an agency's token. It outlives the token.
    pub(crate) limit: Arc<RateLimit>,
}

/// A token with bytes that a header cannot contain.
#[derive(Debug, thiserror::Error)]
#[error("the token of {0} fits no header")]
pub(crate) struct Unsendable(InstallationId);

impl Token {
    pub(crate) fn new(
        id: &InstallationId,
        record: AccessRecord,
        now: Timestamp,
        limits: &RateLimits,
    ) -> Result<Self, Unsendable> {
        let text = [SCHEME, record.token.expose_secret()].concat();
        let mut bearer = HeaderValue::try_from(text).map_err(|_| Unsendable(id.clone()))?;
        bearer.set_sensitive(true);
        let owner = match record.user_type {
            UserType::Location => record.location.as_ref().map(LocationId::as_str),
            UserType::Company => record.company.as_ref().map(CompanyId::as_str),
        };
        // GHL limits each app alone.
        let limit = match owner {
            Some(owner) if record.app.is_default() => limits.of(owner),
            Some(owner) => limits.of(&format!("{owner} {}", record.app)),
            None => limits.of(id.as_str()),
        };
        Ok(Self {
            id: id.clone(),
            bearer,
            generation: record.generation,
            expires_at: record.expires_at,
            ends: record
                .expires_at
                .map(|expires_at| Moment::now() + expires_at.since(now)),
            lifetime: record.lifetime,
            status: record.status,
            app: record.app,
            user_type: record.user_type,
            location: record.location,
            company: record.company,
            parent: record.parent,
            scopes: record.scopes.into(),
            limit,
        })
    }

    pub(crate) fn freshness(&self, now: Timestamp) -> Freshness {
        match self.left(now) {
            None => Freshness::Fresh,
            Some(left) => freshness::of(now + left, self.lifetime, now),
        }
    }

    /// The remaining lifetime, by the store's clock and by this process's. `None` if it never expires.
    pub(crate) fn left(&self, now: Timestamp) -> Option<Duration> {
        let by_store = self.expires_at?.since(now);
        let own = self.ends?.since(Moment::now());
        Some(by_store.min(own))
    }

    /// An earlier read of the same token may have found an earlier expiry. The earlier one counts.
    fn ends_no_later_than(&mut self, held: &Self) {
        if self.generation == held.generation {
            self.ends = self.ends.zip(held.ends).map(|(new, held)| new.min(held));
        }
    }

    /// The token without the scheme, for services that get it.
    pub(crate) fn secret(&self) -> SecretString {
        let text = self.bearer.to_str().unwrap_or_default();
        text.strip_prefix(SCHEME).unwrap_or_default().into()
    }

    /// Whether this token ends a wait for a change of `old`.
    pub(crate) fn has_moved_on_from(&self, old: &Self) -> bool {
        self.is_another_than(old) || self.status != old.status
    }

    /// A lower generation counts, too. It is only seen after a higher one that has expired.
    pub(crate) fn is_another_than(&self, old: &Self) -> bool {
        self.generation != old.generation
    }
}

/// Tokens by installation.
pub(crate) struct Tokens {
    pub(crate) reader: TokenReader,
    pub(crate) limits: RateLimits,
}

impl Source for Tokens {
    type Key = InstallationId;
    type Value = Arc<Token>;
    const MAX_AGE: Duration = Duration::from_secs(30);

    async fn read(&self, id: &InstallationId) -> Result<Option<Arc<Token>>, Unavailable> {
        let record = self.reader.access(id).await?;
        let now = self.reader.now();
        let token = record.map(|record| Token::new(id, record, now, &self.limits));
        token
            .transpose()
            .map(|token| token.map(Arc::new))
            .map_err(|error| Unavailable {
                is_store_down: false,
                source: Arc::new(error),
            })
    }

    /// A lower generation comes from a store that has rolled back or lags, so it is older. It replaces only an
    /// expired token, so that a chain that starts over is followed.
    fn choose(&self, mut new: Arc<Token>, held: &Arc<Token>) -> Arc<Token> {
        let is_older = new.generation < held.generation;
        if is_older && held.freshness(self.reader.now()) != Freshness::Expired {
            return held.clone();
        }
        if let Some(new) = Arc::get_mut(&mut new) {
            new.ends_no_later_than(held);
        }
        new
    }
}

/// The installations of a location or company: one for each app.
pub(crate) type ByApp = Arc<[(AppName, InstallationId)]>;

/// Installations by location or company.
#[derive(Debug)]
pub(crate) struct Owners(pub(crate) TokenReader);

impl Source for Owners {
    type Key = Box<str>;
    type Value = ByApp;
    const MAX_AGE: Duration = Duration::from_secs(30);

    async fn read(&self, name: &Box<str>) -> Result<Option<ByApp>, Unavailable> {
        let found = self.0.resolve(name).await?;
        Ok((!found.is_empty()).then(|| found.into()))
    }
}

/// A caller and its quota.
#[derive(Debug)]
pub(crate) struct ApiKey {
    pub(crate) caller: Caller,
    /// `None` if it has no quota.
    pub(crate) quota: Option<QuotaBucket>,
    pub(crate) share: Share,
    /// When its use was reported last.
    pub(crate) last_use: LastUse,
    /// When the record was read.
    pub(crate) read_at: Instant,
}

/// Callers by their key.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) reader: TokenReader,
    pub(crate) quotas: QuotaBuckets,
    pub(crate) shares: Arc<Shares>,
    pub(crate) audit: Arc<AuditQueue>,
}

impl Source for Keys {
    type Key = KeyHash;
    type Value = Arc<ApiKey>;
    /// A revocation takes effect within this even if its announcement is lost.
    const MAX_AGE: Duration = Duration::from_secs(1);

    async fn read(&self, key: &KeyHash) -> Result<Option<Arc<ApiKey>>, Unavailable> {
        let caller = self.reader.caller(key).await?;
        Ok(caller.map(|caller| {
            let quota = caller.quota.map(|quota| self.quotas.of(key, quota));
            let share = self.shares.of(key);
            let last_use = self.audit.last_use(key);
            Arc::new(ApiKey {
                caller,
                quota,
                share,
                last_use,
                read_at: Instant::now(),
            })
        }))
    }
}

impl From<ReadError> for Unavailable {
    fn from(error: ReadError) -> Self {
        Self {
            is_store_down: error.is_unavailable(),
            source: Arc::new(error),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::metrics::Queued;

    /// A location's token that expires in 24 h.
    pub(crate) fn token() -> Token {
        token_read_at(Timestamp::from_millis(0))
    }

    fn token_read_at(now: Timestamp) -> Token {
        let id = "install_00112233445566778899aabb".parse().unwrap();
        let record = AccessRecord {
            token: "secret".into(),
            expires_at: Some(Timestamp::from_millis(86_400_000)),
            lifetime: Duration::from_secs(86_400),
            generation: Generation::FIRST,
            status: Status::Active,
            app: AppName::default(),
            location: Some("LOC1".parse().unwrap()),
            company: Some("COM1".parse().unwrap()),
            parent: None,
            user_type: UserType::Location,
            scopes: String::new(),
        };
        Token::new(&id, record, now, &RateLimits::new(Queued::new())).unwrap()
    }

    #[test]
    fn store_clock_that_is_set_back_does_not_extend_a_token() {
        let late = Timestamp::from_millis(86_399_000);
        let held = token_read_at(late);
        assert_eq!(held.freshness(late), Freshness::Expired);
        let set_back = Timestamp::from_millis(0);
        assert_eq!(held.freshness(set_back), Freshness::Expired);
        let mut read_again = token_read_at(set_back);
        assert_eq!(read_again.freshness(set_back), Freshness::Fresh);
        read_again.ends_no_later_than(&held);
        assert_eq!(read_again.freshness(set_back), Freshness::Expired);
    }

    #[test]
    fn bearer_header_is_ready_and_debug_output_is_redacted() {
        let token = token();
        assert_eq!(token.bearer, "Bearer secret");
        assert_eq!(token.secret().expose_secret(), "secret");
        assert!(!format!("{token:?}").contains("secret"));
    }
}
