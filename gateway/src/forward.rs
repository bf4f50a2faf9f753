//! A request on its way to GHL: its caller let in, its installation found, its token guarded.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri};
use store::{InstallationId, LocationId, Scope};
use tracing::Span;

use crate::Core;
use crate::body::{Outgoing, Payload};
use crate::caller::Admitted;
use crate::error::Error;
use crate::guard::{Verdict, judge};
use crate::headers::Sent;
use crate::installation::{Hint, Hints, Kind};
use crate::limits::{Answered, Claim, Entered, Rank};
use crate::path;
use crate::pool::Outbound;
use crate::refresh::Urgency;
use crate::token::Token;

/// A request for GHL, all but its body and its token.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// As its caller sent them.
    pub(crate) headers: HeaderMap,
    pub(crate) claim: Claim,
}

/// A call that can be sent again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spare<'c> {
    pub(crate) call: &'c Call,
    pub(crate) body: &'c Bytes,
}

/// Forwards what came below `/ghl` to where GHL has it.
pub(crate) async fn transparent(gateway: Arc<Core>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let caller = gateway.callers.admit(&parts.headers, Scope::Proxy).await?;
    let payload = gateway.take(&parts, body).await?;
    let path = parts.uri.path();
    let path = path::checked(path.strip_prefix("/ghl").unwrap_or(path))?;
    let hints = Hints::of(&parts.headers, parts.uri.query(), Some(path));
    let hints = hints.with_body(payload.json(&parts.headers));
    let held = payload.held_bytes(parts.version);
    let token = gateway.token_for(&caller, &hints, held).await?;
    let uri = gateway.ghl.base.uri(path, parts.uri.query(), None)?;
    gateway.forward(&caller, &token, parts, uri, payload).await
}

impl Core {
    /// The caller's body, held where it is small.
    pub(crate) async fn take(
        &self,
        parts: &Parts,
        body: axum::body::Body,
    ) -> Result<Payload, Error> {
        let config = &self.config;
        let patience = config.response_timeout;
        Payload::take(&parts.headers, body, config.max_body_bytes, patience).await
    }

    /// The token of the installation that the request names, good to be used. Of its body so many bytes
    /// are `held` in memory.
    pub(crate) async fn token_for(
        &self,
        caller: &Admitted,
        hints: &Hints<'_>,
        held: usize,
    ) -> Result<Arc<Token>, Error> {
        let token = self.choose(caller, hints).await?;
        self.usable(token, held).await
    }

    /// Sends a caller's request to `uri`, and its answer back.
    pub(crate) async fn forward(
        &self,
        caller: &Admitted,
        token: &Arc<Token>,
        mut parts: Parts,
        uri: Uri,
        payload: Payload,
    ) -> Result<Response, Error> {
        let held = payload.held_bytes(parts.version);
        let body = match payload {
            Payload::Held(bytes) => Outgoing::Held(bytes),
            Payload::Stream(body) => Outgoing::stream(body, self.config.max_body_bytes),
        };
        let claim = self.claim(caller, &parts.headers, held)?;
        service::trace::inject(&Span::current(), &mut parts.headers);
        let call = Call {
            method: parts.method,
            uri,
            headers: parts.headers,
            claim,
        };
        self.call(token, &call, body).await
    }

    /// Sends a request to GHL when its turn comes, and again where a fresh token or another turn
    /// is all that it lacks.
    pub(crate) async fn call(
        &self,
        token: &Arc<Token>,
        call: &Call,
        body: Outgoing,
    ) -> Result<Response, Error> {
        let Entered {
            permit,
            place,
            token,
        } = self.enter(token, call.claim, Rank::New).await?;
        let held = body.held();
        let spare = held.as_ref().map(|body| Spare { call, body });
        let under_way = permit.go();
        let outcome = self.send_repeatedly(&token, call, body, spare).await;
        under_way.over(&outcome);
        let mut answered = Answered {
            response: outcome?,
            token,
            place: Some(place),
        };
        // Rare, so they shall not make the future of every request larger.
        if answered.response.status() == StatusCode::TOO_MANY_REQUESTS {
            answered = Box::pin(self.send_later(spare, answered)).await?;
        }
        if answered.response.status() == StatusCode::UNAUTHORIZED {
            answered = Box::pin(self.cure(spare, answered)).await?;
        }
        Ok(answered.into_response())
    }

    /// The token, refreshed first if it is old.
    pub(crate) async fn usable(&self, token: Arc<Token>, held: usize) -> Result<Arc<Token>, Error> {
        let urgency = match judge(&token, self.reader.now()) {
            Verdict::Use => return Ok(token),
            Verdict::RefreshFirst => Urgency::Can,
            Verdict::RefreshOrFail => Urgency::Must,
            Verdict::Refuse(why) => {
                return Err(Error::Refused {
                    id: token.id.clone(),
                    why,
                });
            }
        };
        let current = Box::pin(self.successor(&token, urgency, held)).await?;
        match judge(&current, self.reader.now()) {
            Verdict::Use | Verdict::RefreshFirst => Ok(current),
            Verdict::RefreshOrFail => Err(Error::NoFreshToken),
            Verdict::Refuse(why) => Err(Error::Refused {
                id: current.id.clone(),
                why,
            }),
        }
    }

    /// The installation that the request means and its caller may use.
    async fn choose(&self, caller: &Admitted, hints: &Hints<'_>) -> Result<Arc<Token>, Error> {
        for hint in hints.iter() {
            let found = self.meant_by(hint).await?;
            match (found, hint.kind) {
                (Some(token), _) => {
                    if !caller.may_use(&token.id) {
                        return Err(Error::NotAllowed);
                    }
                    hints.agree_on(&token, hint)?;
                    return Ok(token);
                }
                (None, Kind::Installation) => return Err(caller.not_found()),
                // It may be an agency's, whose installation is named further on.
                (None, Kind::Location | Kind::Company) => {}
            }
        }
        let Some(id) = caller.only_installation() else {
            // Whoever named nothing is told nothing by being told so.
            let has_named = hints.iter().next().is_some();
            return Err(if has_named {
                caller.not_found()
            } else {
                Error::NotFound
            });
        };
        let token = self.tokens.get(id).await?.ok_or(Error::NotFound)?;
        if !hints.may_mean(&token) {
            return Err(caller.not_found());
        }
        Ok(token)
    }

    async fn meant_by(&self, hint: &Hint<'_>) -> Result<Option<Arc<Token>>, Error> {
        if hint.is_id() {
            if let Some(token) = self.tokens.peek(&*hint.value) {
                return Ok(token);
            }
            return match hint.value.parse() {
                Ok(id) => Ok(self.tokens.get(&id).await?),
                Err(_) => Ok(None),
            };
        }
        match self.resolve(&hint.value).await? {
            Some(id) => Ok(self.tokens.get(&id).await?),
            None => Ok(None),
        }
    }

    async fn resolve(&self, place: &str) -> Result<Option<InstallationId>, Error> {
        if let Some(found) = self.places.peek(place) {
            return Ok(found);
        }
        // What cannot be a location or a company is not worth asking for.
        if place.parse::<LocationId>().is_err() {
            return Ok(None);
        }
        Ok(self.places.get(&place.into()).await?)
    }
}

impl Call {
    /// The call with the token in it.
    pub(crate) fn with<'c>(&'c self, token: &'c Token) -> Outbound<'c> {
        Outbound {
            method: &self.method,
            uri: &self.uri,
            headers: Sent::ToGhl {
                callers: &self.headers,
                bearer: &token.bearer,
            },
        }
    }
}

impl Spare<'_> {
    pub(crate) fn body_again(&self) -> Outgoing {
        Outgoing::Held(self.body.clone())
    }
}
