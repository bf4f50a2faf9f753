//! `POST /v1/connect-links` makes a one-time link that a backend gives to its customer.

use axum::extract::State;
use axum::{Extension, Json};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use store::audit::Action;
use store::record::StoredAccess;
use store::{Customer, ExternalId, LocationId, customer};
use store_writer::consent::Claim;
use utoipa::{IntoParams, ToSchema};

use super::browser_keys::NO_STORE;
use super::{installation, validity};
use crate::Broker;
use crate::api::auth::Backend;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::{JsonBody, PathName, QueryString};
use crate::api::status::Name;
use crate::apps::App;
use crate::audit::Requester;
use crate::connect::link::{self, DEFAULT_VALIDITY, LONGEST_VALIDITY, Link, Token};

/// The body of a request for a link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLink {
    /// The app. Needed if there are several, and none is called `default`.
    app: Option<String>,
    /// Where the browser goes afterwards. Without it, the customer sees a page that says how it went.
    return_to: Option<String>,
    /// At most 16. Without tags, an installation keeps those that it has.
    #[serde(default)]
    #[schema(max_items = 16)]
    tags: Vec<String>,
    /// The customer's id in the caller's system. It is taken from the installation that has it.
    external_id: Option<String>,
    /// Whether the external id also replaces another one of the installation that consents, which belongs to another
    /// customer of yours then. A link that names `location_id` does.
    #[serde(default)]
    replace: bool,
    /// Whether GHL's page must not show GHL's name.
    #[serde(default)]
    white_label: bool,
    /// The location that must consent.
    #[schema(value_type = Option<String>)]
    location_id: Option<LocationId>,
    /// Seconds; 30 minutes by default, 7 days at most.
    #[schema(minimum = 1, maximum = 604800)]
    expires_in: Option<u64>,
}

/// The query of a request about an installation.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AppQuery {
    /// Its app. Needed for a location or company that has several.
    app: Option<String>,
}

/// The body of a request for a link with which a customer connects again.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewReconnectLink {
    /// Where the browser goes afterwards. Without it, the customer sees a page that says how it went.
    return_to: Option<String>,
    /// Whether GHL's page must not show GHL's name.
    #[serde(default)]
    white_label: bool,
    /// Seconds; 30 minutes by default, 7 days at most.
    #[schema(minimum = 1, maximum = 604800)]
    expires_in: Option<u64>,
}

/// A link, as its backend gets it.
#[derive(Serialize, ToSchema)]
#[schema(as = ConnectLink)]
pub(crate) struct Made {
    pub(crate) url: String,
    pub(crate) expires_at: String,
}

type Response = (StatusCode, [(HeaderName, HeaderValue); 1], Json<Made>);

/// Make a one-time link for a customer
///
/// The customer opens it to connect an account.
#[utoipa::path(post, path = "/v1/connect-links", operation_id = "createConnectLink", request_body = NewLink, responses(
    (status = 201, description = "The link", body = Made),
))]
pub(super) async fn create(
    State(broker): State<Broker>,
    Extension(backend): Extension<Backend>,
    JsonBody(request): JsonBody<NewLink>,
) -> Result<Response, Error> {
    let apps = broker.0.worker.apps.current();
    let app = apps.chosen(request.app.as_deref(), backend.caller.app.as_ref())?;
    if !backend.caller.may_connect(&app.name) {
        let message = "This key is for some installations, and cannot connect others";
        return Err(Error::new(ErrorKind::ScopeMissing, message)
            .with_hint("use a key that is not limited to some installations"));
    }
    let external_id = request.external_id.map(|text| text.parse::<ExternalId>());
    let external_id = external_id.transpose();
    let tags = customer::parse_tags(&request.tags).map_err(Error::invalid)?;
    let wanted = Wanted {
        customer: Customer {
            external_id: external_id.map_err(|error| Error::invalid(error.to_string()))?,
            tags,
        },
        replaces: request.replace,
        owner: request.location_id.map(String::from),
        return_to: request.return_to,
        is_white_label: request.white_label,
        expires_in: request.expires_in,
    };
    let made = make(&broker, &backend.requester, app, wanted).await?;
    Ok((StatusCode::CREATED, NO_STORE, Json(made)))
}

/// Make a link with which a customer connects again
///
/// The installation keeps its external id and its tags. The body may be absent.
#[utoipa::path(post, path = "/v1/installations/{name}/reconnect-link", operation_id = "createReconnectLink",
    request_body = Option<NewReconnectLink>, params(
    ("name" = String, Path, description = "Its id, its location, its company or its external id"), AppQuery,
), responses(
    (status = 201, description = "The link", body = Made),
))]
pub(super) async fn reconnect(
    State(broker): State<Broker>,
    Extension(backend): Extension<Backend>,
    PathName(name): PathName,
    QueryString(query): QueryString<AppQuery>,
    body: Option<JsonBody<NewReconnectLink>>,
) -> Result<Response, Error> {
    let request = body.map(|JsonBody(request)| request).unwrap_or_default();
    let name = Name {
        name: &name,
        app: query.app.as_deref(),
    };
    let found = installation::find(&broker, &backend.caller, name).await?;
    let access = &found.access;
    let apps = broker.0.worker.apps.current();
    let app = apps.chosen(Some(access.app.as_str()), backend.caller.app.as_ref())?;
    let wanted = Wanted {
        return_to: request.return_to,
        is_white_label: request.white_label,
        expires_in: request.expires_in,
        ..Wanted::again(access)
    };
    let made = make(&broker, &backend.requester, app, wanted).await?;
    Ok((StatusCode::CREATED, NO_STORE, Json(made)))
}

/// A link that is wanted.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) customer: Customer,
    /// The location or company that must consent.
    pub(crate) owner: Option<String>,
    pub(crate) return_to: Option<String>,
    pub(crate) is_white_label: bool,
    /// Seconds.
    pub(crate) expires_in: Option<u64>,
    /// Whether the external id also replaces another one.
    pub(crate) replaces: bool,
}

impl Wanted {
    /// One with which the owner of an installation connects again.
    pub(crate) fn again(access: &StoredAccess) -> Self {
        let location = access.location.as_ref().map(ToString::to_string);
        let company = || access.company.as_ref().map(ToString::to_string);
        Self {
            // Those of the link would replace what has changed until the customer consents, so it has none.
            customer: Customer::default(),
            owner: location.or_else(company),
            ..Self::default()
        }
    }
}

/// Makes a link, and records it.
///
/// # Errors
/// 400 if the browser is not sent to the address, or the validity is out of bounds. 503 if the store is unavailable.
pub(crate) async fn make(
    broker: &Broker,
    requester: &Requester,
    app: &App,
    wanted: Wanted,
) -> Result<Made, Error> {
    let return_to = wanted.return_to.as_deref().map(|text| {
        let allowed = broker.0.config.return_urls.of_caller(text);
        allowed.map_err(|message| Error::new(ErrorKind::ReturnUrlRefused, message))
    });
    let return_to = return_to.transpose()?;
    let now = broker.0.reader.now();
    let link = Link {
        app: app.name.clone(),
        return_to,
        customer: wanted.customer,
        claim: match wanted.replaces || wanted.owner.is_some() {
            true => Claim::Replace,
            false => Claim::Move,
        },
        owner: wanted.owner,
        is_white_label: wanted.is_white_label,
        expires_at: now + validity::of(wanted.expires_in, DEFAULT_VALIDITY, LONGEST_VALIDITY)?,
        finished: None,
    };
    let token = Token::random();
    link::create(&broker.0.writer, &token, &link, now).await?;
    let mut url = app.consent.redirect_uri.clone();
    url.set_path(&format!("/connect/{}", token.as_str()));
    url.set_query(None);
    let entry = requester.entry(now, Action::ConnectLinkCreated);
    broker
        .0
        .audit
        .record(entry.with(app.name.to_string()))
        .await;
    Ok(Made {
        url: url.into(),
        expires_at: link.expires_at.to_string(),
    })
}
