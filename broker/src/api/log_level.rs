//! The log filter of this process, while it runs.

use axum::extract::State;
use axum::{Extension, Json};
use service::telemetry::{LogLevelError, LogLevelView, NewLogLevel};
use store::audit::Action;
use tracing::info;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::JsonBody;
use crate::audit::Requester;

pub(super) fn routes() -> OpenApiRouter<Broker> {
    OpenApiRouter::default().routes(routes!(show, change))
}

/// Show the log filter
///
/// Of the process that answers. A gateway has this route, too.
#[utoipa::path(get, path = "/v1/log-level", operation_id = "getLogLevel", responses(
    (status = 200, description = "The filter", body = LogLevelView),
))]
async fn show() -> Result<Json<LogLevelView>, Error> {
    Ok(Json(LogLevelView::now()?))
}

/// Change the log filter
///
/// Of the process that answers, for a time or until it ends. A gateway has this route, too.
#[utoipa::path(put, path = "/v1/log-level", operation_id = "setLogLevel", request_body = NewLogLevel, responses(
    (status = 200, description = "The filter applies", body = LogLevelView),
))]
async fn change(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    JsonBody(wanted): JsonBody<NewLogLevel>,
) -> Result<Json<LogLevelView>, Error> {
    let shown = wanted.apply()?;
    let filter = wanted.described();
    info!(filter, "the log filter was changed");
    let entry = requester.entry(broker.0.reader.now(), Action::LogLevelChanged);
    broker.0.audit.record(entry.with(filter)).await;
    Ok(Json(shown))
}

impl From<LogLevelError> for Error {
    fn from(error: LogLevelError) -> Self {
        match error {
            LogLevelError::Filter(_) | LogLevelError::Duration | LogLevelError::TooLong => {
                Self::invalid(error.to_string())
            }
            LogLevelError::Ended => Self::new(ErrorKind::BrokerStopping, error.to_string()),
        }
    }
}
