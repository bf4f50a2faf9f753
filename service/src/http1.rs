//! HTTP/1.1 as both ends of a proxy speak it: RFC 9112.
//!
//! A message is taken apart by httparse; where it ends, and what two readers could understand in two
//! ways, is decided here. hyper's server takes the chunks of a request that has a length too, and
//! tells nobody; it holds three times the memory for an idle connection, and sets a timer for each
//! request.

mod about;
pub(crate) mod connection;
mod framing;
mod incoming;
mod inlet;
mod message;
mod names;
mod request;
mod response;

pub use about::About;
pub use framing::{Chunks, Framing};
pub use message::{Coding, Message, Unsent};
pub use names::{Names, Role};

use axum::http::StatusCode;

use crate::listen::BUFFER_BYTES;

/// As many headers as a message may have.
pub const MAX_HEADERS: usize = 100;

/// What is wrong with a message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{0}")]
    Head(#[from] httparse::Error),
    #[error("its head is longer than {BUFFER_BYTES} bytes")]
    LongHead,
    #[error("its head did not come in time")]
    LateHead,
    #[error("its target is none, or not of its method")]
    Target,
    #[error("it names no host, several, or what cannot be one")]
    Host,
    #[error("it changes the protocol, which nobody asked for")]
    Upgrade,
    #[error("its length is no number, or several")]
    Length,
    #[error("it has a length and chunks")]
    LengthAndChunks,
    #[error("its transfer codings do not end in one `chunked`")]
    Unending,
    #[error("its transfer coding is another than `chunked`")]
    Coding,
    #[error("its chunks")]
    Chunks,
}

impl Malformed {
    /// What the sender of such a request is told.
    fn status(&self) -> StatusCode {
        match self {
            Self::Head(httparse::Error::TooManyHeaders) | Self::LongHead => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::LateHead => StatusCode::REQUEST_TIMEOUT,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Head(_)
            | Self::Target
            | Self::Host
            | Self::Upgrade
            | Self::Length
            | Self::LengthAndChunks
            | Self::Unending
            | Self::Chunks => StatusCode::BAD_REQUEST,
        }
    }
}

/// Where in `whole` a part of it is.
#[must_use]
pub fn range(whole: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

#[cfg(test)]
mod tests;
