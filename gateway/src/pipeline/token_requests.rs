//! Requests that give tokens away. Each leaves an entry in the audit log, also if it is refused.

use std::net::IpAddr;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use service::credentials::presented;
use store::KeyHash;
use store::audit::{Happened, Refusal};

use super::Pipeline;
use super::select::SelectError;
use crate::error::Error;
use crate::request::caller::CallerError;

/// Where a request for a token comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking {
    pub(crate) from: IpAddr,
    /// The hash of what it presents as its key, or of the key that issued its browser key.
    pub(crate) key: Option<KeyHash>,
}

impl Pipeline {
    pub(crate) fn asking(&self, parts: &Parts) -> Asking {
        Asking {
            from: self.audit.address(parts),
            key: presented(&parts.headers).map(|key| self.callers.hash_of(key)),
        }
    }

    /// Notes the refusal of a request for a token.
    pub(crate) async fn note_refusal(&self, asking: Asking, why: Refusal) {
        self.note_refused(asking, Happened::TokenRefused(why)).await;
    }

    /// Notes the refusal of a request.
    pub(crate) async fn note_refused(&self, asking: Asking, happened: Happened) {
        // Anything may be presented as a key. One that exists, or did, is worth a name.
        let known = match asking.key {
            Some(key) => self.callers.keys.get(&key).await.ok().flatten(),
            None => None,
        };
        let key = known.and(asking.key);
        // The installation that was named may not exist, and there may be any number of them.
        self.audit.note(happened, key, None, asking.from);
    }

    /// Forwards a request to a path of GHL whose answers have tokens in them.
    pub(super) async fn proxy_tokens(&self, parts: Parts, body: Body) -> Result<Response, Error> {
        let asking = self.asking(&parts);
        let mut used = None;
        let forwarded = self.proxy_checked(parts, body, &mut used).await;
        let has_tokens = |it: &Response| it.status().is_success();
        if used.is_some() && forwarded.as_ref().is_ok_and(has_tokens) {
            let happened = Happened::TokenFetchedFromGhl;
            self.audit.note(happened, asking.key, used, asking.from);
        }
        if let Some(why) = forwarded.as_ref().err().and_then(refusal) {
            self.note_refusal(asking, why).await;
        }
        forwarded
    }
}

/// Why a request was refused. `None` if it was not, but failed.
pub(crate) fn refusal(error: &Error) -> Option<Refusal> {
    match error {
        Error::Caller(CallerError::NoKey) => Some(Refusal::KeyMissing),
        Error::Caller(CallerError::UnknownKey | CallerError::BrowserKeyExpired) => {
            Some(Refusal::KeyInvalid)
        }
        Error::Caller(CallerError::LacksScope(_)) => Some(Refusal::ScopeMissing),
        Error::Select(SelectError::NotAllowed) => Some(Refusal::InstallationNotAllowed),
        Error::Foreign(_) => Some(Refusal::ForeignPage),
        _ => None,
    }
}
