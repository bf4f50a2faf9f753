//! The checks that every request to the console passes: the checks of its origin, its session, its form and its rights.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use http::{HeaderMap, Method};
use service::error_body::ErrorBody;
use store::audit::Happened;
use store::{Caller, ConsoleSession, KeyHash, Scope};
use url::form_urlencoded;

use super::fields::Fields;
use super::next::{self, SIGN_IN};
use super::notice::{self, Notice};
use super::session::Cookies;
use super::viewer::Viewer;
use super::{Console, ROOT, page, sign_in};
use crate::api::auth::refusal;
use crate::api::error::{Error, ErrorKind};

/// The longest form, in bytes.
const MAX_FORM_BYTES: u64 = 64 * 1024;

/// The path that ends a session. It changes nothing else, so it needs no scope.
pub(super) const SIGN_OUT: &str = "/console/sign-out";

/// Middleware of the pages that need a session.
pub(super) async fn guard(
    State(console): State<Console>,
    request: Request,
    inner: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let cookies = console.cookies(&parts);
    let (session, caller) = match console.admit(&parts, &cookies).await {
        Ok(Some(admitted)) => admitted,
        Ok(None) => return page::secured(without_session(&parts)),
        Err(error) => return page::secured(sign_in::error_page(&error)),
    };
    let signed = (console.ring(), &session);
    let notice = Notice::of_request(&parts, &cookies, signed);
    let has_shown = notice.is_some();
    let viewer = Viewer::new(&console, &session, caller, (&parts, notice));
    let section = page::section_of(parts.uri.path());
    let mut response = match console.fields(&parts, body, &session, &viewer).await {
        Ok(fields) => {
            parts.extensions.insert(fields);
            parts.extensions.insert(viewer.clone());
            parts.extensions.insert(session.clone());
            inner.run(Request::from_parts(parts, Body::empty())).await
        }
        Err(error) => error.into_response(),
    };
    if let Some(body) = response.extensions_mut().remove::<ErrorBody>() {
        response = page::of_error(&viewer, section, &body);
    }
    notice::pass_on(&mut response, &cookies, has_shown, signed);
    page::secured(response)
}

/// Middleware of what needs no session: the sign-in page, and the assets of the pages.
pub(super) async fn open(
    State(console): State<Console>,
    request: Request,
    inner: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    if let Err(error) = console.check_origin(&parts) {
        return page::secured(sign_in::error_page(&error));
    }
    let fields = match is_safe(&parts.method) {
        true => Ok(Fields::default()),
        false => console.form(&parts, body).await,
    };
    let mut response = match fields {
        Ok(fields) => {
            parts.extensions.insert(fields);
            inner.run(Request::from_parts(parts, Body::empty())).await
        }
        Err(error) => error.into_response(),
    };
    if let Some(body) = response.extensions_mut().remove::<ErrorBody>() {
        response = sign_in::page_of(&body);
    }
    page::secured(response)
}

impl Console {
    /// Refuses requests of foreign pages, but for links that a person follows.
    fn check_origin(&self, parts: &Parts) -> Result<(), Error> {
        let checked = self.0.own_hosts.check_link(parts).map_err(Error::from);
        checked.inspect_err(|error| self.note_refusal(error, None, parts))
    }

    /// The session of a request, and its live key. `None` if it has none, or if the key has ended.
    async fn admit(
        &self,
        parts: &Parts,
        cookies: &Cookies,
    ) -> Result<Option<(ConsoleSession, Caller)>, Error> {
        self.check_origin(parts)?;
        let Some(session) = self.session(parts, cookies).await? else {
            return Ok(None);
        };
        let reader = &self.0.broker.0.reader;
        let caller = reader.caller(&session.key).await?;
        let caller = caller.filter(|it| it.is_live(reader.now()) && it.may(Scope::View));
        Ok(caller.map(|caller| {
            self.0.broker.0.audit.used(&session.key);
            (session, caller)
        }))
    }

    /// The fields of a request that may change something. It must be of a form of this session, and of a key with the
    /// scope `admin`.
    async fn fields(
        &self,
        parts: &Parts,
        body: Body,
        session: &ConsoleSession,
        viewer: &Viewer,
    ) -> Result<Fields, Error> {
        if is_safe(&parts.method) {
            return Ok(Fields::default());
        }
        let fields = self.form(parts, body).await?;
        let proof = fields.text("csrf").unwrap_or_default();
        let checked = match session.verify_form(self.ring(), proof) {
            true if parts.uri.path() == SIGN_OUT => Ok(()),
            true => viewer.require_admin(),
            false => {
                let message =
                    "This form is not of your session, or was opened before you signed in";
                Err(Error::new(ErrorKind::CrossSiteRequest, message)
                    .with_hint("go back, load the page again and repeat it"))
            }
        };
        let known = Some((session.key, &*viewer.caller));
        checked.inspect_err(|error| self.note_refusal(error, known, parts))?;
        Ok(fields)
    }

    /// Puts a refused request into the audit log. `known`: its key, if it is or was one.
    pub(super) fn note_refusal(
        &self,
        error: &Error,
        known: Option<(KeyHash, &Caller)>,
        parts: &Parts,
    ) {
        if let Some(why) = refusal(error.kind) {
            let happened = Happened::AdministrationRefused(why);
            let audit = &self.0.broker.0.audit;
            audit.refused(happened, known, self.address(parts));
        }
    }

    async fn form(&self, parts: &Parts, body: Body) -> Result<Fields, Error> {
        let memory = &self.0.broker.0.receive_memory;
        let received = memory.receive(body, MAX_FORM_BYTES, self.address(parts));
        Ok(Fields::parse(&received.await?.bytes))
    }
}

/// The answer to a request without a session.
fn without_session(parts: &Parts) -> Response {
    let next = parts.uri.path_and_query().map(|it| it.as_str());
    if !is_safe(&parts.method) {
        return sign_in::ended();
    }
    if is_followed_from_elsewhere(&parts.headers) {
        return sign_in::go_on(next::checked(next));
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    let there = match next.map(|next| next::checked(Some(next))) {
        Some(next) if next != ROOT => {
            let query = query.append_pair("next", next).finish();
            format!("{SIGN_IN}?{query}")
        }
        Some(_) | None => SIGN_IN.to_owned(),
    };
    Redirect::to(&there).into_response()
}

/// Whether the person followed a link on another site. The browser keeps the cookie of the session back then, and sends it
/// with the next request.
fn is_followed_from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| site == "cross-site" || site == "same-site")
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
