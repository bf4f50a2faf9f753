//! Callers and their API keys.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::request::Parts;
use service::credentials::presented;
use service::origin;
use store::{AppName, InstallationId, KeyHash, Scope, TokenReader};

use super::quota::QuotaBuckets;
use super::selector::Call;
use crate::admission::concurrency::{Share, Shares};
use crate::admission::limited::Limited;
use crate::audit::AuditQueue;
use crate::token::cache::{Cache, Counters, Unavailable};
use crate::token::sources::Token;
use crate::token::sources::{ApiKey, Keys};

/// Why a caller is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallerError {
    #[error("Missing API key")]
    NoKey,
    #[error("Invalid API key")]
    UnknownKey,
    #[error("The API key lacks the scope {0}")]
    LacksScope(Scope),
    #[error("The API key may not call {method} {path}")]
    CallNotAllowed { method: Method, path: String },
    /// It may have been revoked meanwhile.
    #[error("The store has not confirmed the API key for too long")]
    Stale,
    #[error(transparent)]
    Quota(#[from] Limited),
    #[error(transparent)]
    Store(#[from] Unavailable),
}

/// The permission that a request needs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Permission<'a> {
    /// To get a token.
    Tokens,
    /// To use an installation, for what the gateway does with it.
    Proxy,
    /// To make this call to GHL.
    Call(Call<'a>),
}

impl Permission<'_> {
    fn scope(self) -> Scope {
        match self {
            Self::Tokens => Scope::Tokens,
            Self::Proxy | Self::Call(_) => Scope::Proxy,
        }
    }
}

/// The callers' keys. Those that were presented recently are cached.
pub(crate) struct Callers {
    reader: TokenReader,
    pub(crate) keys: Cache<Keys>,
    /// For how long a key is accepted that cannot be read again.
    key_staleness: Duration,
    allows_anonymous: bool,
    audit: Arc<AuditQueue>,
}

/// A caller that has passed authentication.
#[derive(Debug)]
pub(crate) enum AuthenticatedCaller {
    /// Without a key, over the sandbox. It may use every installation.
    Anonymous,
    Caller(KeyHash, Arc<ApiKey>),
}

impl Callers {
    /// `allows_anonymous`: whether programs on this machine may call without a key. Only over the sandbox.
    pub(crate) fn new(
        reader: &TokenReader,
        audit: Arc<AuditQueue>,
        shares: Shares,
        key_staleness: Duration,
        allows_anonymous: bool,
    ) -> Self {
        let keys = Keys {
            reader: reader.clone(),
            quotas: QuotaBuckets::default(),
            shares,
            audit: Arc::clone(&audit),
        };
        Self {
            reader: reader.clone(),
            keys: Cache::new(keys, Counters::none()),
            key_staleness,
            allows_anonymous,
            audit,
        }
    }

    /// Accepts a request if its key is live, has the permission, and its quota is not used up.
    pub(crate) async fn authenticate(
        &self,
        parts: &Parts,
        needed: Permission<'_>,
    ) -> Result<AuthenticatedCaller, CallerError> {
        let scope = needed.scope();
        let Some(key) = presented(&parts.headers) else {
            return self.without_key(parts, scope);
        };
        let key = KeyHash::of(key);
        let Some(holder) = self.keys.get(&key).await? else {
            return Err(CallerError::UnknownKey);
        };
        if holder.read_at.elapsed() > self.key_staleness {
            return Err(CallerError::Stale);
        }
        let now = self.reader.now();
        if !holder.caller.is_live(now) {
            return Err(CallerError::UnknownKey);
        }
        if !holder.caller.may(scope) {
            return Err(CallerError::LacksScope(scope));
        }
        if let Permission::Call(Call { method, path }) = needed
            && !holder.caller.may_call(method.as_str(), path)
        {
            let (method, path) = (method.clone(), path.to_owned());
            return Err(CallerError::CallNotAllowed { method, path });
        }
        if let Some(quota) = &holder.quota {
            quota.count()?;
        }
        self.audit.used(&key, &holder.last_use, now);
        Ok(AuthenticatedCaller::Caller(key, holder))
    }

    /// Anonymous callers may only proxy: a token would outlive the sandbox's rules.
    fn without_key(&self, parts: &Parts, scope: Scope) -> Result<AuthenticatedCaller, CallerError> {
        if self.allows_anonymous && scope == Scope::Proxy && origin::is_direct_and_local(parts) {
            Ok(AuthenticatedCaller::Anonymous)
        } else {
            Err(CallerError::NoKey)
        }
    }
}

impl AuthenticatedCaller {
    pub(crate) fn key(&self) -> Option<KeyHash> {
        match self {
            Self::Anonymous => None,
            Self::Caller(key, _) => Some(*key),
        }
    }

    /// The concurrent calls that this caller may have.
    pub(crate) fn share(&self) -> Option<Share> {
        match self {
            Self::Anonymous => None,
            Self::Caller(_, holder) => Some(holder.share.clone()),
        }
    }

    pub(crate) fn may_use(&self, token: &Token) -> bool {
        match self {
            Self::Anonymous => true,
            Self::Caller(_, holder) => {
                let caller = &holder.caller;
                caller.may_use(&token.id, token.parent.as_ref(), &token.app)
            }
        }
    }

    /// The app whose installations it may use. `None` for those of all apps.
    pub(crate) fn app(&self) -> Option<&AppName> {
        match self {
            Self::Anonymous => None,
            Self::Caller(_, holder) => holder.caller.app.as_ref(),
        }
    }

    /// The installations that it may use. `None` for all.
    pub(crate) fn installations(&self) -> Option<&[InstallationId]> {
        match self {
            Self::Anonymous => None,
            Self::Caller(_, holder) => holder.caller.installations.as_deref(),
        }
    }

    pub(crate) fn only_installation(&self) -> Option<&InstallationId> {
        match self {
            Self::Anonymous => None,
            Self::Caller(_, holder) => holder.caller.only_installation(),
        }
    }

    /// Whether its key is for some installations only. It must not learn which others exist.
    pub(crate) fn is_restricted(&self) -> bool {
        match self {
            Self::Anonymous => false,
            Self::Caller(_, key) => key.caller.installations.is_some() || key.caller.app.is_some(),
        }
    }
}
