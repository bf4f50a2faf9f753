//! Authentication of the callers of a broker. It is not on a hot path, so nothing is cached.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use service::credentials::presented;
use service::origin::OwnHosts;
use store::{Caller, KeyHash, Scope, TokenReader};
use tokio::time::timeout;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};

/// The caller of a request. `None` for a request without a key, where those are allowed.
///
/// # Errors
/// 401 or 403 if the request has no live key with the scope. 503 if the store is unreachable.
pub(crate) async fn caller(
    reader: &TokenReader,
    headers: &HeaderMap,
    scope: Scope,
    allows_anonymous: bool,
) -> Result<Option<Caller>, Error> {
    if allows_anonymous && presented(headers).is_none() {
        return Ok(None);
    }
    authenticate(reader, headers, scope).await.map(Some)
}

/// How long the store may take to find a key before the local administrator's is accepted without it.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// The state of [`require_admin`].
#[derive(Debug, Clone)]
pub(crate) struct Administration {
    pub(crate) broker: Broker,
    pub(crate) own_hosts: OwnHosts,
    pub(crate) local_admin: KeyHash,
}

impl Administration {
    /// An operator needs the administration most while the store is away, so the key of this machine's administrator
    /// is accepted then. Otherwise the store decides, since the key may be revoked.
    async fn authenticate(&self, headers: &HeaderMap) -> Result<(), Error> {
        let authenticating = authenticate(&self.broker.0.reader, headers, Scope::Admin);
        let is_local = presented(headers).is_some_and(|key| KeyHash::of(key) == self.local_admin);
        if !is_local {
            return authenticating.await.map(|_| ());
        }
        match timeout(STORE_PATIENCE, authenticating).await {
            Ok(Err(error)) if error.kind != ErrorKind::StoreUnavailable => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Middleware that refuses requests of foreign pages, and requires a live key with the scope `admin`.
pub(crate) async fn require_admin(
    State(administration): State<Administration>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    administration.own_hosts.check(&parts)?;
    administration.authenticate(&parts.headers).await?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Middleware that refuses requests of foreign pages. Gateways address this listener by names that it cannot know.
pub(crate) async fn refuse_foreign_pages(request: Request, next: Next) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    OwnHosts::any().check(&parts)?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// As [`refuse_foreign_pages`], but a person may follow a link here from anywhere.
pub(crate) async fn refuse_foreign_pages_but_links(
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    OwnHosts::any().check_link(&parts)?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}

async fn authenticate(
    reader: &TokenReader,
    headers: &HeaderMap,
    scope: Scope,
) -> Result<Caller, Error> {
    const HINT: &str = "send `Authorization: Bearer <key>`; `evergreen keys create` creates one";
    let refused = |kind| move || Error::new(kind, "A caller key is needed").with_hint(HINT);
    let key = presented(headers).ok_or_else(refused(ErrorKind::KeyMissing))?;
    let caller = reader.caller(&KeyHash::of(key)).await?;
    let caller = caller
        .filter(|caller| caller.is_live(reader.now()))
        .ok_or_else(refused(ErrorKind::KeyInvalid))?;
    if !caller.may(scope) {
        return Err(Error::new(
            ErrorKind::ScopeMissing,
            format!("This needs a key with the scope `{scope}`"),
        ));
    }
    Ok(caller)
}
