//! Private integration tokens: access tokens that a person makes in GHL's settings. They are never refreshed.

use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use store::audit::Action;
use store::{AppName, CompanyId, LocationId, UserType};
use store_writer::grant::Registration;
use store_writer::writer::TokenOrigin;
use tracing::info;
use utoipa::ToSchema;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::JsonBody;
use crate::api::status::{Name, View};
use crate::audit::Requester;

/// GHL's have about 40 bytes.
const MAX_TOKEN_BYTES: usize = 4096;

/// The body of a request to store a token.
#[derive(Deserialize, ToSchema)]
pub(super) struct PrivateToken {
    /// `default` if there is none.
    app: Option<String>,
    /// The location that the token is of.
    #[schema(value_type = Option<String>)]
    location_id: Option<LocationId>,
    /// The company, for a token of an agency.
    #[schema(value_type = Option<String>)]
    company_id: Option<CompanyId>,
    /// One word of visible characters.
    #[schema(value_type = String, min_length = 1, max_length = 4096)]
    token: SecretString,
}

/// Store a private integration token
///
/// It replaces the earlier one of the same location or company. Name exactly one of the two.
#[utoipa::path(post, path = "/v1/private-tokens", operation_id = "addPrivateToken", request_body = PrivateToken, responses(
    (status = 201, description = "The installation", body = View),
    (status = 409, description = "The customer has connected by consent, and that token stays fresh by itself"),
))]
pub(super) async fn add(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    JsonBody(request): JsonBody<PrivateToken>,
) -> Result<(StatusCode, Json<View>), Error> {
    let app = request.app.as_deref().unwrap_or(AppName::DEFAULT);
    let app: AppName = app
        .parse()
        .map_err(|error| Error::invalid(format!("`app`: {error}")))?;
    let user_type = match (&request.location_id, &request.company_id) {
        (Some(_), None) => UserType::Location,
        (None, Some(_)) => UserType::Company,
        (None, None) | (Some(_), Some(_)) => {
            return Err(Error::invalid("name either `location_id` or `company_id`"));
        }
    };
    if !is_token(&request.token) {
        return Err(Error::invalid(
            "`token` is no access token: it must be one word of visible characters",
        ));
    }
    let apps = broker.0.worker.apps.current();
    let writer = &broker.0.writer;
    let known = apps.named(&app).ok_or_else(|| {
        let names: Vec<&str> = apps.apps.iter().map(|app| app.name.as_str()).collect();
        let message = format!(
            "There is no app {app}. The settings have {}",
            names.join(", ")
        );
        Error::new(ErrorKind::AppUnknown, message)
    })?;
    let usable = known.ensure_usable(writer).await;
    usable.map_err(|error| Error::new(ErrorKind::AppUnknown, error.to_string()))?;
    let registration = Registration {
        app,
        client: None,
        access_token: request.token,
        refresh_token: None,
        expires_at: None,
        lifetime: Duration::ZERO,
        scopes: String::new(),
        user_type,
        location: request.location_id,
        company: request.company_id,
    };
    let (id, is_stored) = writer
        .register_static_token(&registration, TokenOrigin::Operator)
        .await?;
    if !is_stored {
        return Err(Error::new(
            ErrorKind::TokenNotStored,
            "The customer has connected by consent, and that token stays fresh by itself",
        )
        .with_hint("revoke the installation first, or use another --app"));
    }
    info!(installation = %id, "a private integration token was stored");
    let entry = requester.entry(broker.0.reader.now(), Action::TokenAdded);
    broker.0.audit.record(entry.on(&id)).await;
    let name = Name {
        name: id.as_str(),
        app: None,
    };
    let shown = name.find(writer).await?;
    Ok((StatusCode::CREATED, Json(View::of(&shown, &apps.known()))))
}

/// Whether it can be a token. A line that was copied with more than the token is refused here, and not by GHL later.
fn is_token(token: &SecretString) -> bool {
    let text = token.expose_secret();
    (1..=MAX_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
