//! A caller's body. A small one is held in memory, so that it can be examined and sent again.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use http::{HeaderMap, Version};
use http_body::Body as _;
use service::limits::BUFFER_BYTES;

use super::body_fields::{BodyFields, Format};
use crate::upstream::body::{BodyError, Outgoing, read};

/// A body up to this size is held, so that it can be sent again.
const HELD_BYTES: u64 = 64 * 1024;

/// A JSON body up to this size is held, so that it can be examined.
const PEEKED_BYTES: u64 = 256 * 1024;

/// A caller's body.
#[derive(Debug)]
pub(crate) enum Payload {
    /// Empty if there is no body.
    Held(Bytes),
    Stream(Body),
}

impl Payload {
    /// Reads a small body into memory. A large one, or one of unknown length, stays a stream.
    pub(crate) async fn take(
        headers: &HeaderMap,
        body: Body,
        limit: u64,
        patience: Duration,
    ) -> Result<Self, BodyError> {
        if body.is_end_stream() {
            return Ok(Self::Held(Bytes::new()));
        }
        let held = Format::of(headers).map_or(HELD_BYTES, examined_bytes);
        match body.size_hint().exact() {
            Some(length) if length > limit => Err(BodyError::TooLarge { limit }),
            Some(length) if length <= held => read(body, limit, patience).await.map(Self::Held),
            Some(_) | None => Ok(Self::Stream(body)),
        }
    }

    /// The knowledge about the body before it is sent.
    pub(crate) fn examine<'p>(&'p self, parts: &'p Parts) -> Examined<'p> {
        Examined {
            fields: self.fields(&parts.headers),
            unexamined: self.unexamined(&parts.headers),
            held_bytes: self.held_bytes(parts.version),
        }
    }

    /// How many bytes of it are in memory while its call waits.
    pub(crate) fn held_bytes(&self, version: Version) -> usize {
        match self {
            Self::Held(body) => body.len(),
            // The flow control window lets this much arrive before it is read.
            Self::Stream(_) if version == Version::HTTP_2 => BUFFER_BYTES,
            Self::Stream(_) => 0,
        }
    }

    /// The body as it is sent. A stream fails after `limit` bytes.
    pub(crate) fn into_outgoing(self, limit: u64) -> Outgoing {
        match self {
            Self::Held(bytes) => Outgoing::Held(bytes),
            Self::Stream(body) => Outgoing::stream(body, limit),
        }
    }

    /// Why a body whose fields can be read was not examined, if it was not.
    fn unexamined(&self, headers: &HeaderMap) -> Option<Unexamined> {
        let format = Format::of(headers)?;
        match self {
            Self::Stream(body) if body.size_hint().exact().is_some() => {
                let limit = examined_bytes(format);
                Some(Unexamined::TooLarge { limit })
            }
            Self::Stream(_) => Some(Unexamined::Chunked),
            Self::Held(_) => {
                let encoding = headers.get(CONTENT_ENCODING);
                let is_compressed = encoding.is_some_and(|encoding| encoding != "identity");
                is_compressed.then_some(Unexamined::Compressed)
            }
        }
    }

    /// The fields of a body that is held.
    fn fields<'p>(&'p self, headers: &'p HeaderMap) -> BodyFields<'p> {
        match self {
            Self::Held(body) => BodyFields::of(headers, body),
            Self::Stream(_) => BodyFields::None,
        }
    }
}

/// The knowledge about a body before it is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Examined<'p> {
    pub(crate) fields: BodyFields<'p>,
    pub(crate) unexamined: Option<Unexamined>,
    pub(crate) held_bytes: usize,
}

/// Why a body whose fields can be read was not examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unexamined {
    #[error("it is longer than {} KiB", limit / 1024)]
    TooLarge { limit: u64 },
    #[error("it has no Content-Length")]
    Chunked,
    #[error("it is compressed")]
    Compressed,
}

/// The size up to which a body of this format is examined.
fn examined_bytes(format: Format) -> u64 {
    match format {
        Format::Json => PEEKED_BYTES,
        Format::Form | Format::Multipart => HELD_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn chunks(chunks: &'static [&'static str]) -> Body {
        let chunks = chunks.iter().map(|chunk| Ok::<_, axum::Error>(*chunk));
        Body::from_stream(stream::iter(chunks))
    }

    async fn take(content_type: &'static str, body: Body) -> Result<Payload, BodyError> {
        let value = HeaderValue::from_static(content_type);
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
        Payload::take(&headers, body, 1_000_000, TIMEOUT).await
    }

    #[tokio::test]
    async fn small_bodies_and_json_up_to_256_kib_are_held() {
        let sized = |length: u64| Body::from(vec![b'x'; usize::try_from(length).unwrap()]);
        for (content_type, body, is_held) in [
            ("text/plain", Body::empty(), true),
            ("text/plain", sized(HELD_BYTES), true),
            ("text/plain", sized(HELD_BYTES + 1), false),
            ("application/json", sized(PEEKED_BYTES), true),
            ("application/json", sized(PEEKED_BYTES + 1), false),
            ("application/json", chunks(&["{}"]), false),
        ] {
            let payload = take(content_type, body).await.unwrap();
            assert_eq!(matches!(payload, Payload::Held(_)), is_held);
        }
        let refused = take("text/plain", sized(1_000_001)).await;
        assert!(matches!(
            refused,
            Err(BodyError::TooLarge { limit: 1_000_000 })
        ));
    }
}
