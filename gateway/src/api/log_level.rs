//! The log filter of a gateway, while it runs. `evergreen up` has the route of its broker.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use http::request::Parts;
use http::{Method, StatusCode};
use service::error_body::Shape;
use service::origin::OwnHosts;
use service::telemetry::{LogLevelView, NewLogLevel};
use store::audit::Happened;
use tracing::info;

use super::error_response::respond;
use super::state::Api;
use crate::error::Error;
use crate::pipeline::token_requests::refusal;
use crate::request::caller::Permission;

const PATH: &str = "/v1/log-level";

/// The largest filter that is read, in bytes.
const MAX_BYTES: u64 = 16 * 1024;

/// The route, for keys with the scope `admin`. `own_hosts`: the names of the internal listener.
pub(crate) fn routes(api: Arc<Api>, own_hosts: OwnHosts) -> Router {
    let handle = async move |request: Request| {
        let answered = answer(&api, request, &own_hosts).await;
        answered.unwrap_or_else(|error| error.respond(Shape::Problem))
    };
    Router::new().route(PATH, get(handle.clone()).put(handle))
}

async fn answer(api: &Api, request: Request, own_hosts: &OwnHosts) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let asking = api.pipeline.asking(&parts);
    if let Err(error) = admit(api, &parts, own_hosts).await {
        if let Some(why) = refusal(&error) {
            let refused = Happened::AdministrationRefused(why);
            api.pipeline.note_refused(asking, refused).await;
        }
        return Err(error);
    }
    let shown = match parts.method {
        Method::PUT => {
            let wanted = wanted(api, &parts, body).await?;
            let shown = wanted.apply()?;
            info!(filter = wanted.described(), "the log filter was changed");
            let audit = &api.pipeline.audit;
            audit.note(Happened::LogLevelChanged, asking.key, None, asking.from);
            shown
        }
        _ => LogLevelView::now()?,
    };
    Ok(respond(StatusCode::OK, &shown))
}

async fn admit(api: &Api, parts: &Parts, own_hosts: &OwnHosts) -> Result<(), Error> {
    own_hosts.check(parts)?;
    api.pipeline.authenticate(parts, Permission::Admin).await?;
    Ok(())
}

async fn wanted(api: &Api, parts: &Parts, body: Body) -> Result<NewLogLevel, Error> {
    let from = api.pipeline.audit.address(parts);
    let body = api.anonymous.receive(body, MAX_BYTES, from).await?;
    let wanted = serde_json::from_slice(&body.bytes);
    wanted.map_err(|reason| Error::NoLogLevel(reason.to_string()))
}
