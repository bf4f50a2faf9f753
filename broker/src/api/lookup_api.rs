//! Questions of gateways for the installation of a location that is not known.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::json;
use store::id::ParseIdError;
use store::lookup_request_mac::{self, Question};
use store::{AppName, InstallationId, LocationId};

use crate::Broker;
use crate::agency::{Lookup, Wanted};
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::QueryString;

pub(crate) fn routes() -> Router<Broker> {
    Router::new().route("/v1/locations/{location}/lookup", post(look_up))
}

#[derive(Deserialize)]
struct LookupQuery {
    /// The agencies that may have it, separated by commas. All if there is none.
    #[serde(default)]
    agencies: String,
    /// The app whose agencies may have it. Any if there is none.
    app: Option<String>,
}

async fn look_up(
    State(broker): State<Broker>,
    Path(location): Path<String>,
    QueryString(query): QueryString<LookupQuery>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let location: LocationId = location.parse().map_err(|_| Error::not_found())?;
    let named = query.agencies.split(',').filter(|id| !id.is_empty());
    let agencies: Result<Vec<InstallationId>, _> = named.map(str::parse).collect();
    let agencies = agencies
        .map_err(|_| Error::new(ErrorKind::RequestInvalid, "`agencies` are installation ids"))?;
    let app: Option<AppName> = query
        .app
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|error: ParseIdError| Error::new(ErrorKind::RequestInvalid, error.to_string()))?;
    let question = Question {
        location: &location,
        agencies: &agencies,
        app: app.as_ref(),
    };
    let pass = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let ring = &broker.0.writer.rings().access;
    if !lookup_request_mac::verify(ring, pass.unwrap_or_default(), &question) {
        return Err(
            Error::new(ErrorKind::RefreshNotAllowed, "This is for gateways").with_hint(
                "only a gateway with the same EVERGREEN_ACCESS_KEYS may ask for an installation",
            ),
        );
    }
    let inner = &broker.0;
    let wanted = Wanted {
        location,
        agencies,
        app,
    };
    let found = inner.lookups.find(&inner.worker, &inner.shutdown, wanted);
    match found.await {
        Lookup::Found(id) => Ok(Json(json!({ "installationId": id.as_str() })).into_response()),
        Lookup::Unknown => Err(Error::new(
            ErrorKind::LocationUnknown,
            "Installation not found",
        )),
        Lookup::TooManyAgencies => Err(Error::new(
            ErrorKind::RefreshUnavailable,
            Lookup::TOO_MANY_AGENCIES,
        )),
        Lookup::Unavailable(reason) => Err(Error::new(ErrorKind::RefreshUnavailable, reason)),
    }
}
