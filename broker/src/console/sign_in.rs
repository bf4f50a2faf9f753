//! Signing in with a key or with a one-time link, and signing out.

use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::header::{RETRY_AFTER, SET_COOKIE};
use http::request::Parts;
use serde::Deserialize;
use service::error_body::ErrorBody;
use store::audit::Action;
use store::{Caller, ConsoleSession, KeyHash, ReadError, Scope};
use store_writer::WriteError;

use super::assets::{self, Assets};
use super::fields::Fields;
use super::next::{SIGN_IN, checked};
use super::page::render;
use super::{Console, guard, link};
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::{PathName, QueryString};
use crate::audit::Requester;

/// The routes without a session.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route(SIGN_IN, get(form).post(sign_in))
        // A GET changes nothing, so neither a prefetch nor a scanner of links uses it up.
        .route("/console/sign-in/{token}", get(follow))
}

/// The routes with a session.
pub(super) fn of_session() -> Router<Console> {
    Router::new().route(guard::SIGN_OUT, post(sign_out))
}

/// The page with the field for a key.
#[derive(Template)]
#[template(path = "console/sign_in.html")]
struct SignIn<'a> {
    assets: &'static Assets,
    next: &'a str,
    /// The problem with the last attempt. Empty at first.
    problem: &'a str,
    hint: &'a str,
}

/// The page of a one-time link.
#[derive(Template)]
#[template(path = "console/sign_in_link.html")]
struct Follow<'a> {
    assets: &'static Assets,
    token: &'a str,
}

/// The page that a browser without its cookies loads again.
#[derive(Template)]
#[template(path = "console/go_on.html")]
struct GoOn<'a> {
    assets: &'static Assets,
    next: &'a str,
}

/// A page without a session that says what is wrong.
#[derive(Template)]
#[template(path = "console/bare_error.html")]
struct BareError<'a> {
    assets: &'static Assets,
    body: &'a ErrorBody,
}

#[derive(Deserialize)]
struct SignInQuery {
    next: Option<String>,
}

async fn form(QueryString(query): QueryString<SignInQuery>) -> Response {
    let next = checked(query.next.as_deref());
    render(&SignIn {
        assets: assets::all(),
        next,
        problem: "",
        hint: "",
    })
}

async fn follow(
    State(console): State<Console>,
    PathName(token): PathName,
) -> Result<Response, Error> {
    let writer = &console.0.broker.0.writer;
    if !link::is_usable(writer, &token).await? {
        return Ok(refused("", &link_over()));
    }
    Ok(render(&Follow {
        assets: assets::all(),
        token: &token,
    }))
}

async fn sign_in(
    State(console): State<Console>,
    fields: Fields,
    parts: Parts,
) -> Result<Response, Error> {
    let next = checked(fields.text("next"));
    let found = match fields.text("link") {
        Some(token) => console.by_link(token).await,
        None => console.by_key(fields.text("key")).await,
    };
    match found {
        Ok((key, caller)) => Ok(console.begin(&key, &caller, &parts, next).await),
        Err(Refused { error, known }) => {
            // Only failures count, so that a stranger cannot lock out a right key.
            if let Err(wait) = console.0.attempts.count(console.address(&parts)) {
                return Ok(too_many(next, wait));
            }
            let known = known.as_ref().map(|(key, caller)| (*key, caller));
            console.note_refusal(&error, known, &parts);
            match error.status().is_server_error() {
                true => Err(error),
                false => Ok(refused(next, &error)),
            }
        }
    }
}

fn too_many(next: &str, wait: Duration) -> Response {
    let message = "There were too many attempts to sign in";
    let error = Error::new(ErrorKind::RateLimited, message).with_hint("try again in a minute");
    let mut response = refused(next, &error);
    let seconds = wait.as_secs().max(1);
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}

async fn sign_out(
    State(console): State<Console>,
    Extension(session): Extension<ConsoleSession>,
    parts: Parts,
) -> Result<Response, Error> {
    console.end(&session).await?;
    let mut response = Redirect::to(SIGN_IN).into_response();
    if let Some(cookie) = console.cookies(&parts).sign_out() {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Nobody was signed in.
struct Refused {
    error: Error,
    /// The key, if it is or was one.
    known: Option<(KeyHash, Caller)>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, known: None }
    }
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        Error::from(error).into()
    }
}

impl From<WriteError> for Refused {
    fn from(error: WriteError) -> Self {
        Error::from(error).into()
    }
}

impl Console {
    async fn by_link(&self, token: &str) -> Result<(KeyHash, Caller), Refused> {
        let key = link::spend(&self.0.broker.0.writer, token).await?;
        let key = key.ok_or_else(link_over)?;
        self.admitted(key).await
    }

    async fn by_key(&self, key: Option<&str>) -> Result<(KeyHash, Caller), Refused> {
        let key = key.ok_or_else(|| Error::new(ErrorKind::KeyMissing, "Enter a key"))?;
        self.admitted(KeyHash::of(key)).await
    }

    /// The key, if it may sign in.
    async fn admitted(&self, key: KeyHash) -> Result<(KeyHash, Caller), Refused> {
        let reader = &self.0.broker.0.reader;
        let Some(caller) = reader.caller(&key).await? else {
            return Err(unknown_key().into());
        };
        let error = if !caller.is_live(reader.now()) {
            unknown_key()
        } else if !caller.may(Scope::View) {
            Error::new(
                ErrorKind::ScopeMissing,
                "This key may not sign in to the console",
            )
            .with_hint("use a key with the scope `admin` or `view`")
        } else {
            return Ok((key, caller));
        };
        Err(Refused {
            error,
            known: Some((key, caller)),
        })
    }

    /// Begins a session, and sends the browser to `next`.
    async fn begin(&self, key: &KeyHash, caller: &Caller, parts: &Parts, next: &str) -> Response {
        let broker = &self.0.broker.0;
        let now = broker.reader.now();
        let requester = Requester {
            by: self.by(key, &caller.name),
            address: self.address(parts),
        };
        broker.audit.used(key);
        broker
            .audit
            .record(requester.entry(now, Action::SignedIn))
            .await;
        let session = ConsoleSession::begin(*key, now);
        let mut response = Redirect::to(next).into_response();
        if let Some(cookie) = self.cookies(parts).sign_in(self.ring(), &session) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        response
    }
}

fn unknown_key() -> Error {
    Error::new(
        ErrorKind::KeyInvalid,
        "This key is unknown, expired or revoked",
    )
}

fn link_over() -> Error {
    Error::new(
        ErrorKind::KeyInvalid,
        "This link was used before, or has expired",
    )
    .with_hint("`evergreen console` makes another one")
}

/// The sign-in page, with what did not work.
fn refused(next: &str, error: &Error) -> Response {
    let mut response = render(&SignIn {
        assets: assets::all(),
        next: checked(Some(next)),
        problem: &error.message,
        hint: error.hint.unwrap_or_default(),
    });
    *response.status_mut() = error.status();
    response
}

/// The answer to a form of a session that has ended.
pub(super) fn ended() -> Response {
    let error = Error::new(
        ErrorKind::KeyMissing,
        "Your session has ended. Nothing was changed",
    )
    .with_hint("sign in and repeat it");
    refused("", &error)
}

/// A page that the browser loads again by itself, with its cookies then.
pub(super) fn go_on(next: &str) -> Response {
    render(&GoOn {
        assets: assets::all(),
        next,
    })
}

/// The page of an error without a session.
pub(super) fn error_page(error: &Error) -> Response {
    let body = ErrorBody {
        hint: error.hint,
        ..ErrorBody::new(error.status(), error.code(), error.message.clone())
    };
    page_of(&body)
}

/// As [`error_page`].
pub(super) fn page_of(body: &ErrorBody) -> Response {
    let mut response = render(&BareError {
        assets: assets::all(),
        body,
    });
    *response.status_mut() = StatusCode::from_u16(body.status_code).unwrap_or_default();
    response
}
