//! Errors of a connection.

use std::error::Error as StdError;

use crate::upstream::body::Outgoing;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoResponse {
    #[error("no connection")]
    NotConnected(#[source] Box<dyn StdError + Send + Sync>),
    #[error("the connection broke")]
    Broken(#[from] Error),
}

/// A failure of a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("it switched protocols without being asked to")]
    Upgrade,
}

/// A call that has failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: Error,
    /// The request's body, if no byte of the request was sent.
    pub(super) unsent: Option<Outgoing>,
}
