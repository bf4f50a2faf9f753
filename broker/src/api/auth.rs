//! Authentication of the callers of a broker. It is not on a hot path, so nothing is cached.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use service::credentials::presented;
use store::{Caller, KeyHash, Scope, TokenReader};

use crate::Broker;
use crate::api::error::{Error, ErrorKind};

/// The authenticated caller of a request. `None` on loopback before the first key was created: then everyone
/// has access.
///
/// # Errors
/// 401 or 403 if keys are in use and the request has no live key with the scope. 503 if the store is
/// unreachable.
pub(crate) async fn caller(
    reader: &TokenReader,
    headers: &HeaderMap,
    scope: Scope,
    is_loopback: bool,
) -> Result<Option<Caller>, Error> {
    if is_loopback && !reader.keys_in_use().await? {
        return Ok(None);
    }
    authenticate(reader, headers, scope).await.map(Some)
}

/// Middleware that requires a live key with the scope `admin`.
pub(crate) async fn require_admin(
    State(broker): State<Broker>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    authenticate(&broker.0.reader, request.headers(), Scope::Admin).await?;
    Ok(next.run(request).await)
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
