//! 401s of GHL: what they say about the token, and which of them no fresh token has cured.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::Method;
use http::header::CONTENT_ENCODING;
use service::locks::lock;
use store::{Generation, InstallationId};
use tokio::time::{Instant, timeout};

use crate::request::json;
use crate::retry::Unauthorized;
use crate::token::sources::Token;

/// GHL's error bodies have a few hundred bytes. A longer body is no error of GHL's.
const READ_BYTES: usize = 64 * 1024;

/// How long a 401 that a fresh token did not cure is remembered. Until then it costs no refresh.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

/// More are not remembered.
const CAPACITY: usize = 10_000;

/// What a 401 says, and its message. The answer itself keeps all of its bytes.
pub(super) async fn examine(
    answer: Response,
    patience: Duration,
) -> (Response, Unauthorized, Option<Box<str>>) {
    let encoding = answer.headers().get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return (answer, Unauthorized::Compressed, None);
    }
    let (parts, body) = answer.into_parts();
    let (start, rest) = match timeout(patience, read_start(body)).await {
        Ok(read) => read,
        Err(_) => (Bytes::new(), None),
    };
    let meaning = match &rest {
        None => match ghl::api::Unauthorized::classify(&start) {
            ghl::api::Unauthorized::Expired => Unauthorized::Curable,
            ghl::api::Unauthorized::NotCuredByRefresh => Unauthorized::Final,
        },
        Some(_) => Unauthorized::Final,
    };
    let message = message(&start);
    let body = match rest {
        None => Body::from(start),
        Some(rest) => {
            let start = stream::once(std::future::ready(Ok(start)));
            Body::from_stream(start.chain(rest.into_data_stream()))
        }
    };
    (Response::from_parts(parts, body), meaning, Some(message))
}

/// The body's start, and its rest if it is longer.
async fn read_start(body: Body) -> (Bytes, Option<Body>) {
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

/// GHL's message alone, since the rest of an error may differ each time.
fn message(body: &[u8]) -> Box<str> {
    let member = json::members(body, ["message"]).ok();
    let text = member.and_then(|[message]| json::text(message));
    text.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
        .into()
}

/// The 401s that no fresh token has cured, by installation, route and message.
///
/// Without this a call that GHL always refuses would spend a refresh token each time.
#[derive(Debug, Default)]
pub(crate) struct Uncured {
    hasher: RandomState,
    noted: Mutex<HashMap<Key, Noted>>,
    /// Nearly always false, and then nothing is locked.
    is_used: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Noted {
    since: Instant,
    /// Of the fresh token. An older one may be refused for its age.
    generation: Generation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    route: u64,
    message: u64,
}

impl Uncured {
    /// Notes that this fresh token did not help.
    pub(super) fn note(&self, token: &Token, method: &Method, path: &str, message: &str) {
        let key = self.key(&token.id, method, path, message);
        let mut noted = lock(&self.noted);
        noted.retain(|_, noted| noted.since.elapsed() < REMEMBERED);
        if noted.len() < CAPACITY {
            let (since, generation) = (Instant::now(), token.generation);
            noted.insert(key, Noted { since, generation });
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a token that is not newer than this one did not help lately.
    pub(super) fn has(&self, token: &Token, method: &Method, path: &str, message: &str) -> bool {
        if !self.is_used.load(Ordering::Relaxed) {
            return false;
        }
        let key = self.key(&token.id, method, path, message);
        lock(&self.noted).get(&key).is_some_and(|noted| {
            noted.since.elapsed() < REMEMBERED && token.generation >= noted.generation
        })
    }

    /// The route was answered otherwise. The next 401 may be one that a fresh token cures.
    pub(super) fn forget(&self, id: &InstallationId, method: &Method, path: &str) {
        if !self.is_used.load(Ordering::Relaxed) {
            return;
        }
        let route = self.route(id, method, path);
        let mut noted = lock(&self.noted);
        noted.retain(|key, _| key.route != route);
        self.is_used.store(!noted.is_empty(), Ordering::Relaxed);
    }

    fn key(&self, id: &InstallationId, method: &Method, path: &str, message: &str) -> Key {
        Key {
            route: self.route(id, method, path),
            message: self.hasher.hash_one(message),
        }
    }

    fn route(&self, id: &InstallationId, method: &Method, path: &str) -> u64 {
        let segments: Vec<&str> = path.split('/').map(pattern).collect();
        self.hasher.hash_one((id.as_str(), method, segments))
    }
}

/// A segment of a path as it is in the pattern of its route: GHL's ids have digits or capitals, its words do not.
fn pattern(segment: &str) -> &str {
    let is_id = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
    if segment.bytes().any(is_id) {
        "*"
    } else {
        segment
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::token::sources::tests::token;

    async fn through(body: Body) -> (Bytes, Unauthorized) {
        let (response, meaning, _) = examine(Response::new(body), Duration::from_secs(1)).await;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (body, meaning)
    }

    #[tokio::test]
    async fn a_401_is_understood_and_stays_whole() {
        let stale = r#"{"statusCode":401,"message":"Invalid JWT"}"#;
        let scope = r#"{"message":"The token is not authorized for this scope."}"#;
        for (text, expected) in [(stale, Unauthorized::Curable), (scope, Unauthorized::Final)] {
            let (body, meaning) = through(Body::from(text)).await;
            assert_eq!((&body[..], meaning), (text.as_bytes(), expected));
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_for_ghl_passes() {
        let chunk = Bytes::from(vec![b'x'; 40_000]);
        let chunks = (0..5).map(|_| Ok::<_, axum::Error>(chunk.clone()));
        let long: Vec<_> = chunks.collect();
        let (body, meaning) = through(Body::from_stream(stream::iter(long))).await;
        assert_eq!(body.len(), 200_000);
        assert_eq!(meaning, Unauthorized::Final);
    }

    #[test]
    fn the_message_is_what_is_compared() {
        let first = br#"{"message":"Invalid JWT","traceId":"1"}"#;
        let second = br#"{"message":"Invalid JWT","traceId":"2"}"#;
        assert_eq!(message(first), message(second));
        assert_eq!(&*message(b"no JSON"), "no JSON");
    }

    #[tokio::test(start_paused = true)]
    async fn an_uncured_401_is_remembered_for_its_message_and_route() {
        let uncured = Uncured::default();
        let refused = token();
        let get = &Method::GET;
        uncured.note(&refused, get, "/contacts/ocQHyuzHvysMo5N5VsXc", "no");
        let (other_contact, contact) = ("/contacts/9NkT25Vor1v4aQatFsv2", "/contacts/a1");
        assert!(uncured.has(&refused, get, other_contact, "no"));
        assert!(!uncured.has(&refused, get, other_contact, "other"));
        assert!(!uncured.has(&refused, &Method::PUT, other_contact, "no"));
        assert!(!uncured.has(&refused, get, "/opportunities/search", "no"));
        let elsewhere = Token {
            id: InstallationId::random(),
            ..token()
        };
        assert!(!uncured.has(&elsewhere, get, contact, "no"));
        tokio::time::advance(REMEMBERED).await;
        assert!(!uncured.has(&refused, get, contact, "no"));
        uncured.note(&refused, get, contact, "no");
        uncured.forget(&refused.id, get, "/contacts/a2");
        assert!(!uncured.has(&refused, get, contact, "no"));
    }

    #[test]
    fn a_401_of_an_older_token_is_not_known() {
        let uncured = Uncured::default();
        let old = token();
        let fresh = Token {
            generation: old.generation.next(),
            ..token()
        };
        uncured.note(&fresh, &Method::GET, "/contacts/", "no");
        assert!(uncured.has(&fresh, &Method::GET, "/contacts/", "no"));
        assert!(!uncured.has(&old, &Method::GET, "/contacts/", "no"));
    }
}
