//! A caller's body. A small one is held in memory, so that it can be examined and sent again. Of a large one, or one
//! of unknown length, the beginning is read if the installation is named nowhere else.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use service::limits::BUFFER_BYTES;
use tokio::time::{Instant, timeout_at};

use super::body_fields::{BodyFields, Format};
use super::content_coding::{ContentCoding, NotDecompressed, gunzip};
use crate::upstream::body::{BodyError, Outgoing, read, with_beginning};

/// A body up to this size is held, so that it can be sent again.
const HELD_BYTES: u64 = 64 * 1024;

/// A JSON body up to this size is held, so that it can be examined. It is also the size up to which a body is
/// decompressed.
const PEEKED_BYTES: u64 = 256 * 1024;

/// A caller's body.
#[derive(Debug)]
pub(crate) enum Payload {
    /// Empty if there is no body.
    Held(Bytes),
    Stream {
        /// The part of the body that was read. Empty if nothing was.
        beginning: Bytes,
        /// The rest.
        body: Body,
        /// Reading ended before the limit, because nothing more came in time.
        is_late: bool,
    },
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
            Some(_) | None => Ok(Self::Stream {
                beginning: Bytes::new(),
                body,
                is_late: false,
            }),
        }
    }

    /// Reads the beginning of a stream whose fields can be found there. A body that ends in it is held from then on.
    ///
    /// `reserve` reserves memory for so many bytes, until what it returns is dropped.
    pub(crate) async fn peek<M, E: From<BodyError>>(
        self,
        headers: &HeaderMap,
        limit: u64,
        patience: Duration,
        reserve: impl Fn(usize) -> Result<M, E>,
    ) -> Result<Self, E> {
        let (mut body, at_most) = match (self, Format::of(headers)) {
            (Self::Stream { body, .. }, Some(format))
                if is_worth_reading(headers, &body, format) =>
            {
                (body, examined_bytes(format))
            }
            (other, _) => return Ok(other),
        };
        let deadline = Instant::now() + patience;
        let (mut memory, mut reserved) = (Vec::new(), 0);
        let mut beginning = BytesMut::new();
        let is_late = loop {
            let length = beginning.len();
            if length as u64 > limit {
                return Err(BodyError::TooLarge { limit }.into());
            }
            if length as u64 > at_most {
                break false;
            }
            // No frame is longer than the buffer that it arrives in.
            if length + BUFFER_BYTES > reserved {
                memory.push(reserve(BUFFER_BYTES)?);
                reserved += BUFFER_BYTES;
            }
            match timeout_at(deadline, body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    // Trailers are no part of the content.
                    if let Ok(data) = frame.into_data() {
                        beginning.extend_from_slice(&data);
                    }
                }
                Ok(Some(Err(_))) => return Err(BodyError::Broke.into()),
                Ok(None) => return Ok(Self::Held(beginning.freeze())),
                Err(_) => break true,
            }
        };
        Ok(Self::Stream {
            beginning: beginning.freeze(),
            body,
            is_late,
        })
    }

    /// The knowledge about the body before it is sent.
    pub(crate) fn examine<'p>(&'p self, parts: &'p Parts) -> Examined<'p> {
        let (fields, unexamined) = self.fields(&parts.headers);
        Examined {
            fields,
            unexamined,
            held_bytes: self.held_bytes(parts.version),
        }
    }

    /// How many bytes of it are in memory while its call waits.
    pub(crate) fn held_bytes(&self, version: Version) -> usize {
        match self {
            Self::Held(body) => body.len(),
            // The flow control window lets this much arrive before it is read.
            Self::Stream { beginning, .. } if version == Version::HTTP_2 => {
                beginning.len() + BUFFER_BYTES
            }
            Self::Stream { beginning, .. } => beginning.len(),
        }
    }

    /// The body as it is sent. A stream fails after `limit` bytes.
    pub(crate) fn into_outgoing(self, limit: u64) -> Outgoing {
        match self {
            Self::Held(bytes) => Outgoing::Held(bytes),
            Self::Stream {
                beginning, body, ..
            } => Outgoing::stream(with_beginning(beginning, body), limit),
        }
    }

    /// The fields of the body, and why not all of it was examined, if that is so.
    fn fields<'p>(&'p self, headers: &'p HeaderMap) -> (BodyFields<'p>, Option<Unexamined>) {
        let Some(format) = Format::of(headers) else {
            return (BodyFields::None, None);
        };
        let unexamined = |reason| (BodyFields::None, Some(reason));
        match (self, ContentCoding::of(headers)) {
            (Self::Held(body), ContentCoding::Identity) => {
                (BodyFields::of(headers, Cow::Borrowed(body)), None)
            }
            (Self::Held(body), ContentCoding::Gzip) => match gunzip(body, PEEKED_BYTES as usize) {
                Ok(text) => (BodyFields::of(headers, Cow::Owned(text)), None),
                Err(reason) => unexamined(reason.into()),
            },
            (_, ContentCoding::Other) => unexamined(Unexamined::Coding),
            (Self::Stream { is_late: true, .. }, _) => unexamined(Unexamined::Late),
            (Self::Stream { beginning, .. }, ContentCoding::Identity) => (
                BodyFields::of_beginning(headers, beginning),
                Some(Unexamined::TooLarge {
                    limit: examined_bytes(format),
                }),
            ),
            (Self::Stream { .. }, ContentCoding::Gzip) => unexamined(Unexamined::TooLarge {
                limit: examined_bytes(format),
            }),
        }
    }
}

/// The knowledge about a body before it is sent.
#[derive(Debug, Default)]
pub(crate) struct Examined<'p> {
    pub(crate) fields: BodyFields<'p>,
    pub(crate) unexamined: Option<Unexamined>,
    pub(crate) held_bytes: usize,
}

/// Why a body whose fields can be read was not examined, or not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unexamined {
    #[error("it is longer than {} KiB", limit / 1024)]
    TooLarge { limit: u64 },
    #[error("it is longer than {} KiB when it is decompressed", PEEKED_BYTES / 1024)]
    Expands,
    #[error("it is not the gzip that its Content-Encoding says")]
    Malformed,
    #[error("it is compressed with something else than gzip")]
    Coding,
    #[error("it did not arrive in time")]
    Late,
}

impl From<NotDecompressed> for Unexamined {
    fn from(reason: NotDecompressed) -> Self {
        match reason {
            NotDecompressed::TooLarge => Self::Expands,
            NotDecompressed::Malformed => Self::Malformed,
        }
    }
}

/// The size up to which a body of this format is examined.
fn examined_bytes(format: Format) -> u64 {
    match format {
        Format::Json => PEEKED_BYTES,
        Format::Form | Format::Multipart => HELD_BYTES,
    }
}

/// Whether fields may be found in the beginning of a stream, or the whole body may turn out to be short.
fn is_worth_reading(headers: &HeaderMap, body: &Body, format: Format) -> bool {
    let is_long = body.size_hint().exact().is_some();
    match (ContentCoding::of(headers), format) {
        (ContentCoding::Identity, Format::Form | Format::Multipart) => true,
        (ContentCoding::Identity, Format::Json) | (ContentCoding::Gzip, _) => !is_long,
        (ContentCoding::Other, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use http::HeaderValue;
    use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

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

    const MULTIPART: &str = "multipart/form-data; boundary=b";
    const FIELD: &str =
        "--b\r\nContent-Disposition: form-data; name=\"locationId\"\r\n\r\nLOC1\r\n--b\r\n";

    /// The payload after a peek, and the number of bytes for which memory was reserved.
    async fn peek(
        content_type: &'static str,
        coding: Option<&'static str>,
        body: Body,
    ) -> (Result<Payload, BodyError>, HeaderMap, usize) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(coding) = coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        let payload = Payload::take(&headers, body, 1_000_000, TIMEOUT).await;
        let reserved = std::cell::Cell::new(0);
        let reserve = |bytes| {
            reserved.set(reserved.get() + bytes);
            Ok::<_, BodyError>(())
        };
        let peeked = payload.unwrap().peek(&headers, 1_000_000, TIMEOUT, reserve);
        (peeked.await, headers, reserved.get())
    }

    fn in_pieces(whole: &[u8]) -> Body {
        let pieces: Vec<_> = whole.chunks(16 * 1024).map(<[u8]>::to_vec).collect();
        Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, axum::Error>)))
    }

    async fn sent(payload: Payload) -> Vec<u8> {
        let sent = payload.into_outgoing(1_000_000).collect().await.unwrap();
        sent.to_bytes().to_vec()
    }

    #[tokio::test]
    async fn short_json_of_unknown_length_is_held() {
        for length in [18, 100_000, PEEKED_BYTES as usize] {
            let json = r#"{"locationId":"L"}"#.to_owned() + &" ".repeat(length - 18);
            let json = json.as_bytes();
            let (payload, headers, reserved) =
                peek("application/json", None, in_pieces(json)).await;
            let payload = payload.unwrap();
            assert!(matches!(payload, Payload::Held(_)), "{length}");
            let (fields, unexamined) = payload.fields(&headers);
            assert_eq!(
                (fields.texts(["locationId"]), unexamined),
                ([Some("L".into())], None)
            );
            assert!(
                reserved >= length && reserved < length + 3 * BUFFER_BYTES,
                "{reserved}"
            );
            assert_eq!(sent(payload).await, json);
        }
    }

    #[tokio::test]
    async fn only_the_beginning_of_a_long_body_is_read() {
        let long = [FIELD.as_bytes(), &[b'x'; 900_000]].concat();
        let limit = |format| {
            Some(Unexamined::TooLarge {
                limit: examined_bytes(format),
            })
        };
        for (content_type, format, expected) in [
            (MULTIPART, Format::Multipart, Some("LOC1".to_owned())),
            ("application/json", Format::Json, None),
        ] {
            for body in [in_pieces(&long), Body::from(long.clone())] {
                let (payload, headers, reserved) = peek(content_type, None, body).await;
                let payload = payload.unwrap();
                assert!(
                    reserved <= PEEKED_BYTES as usize + BUFFER_BYTES,
                    "{reserved}"
                );
                let (fields, unexamined) = payload.fields(&headers);
                let [found] = fields.texts(["locationId"]);
                assert_eq!(found, expected);
                assert_eq!(unexamined, limit(format));
                assert_eq!(sent(payload).await, long);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_body_is_not_waited_for_without_end() {
        let first = stream::iter([Ok::<_, axum::Error>("{")]);
        let stalled = Body::from_stream(first.chain(stream::pending()));
        let (payload, headers, _) = peek("application/json", None, stalled).await;
        let (_, unexamined) = payload.unwrap().fields(&headers);
        assert_eq!(unexamined, Some(Unexamined::Late));
    }

    #[tokio::test]
    async fn broken_body_and_exhausted_memory_are_errors() {
        let broken = stream::iter([Ok("{"), Err(axum::Error::new(BodyError::Broke))]);
        let (payload, ..) = peek("application/json", None, Body::from_stream(broken)).await;
        assert_eq!(payload.unwrap_err(), BodyError::Broke);
        let payload = take("application/json", chunks(&["{}"])).await.unwrap();
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, "application/json".parse().unwrap())]);
        let full = |_| Err::<(), _>(BodyError::TooLarge { limit: 0 });
        let refused = payload.peek(&headers, 10, TIMEOUT, full).await;
        assert_eq!(refused.unwrap_err(), BodyError::TooLarge { limit: 0 });
    }

    #[tokio::test]
    async fn other_codings_are_not_read() {
        let (payload, headers, reserved) =
            peek("application/json", Some("br"), chunks(&["{}"])).await;
        let payload = payload.unwrap();
        assert!(matches!(payload, Payload::Stream { .. }) && reserved == 0);
        assert_eq!(payload.fields(&headers).1, Some(Unexamined::Coding));
        let (payload, headers, _) = peek("application/json", Some("gzip"), chunks(&["{}"])).await;
        let (_, unexamined) = payload.unwrap().fields(&headers);
        assert_eq!(unexamined, Some(Unexamined::Malformed));
    }
}
