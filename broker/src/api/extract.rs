//! axum's extractors, with errors of this API.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{
    FromRequest, FromRequestParts, OptionalFromRequest, OptionalFromRequestParts, Path, Query,
    Request,
};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::api::error::{Error, ErrorKind};

/// A JSON body. It needs a JSON content type.
pub(crate) struct JsonBody<T>(pub T);

/// The query of the URL.
pub(crate) struct QueryString<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        match <Json<T> as FromRequest<S>>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(refuse(&rejection)),
        }
    }
}

/// A body that may be left out, with its content type.
impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for JsonBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Error> {
        match <Json<T> as OptionalFromRequest<S>>::from_request(request, state).await {
            Ok(body) => Ok(body.map(|Json(value)| Self(value))),
            Err(rejection) => Err(refuse(&rejection)),
        }
    }
}

/// The one parameter of the path.
pub(crate) struct PathName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let found = <Path<String> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        let Path(name) = found.map_err(|rejection| Error::invalid(rejection.body_text()))?;
        Ok(Self(name))
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for PathName {
    type Rejection = Error;

    /// `None` if the route has no parameter.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Error> {
        let found =
            <Path<String> as OptionalFromRequestParts<S>>::from_request_parts(parts, state).await;
        let found = found.map_err(|rejection| Error::invalid(rejection.body_text()))?;
        Ok(found.map(|Path(name)| Self(name)))
    }
}

fn refuse(rejection: &JsonRejection) -> Error {
    let kind = match rejection.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ErrorKind::ContentTypeUnsupported,
        StatusCode::PAYLOAD_TOO_LARGE => ErrorKind::BodyTooLarge,
        _ => ErrorKind::RequestInvalid,
    };
    Error::new(kind, rejection.body_text())
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryString<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        match <Query<T> as FromRequestParts<S>>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Error::new(ErrorKind::RequestInvalid, rejection.body_text())),
        }
    }
}
