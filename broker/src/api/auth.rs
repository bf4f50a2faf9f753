//! Authentication of the callers of a broker. It is not on a hot path, so nothing is cached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use http::request::Parts;
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

/// The routes for which the store always decides. They make what outlives a revocation.
const KEYS: &str = "/v1/keys";

/// The state of [`require_admin`].
#[derive(Debug, Clone)]
pub(crate) struct Administration {
    pub(crate) broker: Broker,
    pub(crate) own_hosts: OwnHosts,
    pub(crate) local_admin: LocalAdmin,
}

/// The key of this machine's administrator.
#[derive(Debug, Clone)]
pub(crate) struct LocalAdmin {
    key: KeyHash,
    /// Whether the store refused it when it answered last.
    is_refused: Arc<AtomicBool>,
}

impl LocalAdmin {
    pub(crate) fn new(key: KeyHash) -> Self {
        Self {
            key,
            is_refused: Arc::default(),
        }
    }
}

impl Administration {
    /// An operator needs the administration most while the store is away, so the key of this machine's administrator
    /// is accepted then, unless the store refused it before.
    async fn authenticate(&self, parts: &Parts) -> Result<(), Error> {
        let (reader, local) = (&self.broker.0.reader, &self.local_admin);
        let is_local = presented(&parts.headers).is_some_and(|key| KeyHash::of(key) == local.key);
        if !is_local || parts.uri.path().starts_with(KEYS) {
            let authenticated = authenticate(reader, &parts.headers, Scope::Admin).await;
            return authenticated.map(|_| ());
        }
        match timeout(STORE_PATIENCE, reader.caller(&local.key)).await {
            Ok(Ok(found)) => {
                let may = |it: &Caller| it.is_live(reader.now()) && it.may(Scope::Admin);
                let is_accepted = found.as_ref().is_some_and(may);
                local.is_refused.store(!is_accepted, Ordering::Relaxed);
                is_accepted
                    .then_some(())
                    .ok_or_else(|| refused(ErrorKind::KeyInvalid))
            }
            Ok(Err(error)) if !error.is_unavailable() => Err(error.into()),
            Ok(Err(_)) | Err(_) if local.is_refused.load(Ordering::Relaxed) => {
                Err(refused(ErrorKind::KeyInvalid))
            }
            Ok(Err(_)) | Err(_) => Ok(()),
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
    administration.authenticate(&parts).await?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Middleware that refuses requests of foreign pages.
pub(crate) async fn refuse_foreign_pages(
    State(own_hosts): State<OwnHosts>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    own_hosts.check(&parts)?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// As [`refuse_foreign_pages`], but a person may follow a link here from anywhere.
pub(crate) async fn refuse_foreign_pages_but_links(
    State(own_hosts): State<OwnHosts>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    own_hosts.check_link(&parts)?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}

async fn authenticate(
    reader: &TokenReader,
    headers: &HeaderMap,
    scope: Scope,
) -> Result<Caller, Error> {
    let key = presented(headers).ok_or_else(|| refused(ErrorKind::KeyMissing))?;
    let caller = reader.caller(&KeyHash::of(key)).await?;
    let caller = caller
        .filter(|caller| caller.is_live(reader.now()))
        .ok_or_else(|| refused(ErrorKind::KeyInvalid))?;
    if !caller.may(scope) {
        return Err(Error::new(
            ErrorKind::ScopeMissing,
            format!("This needs a key with the scope `{scope}`"),
        ));
    }
    Ok(caller)
}

fn refused(kind: ErrorKind) -> Error {
    Error::new(kind, "A caller key is needed")
        .with_hint("send `Authorization: Bearer <key>`; `evergreen keys create` creates one")
}
