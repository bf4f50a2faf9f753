//! A 401 from GHL that a fresh token cures never reaches the caller.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use ghl::api::Unauthorized;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderValue, StatusCode};
use store::Status;
use tokio::time::timeout;

use crate::Core;
use crate::error::Error;
use crate::forward::{Call, Spare};
use crate::limits::{Answered, Rank};

/// GHL's error bodies have a few hundred bytes; what is longer is none.
const READ_BYTES: usize = 64 * 1024;

impl Core {
    /// What to answer instead of this 401: the answer to `spare`, the same request with a fresh token,
    /// where a fresh token can help; otherwise the 401 as it came.
    ///
    /// `spare` is missing where the body is gone.
    pub(crate) async fn cure(
        &self,
        spare: Option<Spare<'_>>,
        refused: Answered,
    ) -> Result<Answered, Error> {
        let is_curable = refused.token.status != Status::Static;
        if !is_curable || self.refresher.is_uncured(&refused.token) {
            return Ok(refused);
        }
        let refused = match spare.filter(|_| is_encoded(&refused.response)) {
            Some(again) => self.in_plain_words(refused, again).await?,
            None => refused,
        };
        if refused.response.status() != StatusCode::UNAUTHORIZED {
            return Ok(refused);
        }
        let Answered {
            response,
            token,
            place,
        } = refused;
        let (response, meaning) = understand(response, self.config.response_timeout).await;
        match meaning {
            Unauthorized::NotCuredByRefresh => {
                return Ok(Answered {
                    response,
                    token,
                    place,
                });
            }
            Unauthorized::Expired => drop(place),
        }
        let held = spare.map_or(0, |spare| spare.call.claim.held);
        let fresh = self.newer_than(&token, held).await?;
        let Some(again) = spare else {
            self.refresher.note_uncured(&fresh);
            return Err(Error::SendAgain);
        };
        let answered = self.send(&fresh, again, Rank::New).await?;
        if answered.response.status() == StatusCode::UNAUTHORIZED {
            self.refresher.note_uncured(&answered.token);
        }
        Ok(answered)
    }

    /// The same request once more, so that it is refused in words that can be read: a compressed
    /// 401 tells nothing. It was refused, so it had no effect.
    async fn in_plain_words(&self, refused: Answered, again: Spare<'_>) -> Result<Answered, Error> {
        let mut call = Call::clone(again.call);
        let identity = HeaderValue::from_static("identity");
        call.headers.insert(ACCEPT_ENCODING, identity);
        let plain = Spare {
            call: &call,
            ..again
        };
        drop(refused.place);
        self.send(&refused.token, plain, Rank::New).await
    }
}

fn is_encoded(response: &Response) -> bool {
    let encoding = response.headers().get(CONTENT_ENCODING);
    encoding.is_some_and(|encoding| encoding != "identity")
}

/// What a 401 means, and the same 401 with nothing missing.
async fn understand(refused: Response, patience: Duration) -> (Response, Unauthorized) {
    let (parts, body) = refused.into_parts();
    let (start, rest) = match timeout(patience, peel(body)).await {
        Ok(peeled) => peeled,
        Err(_) => (Bytes::new(), None),
    };
    let meaning = match &rest {
        None => Unauthorized::classify(&start),
        Some(_) => Unauthorized::NotCuredByRefresh,
    };
    let body = match rest {
        None => Body::from(start),
        Some(rest) => {
            let start = stream::once(std::future::ready(Ok(start)));
            Body::from_stream(start.chain(rest.into_data_stream()))
        }
    };
    (Response::from_parts(parts, body), meaning)
}

/// The body's start, and its rest where there is more than is read.
async fn peel(body: Body) -> (Bytes, Option<Body>) {
    let mut start = BytesMut::new();
    let mut rest = body.into_data_stream();
    while let Some(Ok(data)) = rest.next().await {
        start.extend_from_slice(&data);
        if start.len() > READ_BYTES {
            return (start.freeze(), Some(Body::from_stream(rest)));
        }
    }
    (start.freeze(), None)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn through(body: Body) -> (Bytes, Unauthorized) {
        let (response, meaning) = understand(Response::new(body), Duration::from_secs(1)).await;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (body, meaning)
    }

    #[tokio::test]
    async fn a_401_is_understood_and_stays_whole() {
        let stale = r#"{"statusCode":401,"message":"Invalid JWT"}"#;
        let scope = r#"{"message":"The token is not authorized for this scope."}"#;
        for (text, expected) in [
            (stale, Unauthorized::Expired),
            (scope, Unauthorized::NotCuredByRefresh),
        ] {
            let (body, meaning) = through(Body::from(text)).await;
            assert_eq!((&body[..], meaning), (text.as_bytes(), expected));
        }
    }

    #[tokio::test]
    async fn a_body_too_long_to_be_ghls_passes() {
        let chunk = Bytes::from(vec![b'x'; 40_000]);
        let chunks = (0..5).map(|_| Ok::<_, axum::Error>(chunk.clone()));
        let long: Vec<_> = chunks.collect();
        let (body, meaning) = through(Body::from_stream(stream::iter(long))).await;
        assert_eq!(body.len(), 200_000);
        assert_eq!(meaning, Unauthorized::NotCuredByRefresh);
    }
}
