//! The errors of all stages. Each of them keeps a request from being forwarded.

use std::time::Duration;

use http::uri;
use service::origin::ForeignRequest;
use service::receive::ReceiveError;
use service::telemetry::LogLevelError;

use crate::admission::concurrency::Overloaded;
use crate::admission::limited::Limited;
use crate::pipeline::admit::AdmissionError;
use crate::pipeline::select::SelectError;
use crate::request::caller::CallerError;
use crate::request::json::NotAnObject;
use crate::request::path::UnsafePath;
use crate::token::provider::TokenError;
use crate::upstream::body::BodyError;
use crate::upstream::{Failure, SendError};

/// Why a request fails. Callers read the text, so it contains no secrets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Caller(#[from] CallerError),
    #[error(transparent)]
    Foreign(#[from] ForeignRequest),
    #[error("Too many requests without a key come from this address")]
    AnonymousRate(Duration),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error("The request has no signature of GHL")]
    Unsigned,
    #[error("The body must be sent as application/json")]
    ContentType,
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Limited(#[from] Limited),
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Upstream(#[from] Failure),
    #[error("The access token was refreshed: send the request again")]
    TokenRefreshed,

    #[error("The installation is an agency's: name one of its locations as locationId")]
    NoLocation,
    #[error(
        "GHL's MCP server works for one location, and the installation is an agency's: name one of its locations"
    )]
    McpWithoutLocation,
    #[error("The installation has neither a location nor a company to test")]
    NothingToTest,
    #[error(transparent)]
    Path(#[from] UnsafePath),
    #[error("The path or the query cannot be forwarded")]
    Uri(#[from] uri::InvalidUri),
    #[error(transparent)]
    Json(#[from] NotAnObject),
    #[error("{0}")]
    MinTtl(String),
    #[error("The body is no log filter: {0}")]
    NoLogLevel(String),
    #[error(transparent)]
    LogLevel(#[from] LogLevelError),
    #[error("refused must be the generation of a token, such as 3")]
    RefusedGeneration,
    #[error("X-Request-Timeout must be a duration with its unit, such as 15s")]
    Timeout,

    #[error("Cannot find {method} {path}")]
    NoRoute { method: String, path: String },
    #[error("{path} does not take {method}")]
    WrongMethod { method: String, path: String },
}

impl From<AdmissionError> for Error {
    fn from(error: AdmissionError) -> Self {
        match error {
            AdmissionError::Limited(limited) => Self::Limited(limited),
            AdmissionError::Overloaded(overloaded) => Self::Overloaded(overloaded),
            AdmissionError::Token(error) => Self::Token(error),
        }
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Peer(failure) => Self::Upstream(failure),
            SendError::Body(error) => Self::Body(error),
        }
    }
}
