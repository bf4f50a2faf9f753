//! Authentication of the callers of a broker. It is not on a hot path, so nothing is cached.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, Method};
use service::credentials::presented;
use service::handler::Peer;
use service::origin::OwnHosts;
use store::audit::{By, Happened, KeyName, Refusal};
use store::{Caller, KeyHash, ReadError, Scope, TokenReader};
use tokio::time::timeout;

use crate::Broker;
use crate::api::console::AdminKey;
use crate::api::error::{Error, ErrorKind};
use crate::audit::Requester;

/// The caller of a request. `None` for a request without a key, where those are allowed.
///
/// # Errors
/// 401 or 403 if the request has no live key with the scope. 503 if the store is unreachable.
pub(crate) async fn caller(
    broker: &Broker,
    headers: &HeaderMap,
    scope: Scope,
    allows_anonymous: bool,
) -> Result<Option<Caller>, Error> {
    if allows_anonymous && presented(headers).is_none() {
        return Ok(None);
    }
    let authenticated = authenticate(&broker.0.reader, headers, scope).await;
    let (key, caller) = authenticated.map_err(|denied| denied.error)?;
    broker.0.audit.used(&key);
    Ok(Some(caller))
}

/// A request that is not authenticated.
struct Denied {
    error: Error,
    /// Its key, if it is or was one.
    known: Option<(KeyHash, Caller)>,
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        Self { error, known: None }
    }
}

impl From<ReadError> for Denied {
    fn from(error: ReadError) -> Self {
        Error::from(error).into()
    }
}

/// How long the store may take to find a key before the local administrator's is accepted without it.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// The name of the local administrator's key, as its process registers it.
const LOCAL_ADMIN: &str = "local administrator";

/// The routes for which the store always decides. They make what outlives a revocation.
const KEYS: &str = "/v1/keys";

/// The route that shows no secret and changes nothing.
const OVERVIEW: &str = "/v1/overview";

/// The scope that a request for administration needs.
fn needed(parts: &Parts) -> Scope {
    match parts.uri.path() == OVERVIEW && parts.method == Method::GET {
        true => Scope::View,
        false => Scope::Admin,
    }
}

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
    async fn authenticate(&self, parts: &Parts) -> Result<(KeyHash, By), Denied> {
        let (reader, local) = (&self.broker.0.reader, &self.local_admin);
        let is_local = presented(&parts.headers).is_some_and(|key| KeyHash::of(key) == local.key);
        let local_admin = |name: &str| (local.key, By::LocalAdmin(KeyName::new(&local.key, name)));
        if !is_local || parts.uri.path().starts_with(KEYS) {
            let authenticated = authenticate(reader, &parts.headers, needed(parts)).await;
            let (key, caller) = authenticated?;
            return Ok(if is_local {
                local_admin(&caller.name)
            } else {
                (key, By::Key(KeyName::new(&key, &caller.name)))
            });
        }
        match timeout(STORE_PATIENCE, reader.caller(&local.key)).await {
            Ok(Ok(found)) => {
                let may = |it: &Caller| it.is_live(reader.now()) && it.may(Scope::Admin);
                let is_accepted = found.as_ref().is_some_and(may);
                local.is_refused.store(!is_accepted, Ordering::Relaxed);
                match found {
                    Some(caller) if is_accepted => Ok(local_admin(&caller.name)),
                    found => Err(Denied {
                        error: refused(ErrorKind::KeyInvalid),
                        known: found.map(|caller| (local.key, caller)),
                    }),
                }
            }
            Ok(Err(error)) if !error.is_unavailable() => Err(error.into()),
            Ok(Err(_)) | Err(_) if local.is_refused.load(Ordering::Relaxed) => {
                Err(refused(ErrorKind::KeyInvalid).into())
            }
            Ok(Err(_)) | Err(_) => Ok(local_admin(LOCAL_ADMIN)),
        }
    }

    /// The caller of a request, with the scope `admin`. A request that is refused is in the audit log.
    async fn admit(&self, parts: &Parts) -> Result<(AdminKey, Requester), Error> {
        let Self {
            broker, own_hosts, ..
        } = self;
        let address = address(broker, parts);
        let authenticated = match own_hosts.check(parts) {
            Ok(()) => self.authenticate(parts).await,
            Err(foreign) => Err(Error::from(foreign).into()),
        };
        let refused = Happened::AdministrationRefused;
        let (key, by) = noted(broker, address, authenticated, refused)?;
        Ok((AdminKey(key), Requester { by, address }))
    }
}

/// The state of [`require_connect`].
#[derive(Debug, Clone)]
pub(crate) struct ConnectAccess {
    pub(crate) broker: Broker,
    pub(crate) own_hosts: OwnHosts,
}

/// A caller with the scope `connect`, whom the middleware has put into the request.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    pub(crate) key: KeyHash,
    pub(crate) caller: Arc<Caller>,
    pub(crate) requester: Requester,
}

impl ConnectAccess {
    /// The caller of a request, with the scope `connect`. A request that is refused is in the audit log.
    async fn admit(&self, parts: &Parts) -> Result<Backend, Error> {
        let Self { broker, own_hosts } = self;
        let address = address(broker, parts);
        let authenticated = match own_hosts.check(parts) {
            Ok(()) => authenticate(&broker.0.reader, &parts.headers, Scope::Connect).await,
            Err(foreign) => Err(Error::from(foreign).into()),
        };
        let (key, caller) = noted(broker, address, authenticated, Happened::ConnectRefused)?;
        let by = By::Key(KeyName::new(&key, &caller.name));
        Ok(Backend {
            key,
            caller: Arc::new(caller),
            requester: Requester { by, address },
        })
    }
}

/// Middleware that refuses requests of foreign pages, and requires a live key with the scope `connect`.
pub(crate) async fn require_connect(
    State(access): State<ConnectAccess>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let (mut parts, body) = request.into_parts();
    let backend = access.admit(&parts).await?;
    parts.extensions.insert(backend);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// The address of a request, as far as it can be believed.
fn address(broker: &Broker, parts: &Parts) -> IpAddr {
    let proxies = &broker.0.config.trusted_proxies;
    proxies.client(Peer::of(&parts.extensions), &parts.headers)
}

/// Notes the use of a key, or the refusal of a request.
fn noted<T>(
    broker: &Broker,
    address: IpAddr,
    authenticated: Result<(KeyHash, T), Denied>,
    refused: impl FnOnce(Refusal) -> Happened,
) -> Result<(KeyHash, T), Error> {
    match authenticated {
        Ok((key, caller)) => {
            broker.0.audit.used(&key);
            Ok((key, caller))
        }
        Err(Denied { error, known }) => {
            if let Some(why) = refusal(error.kind) {
                let known = known.as_ref().map(|(key, caller)| (*key, caller));
                broker.0.audit.refused(refused(why), known, address);
            }
            Err(error)
        }
    }
}

/// Middleware that refuses requests of foreign pages, and requires a live key with the scope `admin`, or `view` for what
/// needs no more.
pub(crate) async fn require_admin(
    State(administration): State<Administration>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let (mut parts, body) = request.into_parts();
    let (key, requester) = administration.admit(&parts).await?;
    parts.extensions.insert(key);
    parts.extensions.insert(requester);
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
) -> Result<(KeyHash, Caller), Denied> {
    let key = presented(headers).ok_or_else(|| refused(ErrorKind::KeyMissing))?;
    let key = KeyHash::of(key);
    let Some(caller) = reader.caller(&key).await? else {
        return Err(refused(ErrorKind::KeyInvalid).into());
    };
    let error = if !caller.is_live(reader.now()) {
        refused(ErrorKind::KeyInvalid)
    } else if !caller.may(scope) {
        let message = format!("This needs a key with the scope `{scope}`");
        Error::new(ErrorKind::ScopeMissing, message)
    } else {
        return Ok((key, caller));
    };
    Err(Denied {
        error,
        known: Some((key, caller)),
    })
}

/// Why a request was refused. `None` if it was not, but failed.
pub(crate) fn refusal(kind: ErrorKind) -> Option<Refusal> {
    match kind {
        ErrorKind::KeyMissing => Some(Refusal::KeyMissing),
        ErrorKind::KeyInvalid => Some(Refusal::KeyInvalid),
        ErrorKind::ScopeMissing => Some(Refusal::ScopeMissing),
        ErrorKind::HostNotAllowed | ErrorKind::CrossSiteRequest => Some(Refusal::ForeignPage),
        _ => None,
    }
}

fn refused(kind: ErrorKind) -> Error {
    Error::new(kind, "A caller key is needed")
        .with_hint("send `Authorization: Bearer <key>`; `evergreen keys create` creates one")
}
