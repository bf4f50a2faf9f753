//! An access token as the data path wants it, and where tokens, callers and names are read from.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use store::clock::Moment;
use store::{
    AccessRecord, Caller, CompanyId, Freshness, Generation, InstallationId, KeyHash, LocationId,
    ReadError, Status, Timestamp, TokenReader, UserType, freshness,
};

use super::cache::{Source, Unavailable};
use crate::admission::limit::RateLimit;
use crate::admission::limits::RateLimits;
use crate::request::quota::{QuotaBucket, QuotaBuckets};

const SCHEME: &str = "Bearer ";

/// One installation's access token, ready to be sent.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) id: InstallationId,
    /// The whole `Authorization` header: copying it copies no byte of the token.
    pub(crate) bearer: HeaderValue,
    pub(crate) generation: Generation,
    /// `None`: never.
    pub(crate) expires_at: Option<Timestamp>,
    /// When it ends by this process's own clock, which nobody sets. The store's clock may be set back.
    pub(crate) ends: Option<Moment>,
    pub(crate) lifetime: Duration,
    pub(crate) status: Status,
    pub(crate) user_type: UserType,
    pub(crate) location: Option<LocationId>,
    pub(crate) company: Option<CompanyId>,
    pub(crate) scopes: Box<str>,
    /// Its location's, or its company's where it is a company's: that outlives the token.
    pub(crate) limit: Arc<RateLimit>,
}

/// A token with bytes in it that no header can carry.
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
        let limit = limits.of(owner.unwrap_or(id.as_str()));
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
            user_type: record.user_type,
            location: record.location,
            company: record.company,
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

    /// How long it still lives, by the store's clock and by this process's; `None`: for ever.
    pub(crate) fn left(&self, now: Timestamp) -> Option<Duration> {
        let told = self.expires_at?.since(now);
        let own = self.ends?.since(Moment::now());
        Some(told.min(own))
    }

    /// The same token, read before, may have ended earlier than it would now.
    fn ends_no_later_than(&mut self, held: &Self) {
        if self.generation == held.generation {
            self.ends = self.ends.zip(held.ends).map(|(new, held)| new.min(held));
        }
    }

    /// The token alone, for those who are handed it.
    pub(crate) fn secret(&self) -> SecretString {
        let text = self.bearer.to_str().unwrap_or_default();
        text.strip_prefix(SCHEME).unwrap_or_default().into()
    }

    /// Whether waiting for a change of `old` has come to an end with this one.
    pub(crate) fn has_moved_on_from(&self, old: &Self) -> bool {
        self.is_another_than(old) || self.status != old.status
    }

    /// A lower generation counts: it is only ever seen after a higher one that is dead.
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
                is_away: false,
                source: Arc::new(error),
            })
    }

    /// A lower generation comes from a store that has rolled back, or lags: what it says is older.
    /// Only an expired token gives way, so that a chain which starts over is followed again.
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

/// Installations by location or company.
#[derive(Debug)]
pub(crate) struct Places(pub(crate) TokenReader);

impl Source for Places {
    type Key = Box<str>;
    type Value = InstallationId;
    const MAX_AGE: Duration = Duration::from_secs(30);

    async fn read(&self, place: &Box<str>) -> Result<Option<InstallationId>, Unavailable> {
        Ok(self.0.resolve(place).await?)
    }
}

/// A caller, and what is left of its quota.
#[derive(Debug)]
pub(crate) struct ApiKey {
    pub(crate) caller: Caller,
    /// `None`: it has no quota.
    pub(crate) quota: Option<QuotaBucket>,
}

/// Callers by their key.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) reader: TokenReader,
    pub(crate) quotas: QuotaBuckets,
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
            Arc::new(ApiKey { caller, quota })
        }))
    }
}

/// Whether callers need a key at all.
#[derive(Debug)]
pub(crate) struct KeysInUse(pub(crate) TokenReader);

impl Source for KeysInUse {
    type Key = ();
    type Value = bool;
    const MAX_AGE: Duration = Duration::from_secs(1);

    async fn read(&self, (): &()) -> Result<Option<bool>, Unavailable> {
        Ok(Some(self.0.keys_in_use().await?))
    }
}

impl From<ReadError> for Unavailable {
    fn from(error: ReadError) -> Self {
        Self {
            is_away: error.is_unavailable(),
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
            location: Some("LOC1".parse().unwrap()),
            company: Some("COM1".parse().unwrap()),
            user_type: UserType::Location,
            scopes: String::new(),
        };
        Token::new(&id, record, now, &RateLimits::new(Queued::new())).unwrap()
    }

    #[test]
    fn a_store_clock_that_is_set_back_makes_no_token_live_longer() {
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
    fn a_token_is_ready_to_send_and_shows_itself_to_nobody() {
        let token = token();
        assert_eq!(token.bearer, "Bearer secret");
        assert_eq!(token.secret().expose_secret(), "secret");
        assert!(!format!("{token:?}").contains("secret"));
    }
}
