//! Callers and their API keys.

use std::slice;
use std::sync::Arc;

use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderValue, Method};
use service::credentials::presented;
use service::origin;
use store::{AppName, BrowserKey, InstallationId, KeyHash, Scope, Timestamp, TokenReader};

use super::quota::QuotaBuckets;
use super::selector::Call;
use crate::access_log::record::RequestRecord;
use crate::admission::concurrency::{Share, Shares};
use crate::admission::limited::Limited;
use crate::audit::AuditQueue;
use crate::limits::Limits;
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
    /// It is one of ours.
    #[error("The browser key has expired")]
    BrowserKeyExpired,
    #[error("The browser key is for pages of another origin")]
    OriginNotAllowed,
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
    /// To change what this process does.
    Admin,
    /// To use an installation, for what the gateway does with it.
    Proxy,
    /// To make this call to GHL.
    Call(Call<'a>),
}

impl Permission<'_> {
    fn scope(self) -> Scope {
        match self {
            Self::Tokens => Scope::Tokens,
            Self::Admin => Scope::Admin,
            Self::Proxy | Self::Call(_) => Scope::Proxy,
        }
    }
}

/// The callers' keys. Those that were presented recently are cached.
pub(crate) struct Callers {
    reader: TokenReader,
    pub(crate) keys: Cache<Keys>,
    limits: Arc<Limits>,
    shares: Arc<Shares>,
    allows_anonymous: bool,
    audit: Arc<AuditQueue>,
}

/// A caller that has passed authentication.
#[derive(Debug)]
pub(crate) enum AuthenticatedCaller {
    /// Without a key, over the sandbox. It may use every installation.
    Anonymous,
    Caller(KeyHash, Arc<ApiKey>),
    Browser(Box<Browser>),
}

/// A browser, with a key that it got from the owner of another key. Its calls count as those of that owner.
#[derive(Debug)]
pub(crate) struct Browser {
    key: BrowserKey,
    issuer: Arc<ApiKey>,
}

impl Callers {
    /// `allows_anonymous`: whether programs on this machine may call without a key. Only over the sandbox.
    pub(crate) fn new(
        reader: &TokenReader,
        audit: Arc<AuditQueue>,
        shares: Shares,
        limits: Arc<Limits>,
        allows_anonymous: bool,
    ) -> Self {
        let shares = Arc::new(shares);
        let keys = Keys {
            reader: reader.clone(),
            quotas: QuotaBuckets::default(),
            shares: Arc::clone(&shares),
            audit: Arc::clone(&audit),
        };
        Self {
            reader: reader.clone(),
            keys: Cache::new(keys, Counters::none()),
            limits,
            shares,
            allows_anonymous,
            audit,
        }
    }

    /// Changes the size of the share of each key.
    pub(crate) fn resize_shares(&self, size: usize) {
        self.shares.resize(size);
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
        if BrowserKey::is_one(key) {
            // Boxed, since it would make the future of every call larger.
            return Box::pin(self.browser(parts, key, needed)).await;
        }
        let (key, now) = (KeyHash::of(key), self.reader.now());
        let holder = self.live(&key, now).await?;
        RequestRecord::note_key(&parts.extensions, &holder);
        if !holder.caller.may(scope) {
            return Err(CallerError::LacksScope(scope));
        }
        if let Permission::Call(Call { method, path }) = needed
            && !holder.caller.may_call(method.as_str(), path)
        {
            return Err(not_allowed(method, path));
        }
        self.count(&key, &holder, now)?;
        Ok(AuthenticatedCaller::Caller(key, holder))
    }

    /// The owner of a key that is neither unknown, nor revoked, nor expired.
    async fn live(&self, key: &KeyHash, now: Timestamp) -> Result<Arc<ApiKey>, CallerError> {
        let Some(holder) = self.keys.get(key).await? else {
            return Err(CallerError::UnknownKey);
        };
        if holder.read_at.elapsed() > self.limits.key_staleness() {
            return Err(CallerError::Stale);
        }
        match holder.caller.is_live(now) {
            true => Ok(holder),
            false => Err(CallerError::UnknownKey),
        }
    }

    /// Counts a call for the owner of the key.
    fn count(&self, key: &KeyHash, holder: &ApiKey, now: Timestamp) -> Result<(), CallerError> {
        if let Some(quota) = &holder.quota {
            quota.count()?;
        }
        self.audit.used(key, &holder.last_use, now);
        Ok(())
    }

    /// Accepts a request with a browser key. A right that its issuer has lost is lost for the key, too.
    async fn browser(
        &self,
        parts: &Parts,
        presented: &str,
        needed: Permission<'_>,
    ) -> Result<AuthenticatedCaller, CallerError> {
        let key = self.reader.browser_key(presented);
        let key = key.ok_or(CallerError::UnknownKey)?;
        let now = self.reader.now();
        if !key.is_live(now) {
            return Err(CallerError::BrowserKeyExpired);
        }
        let issuer = self.live(&key.issuer, now).await?;
        RequestRecord::note_key(&parts.extensions, &issuer);
        for scope in [Scope::Connect, Scope::Proxy] {
            if !issuer.caller.may(scope) {
                return Err(CallerError::LacksScope(scope));
            }
        }
        let origin = parts.headers.get(ORIGIN).map(HeaderValue::to_str);
        if !key.may_come_from(origin.and_then(Result::ok)) {
            return Err(CallerError::OriginNotAllowed);
        }
        match needed {
            Permission::Tokens | Permission::Admin => {
                return Err(CallerError::LacksScope(needed.scope()));
            }
            // It is for calls alone.
            Permission::Proxy => return Err(not_allowed(&parts.method, parts.uri.path())),
            Permission::Call(Call { method, path }) => {
                let (name, caller) = (method.as_str(), &issuer.caller);
                if !key.may_call(name, path) || !caller.may_call(name, path) {
                    return Err(not_allowed(method, path));
                }
            }
        }
        self.count(&key.issuer, &issuer, now)?;
        let browser = Browser { key, issuer };
        Ok(AuthenticatedCaller::Browser(Box::new(browser)))
    }

    /// The hash of a key, or of the key that issued it.
    pub(crate) fn hash_of(&self, presented: &str) -> KeyHash {
        let of_browser = BrowserKey::is_one(presented).then(|| self.reader.browser_key(presented));
        let issuer = of_browser.flatten().map(|key| key.issuer);
        issuer.unwrap_or_else(|| KeyHash::of(presented))
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

fn not_allowed(method: &Method, path: &str) -> CallerError {
    CallerError::CallNotAllowed {
        method: method.clone(),
        path: path.to_owned(),
    }
}

impl AuthenticatedCaller {
    pub(crate) fn key(&self) -> Option<KeyHash> {
        match self {
            Self::Anonymous => None,
            Self::Caller(key, _) => Some(*key),
            Self::Browser(browser) => Some(browser.key.issuer),
        }
    }

    /// The concurrent calls that this caller may have.
    pub(crate) fn share(&self) -> Option<Share> {
        match self {
            Self::Anonymous => None,
            Self::Caller(_, holder) => Some(holder.share.clone()),
            Self::Browser(browser) => Some(browser.issuer.share.clone()),
        }
    }

    pub(crate) fn may_use(&self, token: &Token) -> bool {
        match self {
            Self::Anonymous => true,
            Self::Caller(_, holder) => {
                let caller = &holder.caller;
                caller.may_use(&token.id, token.parent.as_ref(), &token.app)
            }
            Self::Browser(browser) => {
                let caller = &browser.issuer.caller;
                token.id == browser.key.installation
                    && caller.may_use(&token.id, token.parent.as_ref(), &token.app)
            }
        }
    }

    /// The app whose installations it may use. `None` for those of all apps.
    pub(crate) fn app(&self) -> Option<&AppName> {
        match self {
            Self::Anonymous => None,
            Self::Caller(_, holder) => holder.caller.app.as_ref(),
            Self::Browser(browser) => browser.issuer.caller.app.as_ref(),
        }
    }

    /// The installations that it may use. `None` for all.
    pub(crate) fn installations(&self) -> Option<&[InstallationId]> {
        match self {
            Self::Anonymous => None,
            Self::Caller(_, holder) => holder.caller.installations.as_deref(),
            Self::Browser(browser) => Some(slice::from_ref(&browser.key.installation)),
        }
    }

    pub(crate) fn only_installation(&self) -> Option<&InstallationId> {
        match self {
            Self::Anonymous => None,
            Self::Caller(_, holder) => holder.caller.only_installation(),
            Self::Browser(browser) => Some(&browser.key.installation),
        }
    }

    /// Whether its key is for some installations only. It must not learn which others exist.
    pub(crate) fn is_restricted(&self) -> bool {
        match self {
            Self::Anonymous => false,
            Self::Caller(_, key) => key.caller.installations.is_some() || key.caller.app.is_some(),
            Self::Browser(_) => true,
        }
    }
}
