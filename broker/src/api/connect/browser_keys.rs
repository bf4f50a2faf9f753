//! `POST /v1/browser-keys` issues a key that a backend gives to its web page.

use axum::extract::State;
use axum::{Extension, Json};
use http::header::CACHE_CONTROL;
use http::{HeaderName, HeaderValue, StatusCode};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use store::browser_key::{self, BrowserKey, WebOrigin};
use store::{AllowedCall, InstallationId, Scope, Timestamp};
use utoipa::ToSchema;

use super::{installation, validity};
use crate::Broker;
use crate::api::auth::Backend;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::JsonBody;
use crate::api::status::Name;

/// A response with a secret is not kept.
pub(in crate::api) const NO_STORE: [(HeaderName, HeaderValue); 1] =
    [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// The body of a request for a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBrowserKey {
    /// The id of the installation, of its location or of its company.
    installation: String,
    /// The app, if a location or company has several.
    app: Option<String>,
    /// The calls to GHL that the key may make, such as `GET /contacts/*`.
    #[serde(default)]
    #[schema(required, min_items = 1, max_items = 20)]
    calls: Vec<String>,
    /// The lifetime of the key in seconds.
    #[schema(minimum = 1, maximum = 3600)]
    expires_in: Option<u64>,
    /// The origin of the pages that may send it, such as `https://app.example.com`. All if there is none.
    origin: Option<String>,
}

/// The limits of a key, as a request names them.
pub(super) struct Limits {
    /// The calls to GHL, such as `GET /contacts/*`.
    pub(super) calls: Vec<String>,
    /// The lifetime of the key in seconds.
    pub(super) expires_in: Option<u64>,
    /// The origin of the pages that may send it, such as `https://app.example.com`. All if there is none.
    pub(super) origin: Option<String>,
}

/// A key, as its backend gets it.
#[derive(Serialize, ToSchema)]
#[schema(as = BrowserKey)]
pub(super) struct Issued {
    /// The key. It cannot be shown again.
    key: String,
    expires_at: String,
    installation_id: String,
    calls: Vec<String>,
}

/// Issue a key for a web page
///
/// It makes the named calls for one installation, and lives for an hour at most.
#[utoipa::path(post, path = "/v1/browser-keys", operation_id = "createBrowserKey", request_body = NewBrowserKey, responses(
    (status = 201, description = "The key", body = Issued),
))]
pub(super) async fn create(
    State(broker): State<Broker>,
    Extension(backend): Extension<Backend>,
    JsonBody(request): JsonBody<NewBrowserKey>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], Json<Issued>), Error> {
    let limits = Limits {
        calls: request.calls,
        expires_in: request.expires_in,
        origin: request.origin,
    };
    let limits = limits.check(&backend, broker.0.reader.now())?;
    let name = Name {
        name: &request.installation,
        app: request.app.as_deref(),
    };
    let found = installation::find(&broker, &backend.caller, name).await?;
    let issued = issue(&broker, &backend, &found.id, limits)?;
    Ok((StatusCode::CREATED, NO_STORE, Json(issued)))
}

/// [`Limits`] that the issuer may give.
pub(super) struct Checked {
    calls: Vec<AllowedCall>,
    origin: Option<WebOrigin>,
    expires_at: Timestamp,
}

impl Limits {
    /// # Errors
    /// 400 if they cannot be read. 403 if they allow more than the issuer may.
    pub(super) fn check(&self, backend: &Backend, now: Timestamp) -> Result<Checked, Error> {
        let calls = self.calls()?;
        let caller = &backend.caller;
        if !caller.may(Scope::Proxy) {
            let message =
                "A browser key may do no more than its issuer, which needs the scope `proxy`, too";
            return Err(Error::new(ErrorKind::ScopeMissing, message)
                .with_hint("`evergreen keys create --scope connect --scope proxy`"));
        }
        if !caller.may_make(&calls) {
            let message = "A browser key may make no call that its issuer may not make";
            return Err(Error::new(ErrorKind::CallNotAllowed, message)
                .with_hint("`evergreen keys list` shows which calls a key may make"));
        }
        let origin = self.origin.as_deref().map(str::parse::<WebOrigin>);
        let origin = origin.transpose();
        let origin = origin.map_err(|error| Error::invalid(format!("`origin`: {error}")))?;
        let (usual, longest) = (browser_key::USUAL, browser_key::LONGEST);
        let ends = now + validity::of(self.expires_in, usual, longest)?;
        Ok(Checked {
            calls,
            origin,
            expires_at: caller.expires_at.map_or(ends, |end| end.min(ends)),
        })
    }

    fn calls(&self) -> Result<Vec<AllowedCall>, Error> {
        if self.calls.is_empty() || self.calls.len() > browser_key::MAX_CALLS {
            return Err(Error::invalid(format!(
                "`calls` are the 1 to {} calls that the key may make, such as `GET /contacts/*`. Everyone who opens \
                 the page can read its key and make all of them, so a browser key is never for all calls",
                browser_key::MAX_CALLS
            )));
        }
        let parse = |call: &String| -> Result<AllowedCall, Error> {
            let parsed = call.parse::<AllowedCall>();
            let parsed = parsed.map_err(|error| Error::invalid(format!("`{call}`: {error}")))?;
            match parsed.is_for_all_paths() {
                true => Err(Error::invalid(format!(
                    "`{call}`: a browser key is never for all paths. Name those that the page needs"
                ))),
                false => Ok(parsed),
            }
        };
        self.calls.iter().map(parse).collect()
    }
}

/// Issues a key for an installation that the issuer may use.
pub(super) fn issue(
    broker: &Broker,
    backend: &Backend,
    installation: &InstallationId,
    limits: Checked,
) -> Result<Issued, Error> {
    let key = BrowserKey {
        issuer: backend.key,
        installation: installation.clone(),
        calls: limits.calls,
        origin: limits.origin,
        expires_at: limits.expires_at,
    };
    let text = key.issue(&broker.0.writer.rings().access);
    let text = text.map_err(|error| Error::invalid(error.to_string()))?;
    let issuer = (backend.key, backend.caller.as_ref());
    let address = backend.requester.address;
    let audit = &broker.0.audit;
    audit.browser_key_created(issuer, installation, address);
    Ok(Issued {
        key: text.expose_secret().to_owned(),
        expires_at: key.expires_at.to_string(),
        installation_id: installation.to_string(),
        calls: key.calls.iter().map(ToString::to_string).collect(),
    })
}
