//! 401 responses of GHL: what they mean for the token, and which of them persist with a fresh token.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::Method;
use http::header::CONTENT_ENCODING;
use service::locks::{read, write};
use store::{Generation, InstallationId};
use tokio::time::{Instant, timeout};

use crate::request::json;
use crate::retry::Unauthorized;
use crate::token::sources::Token;

/// GHL's error bodies have a few hundred bytes. A longer body is not an error of GHL.
const READ_BYTES: usize = 64 * 1024;

/// How long reading the body of an error may take before its call waits.
const HOLDING: Duration = Duration::from_secs(1);

/// How long a persistent 401 is remembered. During this time it causes no refresh.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

/// How long a persistent 401 counts for all routes of its installation. If GHL refuses every token, each
/// installation causes one refresh in this time, for any number of routes.
const RECENT: Duration = Duration::from_secs(10);

/// The most routes and installations that are remembered. They take some megabytes.
const CAPACITY: usize = 100_000;

/// The most messages that are remembered for each.
const MESSAGES: usize = 4;

/// The meaning of a 401, and its message. The response keeps its whole body.
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
            ghl::api::Unauthorized::Expired => Unauthorized::Refreshable,
            ghl::api::Unauthorized::NotFixedByRefresh => Unauthorized::Final,
        },
        Some(_) => Unauthorized::Final,
    };
    let message = message(&start);
    let answer = Response::from_parts(parts, whole(start, rest));
    (answer, meaning, Some(message))
}

/// The same response with its body in memory, up to a bound. This frees the connection while the call waits.
pub(super) async fn hold(answer: Response) -> Response {
    let (parts, body) = answer.into_parts();
    let (start, rest) = match timeout(HOLDING, read_start(body)).await {
        Ok(read) => read,
        Err(_) => (Bytes::new(), None),
    };
    Response::from_parts(parts, whole(start, rest))
}

fn whole(start: Bytes, rest: Option<Body>) -> Body {
    match rest {
        None => Body::from(start),
        Some(rest) => {
            let start = stream::once(std::future::ready(Ok(start)));
            Body::from_stream(start.chain(rest.into_data_stream()))
        }
    }
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

/// Only GHL's message, since the rest of an error may differ each time.
fn message(body: &[u8]) -> Box<str> {
    let member = json::members(body, ["message"]).ok();
    let text = member.and_then(|[message]| json::text(message));
    text.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
        .into()
}

/// The 401s that persisted with a fresh token, by installation and route.
///
/// Without this, each call that GHL always refuses would spend a refresh token.
#[derive(Debug, Default)]
pub(crate) struct Persistent401s {
    hasher: RandomState,
    entries: RwLock<Generations>,
    /// Nearly always false. Then no lock is taken.
    is_used: AtomicBool,
}

/// Keyed by the hash of an installation, or of one of its routes. When there are many new entries, the old ones are
/// dropped. So a storm of 401s costs a bounded amount of memory, and evicting needs no search.
#[derive(Debug, Default)]
struct Generations {
    new: HashMap<u64, Vec<Entry>>,
    old: HashMap<u64, Vec<Entry>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    message: u64,
    since: Instant,
    /// The generation of the fresh token. GHL may refuse an older token for its age.
    generation: Generation,
}

impl Persistent401s {
    /// Notes that this fresh token did not help.
    pub(super) fn note(&self, token: &Token, method: &Method, path: &str, message: &str) {
        let entry = Entry {
            message: self.hasher.hash_one(message),
            since: Instant::now(),
            generation: token.generation,
        };
        let route = self.route(&token.id, method, path);
        let mut generations = write(&self.entries);
        for key in [route, self.installation(&token.id)] {
            generations.add(key, entry);
        }
        self.is_used.store(true, Ordering::Relaxed);
    }

    /// Whether a token that is not newer than this one recently got a 401: with the same message on this route, or
    /// within the last seconds on any route.
    pub(super) fn has(&self, token: &Token, method: &Method, path: &str, message: &str) -> bool {
        if !self.is_used.load(Ordering::Relaxed) {
            return false;
        }
        let message = self.hasher.hash_one(message);
        let route = self.route(&token.id, method, path);
        let entries = read(&self.entries);
        let of_route = entries.get(route).iter();
        let mut of_route = of_route.filter(|known| known.message == message);
        let of_installation = entries.get(self.installation(&token.id));
        of_route.any(|known| known.is_remembered() && known.is_about(token))
            || of_installation
                .iter()
                .any(|known| known.is_recent() && known.is_about(token))
    }

    /// The route got another response. The next 401 may be caused by an expired token.
    pub(super) fn forget(&self, id: &InstallationId, method: &Method, path: &str) {
        if !self.is_used.load(Ordering::Relaxed) {
            return;
        }
        let route = self.route(id, method, path);
        let is_known = !read(&self.entries).get(route).is_empty();
        if is_known {
            write(&self.entries).take(route);
        }
    }

    fn installation(&self, id: &InstallationId) -> u64 {
        self.hasher.hash_one(id.as_str())
    }

    fn route(&self, id: &InstallationId, method: &Method, path: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        (id.as_str(), method).hash(&mut hasher);
        for segment in path.split('/') {
            pattern(segment).hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Entry {
    fn is_remembered(&self) -> bool {
        self.since.elapsed() < REMEMBERED
    }

    fn is_recent(&self) -> bool {
        self.since.elapsed() < RECENT
    }

    fn is_about(&self, token: &Token) -> bool {
        token.generation >= self.generation
    }
}

impl Generations {
    fn get(&self, key: u64) -> &[Entry] {
        let entries = self.new.get(&key).or_else(|| self.old.get(&key));
        entries.map_or(&[], Vec::as_slice)
    }

    fn take(&mut self, key: u64) -> Vec<Entry> {
        let old = self.old.remove(&key);
        self.new.remove(&key).or(old).unwrap_or_default()
    }

    fn add(&mut self, key: u64, entry: Entry) {
        let mut known = self.take(key);
        known.retain(|known| known.message != entry.message && known.is_remembered());
        known.truncate(MESSAGES - 1);
        known.push(entry);
        if self.new.len() >= CAPACITY / 2 {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key, known);
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
    async fn body_of_a_401_is_classified_and_kept() {
        let stale = r#"{"statusCode":401,"message":"Invalid JWT"}"#;
        let scope = r#"{"message":"The token is not authorized for this scope."}"#;
        for (text, expected) in [
            (stale, Unauthorized::Refreshable),
            (scope, Unauthorized::Final),
        ] {
            let (body, meaning) = through(Body::from(text)).await;
            assert_eq!((&body[..], meaning), (text.as_bytes(), expected));
        }
    }

    #[tokio::test]
    async fn oversized_401_is_final_and_passes_through() {
        let chunk = Bytes::from(vec![b'x'; 40_000]);
        let chunks = (0..5).map(|_| Ok::<_, axum::Error>(chunk.clone()));
        let long: Vec<_> = chunks.collect();
        let (body, meaning) = through(Body::from_stream(stream::iter(long))).await;
        assert_eq!(body.len(), 200_000);
        assert_eq!(meaning, Unauthorized::Final);
    }

    #[test]
    fn only_the_message_of_a_401_is_compared() {
        let first = br#"{"message":"Invalid JWT","traceId":"1"}"#;
        let second = br#"{"message":"Invalid JWT","traceId":"2"}"#;
        assert_eq!(message(first), message(second));
        assert_eq!(&*message(b"no JSON"), "no JSON");
    }

    #[tokio::test(start_paused = true)]
    async fn persistent_401_is_remembered_per_message_and_route() {
        let persistent_401s = Persistent401s::default();
        let refused = token();
        let get = &Method::GET;
        let (one, other) = (
            "/contacts/ocQHyuzHvysMo5N5VsXc",
            "/contacts/9NkT25Vor1v4aQatFsv2",
        );
        persistent_401s.note(&refused, get, one, "no");
        tokio::time::advance(RECENT).await;
        assert!(persistent_401s.has(&refused, get, other, "no"));
        assert!(!persistent_401s.has(&refused, get, other, "another message"));
        assert!(!persistent_401s.has(&refused, &Method::PUT, other, "no"));
        assert!(!persistent_401s.has(&refused, get, "/opportunities/search", "no"));
        let elsewhere = Token {
            id: InstallationId::random(),
            ..token()
        };
        assert!(!persistent_401s.has(&elsewhere, get, other, "no"));
        tokio::time::advance(REMEMBERED).await;
        assert!(!persistent_401s.has(&refused, get, one, "no"));
        persistent_401s.note(&refused, get, one, "no");
        tokio::time::advance(RECENT).await;
        persistent_401s.forget(&refused.id, get, other);
        assert!(!persistent_401s.has(&refused, get, one, "no"));
    }

    #[tokio::test(start_paused = true)]
    async fn recent_401_counts_for_every_route_of_the_installation() {
        let persistent_401s = Persistent401s::default();
        let refused = token();
        persistent_401s.note(&refused, &Method::GET, "/contacts/", "no");
        assert!(persistent_401s.has(&refused, &Method::GET, "/opportunities/", "other"));
        tokio::time::advance(RECENT).await;
        assert!(!persistent_401s.has(&refused, &Method::GET, "/opportunities/", "other"));
    }

    #[test]
    fn oldest_401s_are_evicted_at_capacity() {
        let persistent_401s = Persistent401s::default();
        let mut last = token();
        for _ in 0..CAPACITY {
            last.id = InstallationId::random();
            persistent_401s.note(&last, &Method::GET, "/contacts/", "no");
        }
        let entries = read(&persistent_401s.entries);
        assert!(entries.new.len() + entries.old.len() <= CAPACITY);
        drop(entries);
        assert!(persistent_401s.has(&last, &Method::GET, "/contacts/", "no"));
    }

    #[test]
    fn persistent_401_does_not_count_for_an_older_token() {
        let persistent_401s = Persistent401s::default();
        let old = token();
        let fresh = Token {
            generation: old.generation.next(),
            ..token()
        };
        persistent_401s.note(&fresh, &Method::GET, "/contacts/", "no");
        assert!(persistent_401s.has(&fresh, &Method::GET, "/contacts/", "no"));
        assert!(!persistent_401s.has(&old, &Method::GET, "/contacts/", "no"));
    }
}
