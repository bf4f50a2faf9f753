//! Callers and their API keys.

use std::sync::Arc;

use http::HeaderMap;
use service::credentials::presented;
use store::{InstallationId, KeyHash, Scope, TokenReader};

use super::quota::QuotaBuckets;
use crate::admission::limited::Limited;
use crate::token::cache::{Cache, Counters, Unavailable};
use crate::token::sources::{ApiKey, Keys, KeysInUse};

/// Why a caller is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallerError {
    #[error("Missing API key")]
    NoKey,
    #[error("Invalid API key")]
    UnknownKey,
    #[error("The API key lacks the scope {0}")]
    LacksScope(Scope),
    #[error(transparent)]
    Quota(#[from] Limited),
    #[error(transparent)]
    Store(#[from] Unavailable),
}

/// The callers' keys. Those that were presented recently are cached.
pub(crate) struct Callers {
    reader: TokenReader,
    pub(crate) keys: Cache<Keys>,
    pub(crate) in_use: Cache<KeysInUse>,
}

/// A caller that has passed authentication.
#[derive(Debug)]
pub(crate) enum AuthenticatedCaller {
    /// No key was ever made, so every caller may do everything.
    Anyone,
    Caller(KeyHash, Arc<ApiKey>),
}

impl Callers {
    pub(crate) fn new(reader: &TokenReader) -> Self {
        let keys = Keys {
            reader: reader.clone(),
            quotas: QuotaBuckets::default(),
        };
        Self {
            reader: reader.clone(),
            keys: Cache::new(keys, Counters::none()),
            in_use: Cache::new(KeysInUse(reader.clone()), Counters::none()),
        }
    }

    /// Accepts a request if its key is live, has the scope, and its quota is not used up.
    pub(crate) async fn authenticate(
        &self,
        headers: &HeaderMap,
        scope: Scope,
    ) -> Result<AuthenticatedCaller, CallerError> {
        let Some(key) = presented(headers) else {
            return self.without_key(CallerError::NoKey).await;
        };
        let key = KeyHash::of(key);
        let Some(holder) = self.keys.get(&key).await? else {
            return self.without_key(CallerError::UnknownKey).await;
        };
        if !holder.caller.is_live(self.reader.now()) {
            return Err(CallerError::UnknownKey);
        }
        if !holder.caller.may(scope) {
            return Err(CallerError::LacksScope(scope));
        }
        if let Some(quota) = &holder.quota {
            quota.count()?;
        }
        Ok(AuthenticatedCaller::Caller(key, holder))
    }

    /// Whether a key was ever made.
    pub(crate) async fn in_use(&self) -> Result<bool, Unavailable> {
        Ok(self.in_use.get(&()).await?.unwrap_or(true))
    }

    async fn without_key(&self, refusal: CallerError) -> Result<AuthenticatedCaller, CallerError> {
        if self.in_use().await? {
            Err(refusal)
        } else {
            Ok(AuthenticatedCaller::Anyone)
        }
    }
}

impl AuthenticatedCaller {
    pub(crate) fn key(&self) -> Option<KeyHash> {
        match self {
            Self::Anyone => None,
            Self::Caller(key, _) => Some(*key),
        }
    }

    pub(crate) fn may_use(&self, id: &InstallationId) -> bool {
        match self {
            Self::Anyone => true,
            Self::Caller(_, holder) => holder.caller.may_use(id),
        }
    }

    pub(crate) fn only_installation(&self) -> Option<&InstallationId> {
        match self {
            Self::Anyone => None,
            Self::Caller(_, holder) => holder.caller.only_installation(),
        }
    }

    /// Whether its key is for some installations only. It must not learn which others exist.
    pub(crate) fn is_restricted(&self) -> bool {
        match self {
            Self::Anyone => false,
            Self::Caller(_, key) => key.caller.installations.is_some(),
        }
    }
}
