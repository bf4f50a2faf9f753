//! `/v1/overview`: the state of everything at a glance.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Broker;
use crate::overview::{Overview, gather};

pub(super) fn routes() -> OpenApiRouter<Broker> {
    OpenApiRouter::default().routes(routes!(overview))
}

/// Show the state of everything
///
/// Installations, refreshes and calls of the last 24 hours, the processes, and what is wrong with its remedy. It is what
/// the broker that answers knows.
#[utoipa::path(get, path = "/v1/overview", operation_id = "getOverview", responses(
    (status = 200, description = "The overview", body = Overview),
))]
async fn overview(State(broker): State<Broker>) -> Json<Overview> {
    Json(gather::overview(&broker).await)
}
