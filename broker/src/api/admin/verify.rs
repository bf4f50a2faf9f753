//! Refreshes imported installations once, so that it is known whether their refresh tokens work.

use axum::extract::State;
use axum::{Extension, Json};
use futures_util::StreamExt;
use futures_util::stream::iter;
use serde::{Deserialize, Serialize};
use store::audit::Action;
use store::{Generation, InstallationId};
use store_writer::writer::Wanted;
use utoipa::ToSchema;

use crate::Broker;
use crate::api::error::Error;
use crate::api::extract::JsonBody;
use crate::api::refresh_api;
use crate::audit::Requester;

/// The most installations of a request. They are refreshed at the same time, as far as the broker's window lets them.
const MAX_ROWS: usize = 50;

#[derive(Deserialize, ToSchema)]
pub(super) struct Verification {
    #[schema(max_items = 50)]
    installations: Vec<ToVerify>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ToVerify {
    #[schema(value_type = String)]
    installation_id: InstallationId,
    /// The generation of the imported token. Nothing is refreshed if there is a later one.
    #[schema(example = "1")]
    generation: String,
}

/// The results of a verification.
#[derive(Serialize, ToSchema)]
#[schema(as = VerificationResults)]
pub(super) struct Results {
    /// In the order of the request.
    results: Vec<Verified>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Verified {
    installation_id: String,
    /// Whether its refresh token works.
    verified: bool,
    /// The code of an error, as that of a refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    code: Option<&'static str>,
    /// The message of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Refresh imported installations once
///
/// The results say whether their refresh tokens work. An installation that was refreshed since its import is not
/// refreshed again.
#[utoipa::path(post, path = "/v1/installations/verify", operation_id = "verifyInstallations",
    request_body = Verification, responses(
    (status = 200, description = "The result of each", body = Results),
))]
pub(super) async fn verify(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    JsonBody(request): JsonBody<Verification>,
) -> Result<Json<Results>, Error> {
    if request.installations.len() > MAX_ROWS {
        let message = format!("At most {MAX_ROWS} installations are verified at once");
        return Err(Error::invalid(message));
    }
    let count = request.installations.len();
    let refreshes = request
        .installations
        .into_iter()
        .map(|one| verify_one(&broker, one));
    let refreshes: Vec<_> = refreshes.collect();
    let results: Vec<Verified> = iter(refreshes).buffered(MAX_ROWS).collect().await;
    let verified = results.iter().filter(|one| one.verified).count();
    let entry = requester.entry(broker.0.reader.now(), Action::TokenRefreshed);
    let detail = format!("{verified} of {count} imported installations, to verify their tokens");
    broker.0.audit.record(entry.with(detail)).await;
    Ok(Json(Results { results }))
}

async fn verify_one(broker: &Broker, one: ToVerify) -> Verified {
    let id = one.installation_id;
    let refreshed = match one.generation.parse::<Generation>() {
        Ok(past) => refresh_api::generation(broker, &id, Wanted::Past(past)).await,
        Err(_) => Err(Error::invalid("`generation` is a number")),
    };
    let error = refreshed.err();
    Verified {
        installation_id: id.to_string(),
        verified: error.is_none(),
        code: error.as_ref().map(Error::code),
        message: error.map(|error| error.message),
    }
}
