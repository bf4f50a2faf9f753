//! The person at the console.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use store::audit::{By, KeyName};
use store::{Caller, ConsoleSession, KeyHash, Scope};

use super::Console;
use super::notice::Notice;
use super::page::{Page, Section};
use crate::api::error::{Error, ErrorKind};
use crate::audit::Requester;

/// The owner of the session of a request, with a live key that has the scope `view` or `admin`.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    /// The key that signed in.
    pub(crate) key: KeyHash,
    /// The record of the key.
    pub(crate) caller: Arc<Caller>,
    /// Whether the key has the scope `admin`. Otherwise its owner may change nothing.
    pub(crate) is_admin: bool,
    /// Makes entries for the audit log.
    pub(crate) requester: Requester,
    /// The proof of the forms of this session.
    pub(super) proof: String,
    /// The message about the last change.
    pub(super) notice: Option<Notice>,
}

/// A [`Viewer`] with the scope `admin`.
#[derive(Debug, Clone)]
pub(crate) struct Administrator(pub(crate) Viewer);

impl Viewer {
    pub(super) fn new(
        console: &Console,
        session: &ConsoleSession,
        caller: Caller,
        (parts, notice): (&Parts, Option<Notice>),
    ) -> Self {
        Self {
            key: session.key,
            is_admin: caller.may(Scope::Admin),
            requester: Requester {
                by: console.by(&session.key, &caller.name),
                address: console.address(parts),
            },
            caller: Arc::new(caller),
            proof: session.form_proof(console.ring()),
            notice,
        }
    }

    /// The frame of a page for this person.
    pub(crate) fn page(&self, title: impl Into<String>, section: Section) -> Page {
        Page::new(title.into(), section, self.clone())
    }

    /// # Errors
    /// 403 if the key lacks the scope `admin`.
    pub(crate) fn require_admin(&self) -> Result<(), Error> {
        if self.is_admin {
            return Ok(());
        }
        let message = "This key may see everything here, and change nothing";
        Err(Error::new(ErrorKind::ScopeMissing, message)
            .with_hint("sign in with a key that has the scope `admin`"))
    }
}

impl Console {
    /// The owner of a key, for the audit log.
    pub(super) fn by(&self, key: &KeyHash, name: &str) -> By {
        let named = KeyName::new(key, name);
        match *key == self.0.local_admin {
            true => By::LocalAdmin(named),
            false => By::Key(named),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Viewer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        // The guard has put it there. A route without the guard is refused.
        let viewer = parts.extensions.get().cloned();
        viewer.ok_or_else(|| Error::new(ErrorKind::KeyMissing, "This needs a session"))
    }
}

impl<S: Sync> FromRequestParts<S> for Administrator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let viewer = Viewer::from_request_parts(parts, state).await?;
        viewer.require_admin()?;
        Ok(Self(viewer))
    }
}
