//! `POST /v1/console-links` makes a one-time link to sign in to the console.

use axum::extract::State;
use axum::{Extension, Json};
use http::{HeaderName, HeaderValue, StatusCode};
use secrecy::ExposeSecret;
use serde::Serialize;
use store::KeyHash;
use store::audit::Action;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::connect::NO_STORE;
use crate::Broker;
use crate::api::error::Error;
use crate::audit::Requester;
use crate::console::link;

pub(super) fn routes() -> OpenApiRouter<Broker> {
    OpenApiRouter::default().routes(routes!(create))
}

/// The key of an administrator, which the middleware has put into the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct AdminKey(pub(super) KeyHash);

/// A one-time link to sign in to the console.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConsoleLink)]
struct Made {
    /// The path on the internal listener. It contains a secret.
    #[schema(example = "/console/sign-in/…")]
    path: String,
    /// The link works once, until then.
    expires_at: String,
}

/// Make a link to sign in to the console
///
/// It works once, within 15 minutes. Its user has the rights of the key that made it.
#[utoipa::path(post, path = "/v1/console-links", operation_id = "createConsoleLink", responses(
    (status = 201, description = "The link", body = Made),
))]
async fn create(
    State(broker): State<Broker>,
    Extension(AdminKey(key)): Extension<AdminKey>,
    Extension(requester): Extension<Requester>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], Json<Made>), Error> {
    let now = broker.0.reader.now();
    let link = link::create(&broker.0.writer, &key, now).await?;
    let entry = requester.entry(now, Action::SignInLinkCreated);
    broker.0.audit.record(entry).await;
    let made = Made {
        path: link.path.expose_secret().to_owned(),
        expires_at: link.expires_at.to_string(),
    };
    Ok((StatusCode::CREATED, NO_STORE, Json(made)))
}
