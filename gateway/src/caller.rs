//! Who calls, and whether they may.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use store::{InstallationId, KeyHash, Scope, TokenReader};

use crate::cache::{Cache, Counters, Unavailable};
use crate::error::Error;
use crate::headers;
use crate::quota::Meters;
use crate::token::{KeyHolder, Keys, KeysInUse};

/// The callers' keys, as far as they were presented lately.
pub(crate) struct Callers {
    reader: TokenReader,
    pub(crate) keys: Cache<Keys>,
    pub(crate) in_use: Cache<KeysInUse>,
}

/// Somebody who may go on.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// No key was ever made: whoever reaches us may do everything.
    Anyone,
    Caller(KeyHash, Arc<KeyHolder>),
}

impl Callers {
    pub(crate) fn new(reader: &TokenReader) -> Self {
        let keys = Keys {
            reader: reader.clone(),
            meters: Meters::default(),
        };
        Self {
            reader: reader.clone(),
            keys: Cache::new(keys, Counters::none()),
            in_use: Cache::new(KeysInUse(reader.clone()), Counters::none()),
        }
    }

    /// Lets a request in whose key is live, has the scope, and something left of its quota.
    pub(crate) async fn admit(&self, headers: &HeaderMap, scope: Scope) -> Result<Admitted, Error> {
        let Some(key) = presented(headers) else {
            return self.without(Error::NoKey).await;
        };
        let key = KeyHash::of(key);
        let Some(holder) = self.keys.get(&key).await? else {
            return self.without(Error::UnknownKey).await;
        };
        if !holder.caller.is_live(self.reader.now()) {
            return Err(Error::UnknownKey);
        }
        if !holder.caller.may(scope) {
            return Err(Error::LacksScope(scope));
        }
        if let Some(meter) = &holder.meter {
            meter.count()?;
        }
        Ok(Admitted::Caller(key, holder))
    }

    /// Whether a key was ever made.
    pub(crate) async fn in_use(&self) -> Result<bool, Unavailable> {
        Ok(self.in_use.get(&()).await?.unwrap_or(true))
    }

    async fn without(&self, refusal: Error) -> Result<Admitted, Error> {
        if self.in_use().await? {
            Err(refusal)
        } else {
            Ok(Admitted::Anyone)
        }
    }
}

impl Admitted {
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

    /// What to answer about an installation that there is not. A key that opens only some of them
    /// must not be told which others exist.
    pub(crate) fn not_found(&self) -> Error {
        match self {
            Self::Caller(_, holder) if holder.caller.installations.is_some() => Error::NotAllowed,
            Self::Anyone | Self::Caller(..) => Error::NotFound,
        }
    }
}

/// `X-Api-Key`, or else the bearer in `Authorization`.
fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get(headers::API_KEY) {
        return key.to_str().ok();
    }
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    is_bearer.then(|| key.trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_a_bearer_or_has_a_header_of_its_own() {
        let key = |name: &'static str, value| {
            let headers =
                HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))]);
            presented(&headers).map(str::to_owned)
        };
        assert_eq!(key("authorization", "Bearer k1").as_deref(), Some("k1"));
        assert_eq!(key("authorization", "bearer  k1").as_deref(), Some("k1"));
        assert_eq!(key("authorization", "Basic k1"), None);
        assert_eq!(key("x-api-key", "k2").as_deref(), Some("k2"));
        assert_eq!(key("cookie", "k3"), None);
    }
}
