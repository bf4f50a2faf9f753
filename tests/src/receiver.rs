//! A receiver of events and forwarded webhooks: an HTTP server that records each request with its headers.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use serde_json::Value;
use store::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::port;
use crate::wait::{holds, until};

/// The secret of every receiver: 32 bytes, as an operator makes them.
pub const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The reaction of a receiver to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It answers 204.
    Take,
    /// It answers with this status.
    Refuse(u16),
    /// It never answers.
    Hang,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// By this machine's clock.
    pub arrived_at: Timestamp,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether it was answered with 204.
    pub was_taken: bool,
}

/// A server on a free loopback port.
#[derive(Debug)]
pub struct Receiver {
    port: u16,
    shared: Arc<Mutex<Shared>>,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    mood: Mood,
    /// Locations whose names begin so get this status.
    refused: Option<(String, u16)>,
    received: Vec<Received>,
}

impl Received {
    /// The value of a header.
    ///
    /// # Panics
    /// If it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        let value = value.unwrap_or_else(|| panic!("no {name}: {:?}", self.headers));
        value.to_str().expect("text")
    }

    /// The id of the message.
    #[must_use]
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The type of the event.
    ///
    /// # Panics
    /// If the body is no event.
    #[must_use]
    pub fn kind(&self) -> String {
        self.json()["type"].as_str().expect("a type").to_owned()
    }

    /// The location of the event's installation; empty if it has none.
    #[must_use]
    pub fn location(&self) -> String {
        let event = self.json();
        let location = event["installation"]["locationId"].as_str();
        location.unwrap_or_default().to_owned()
    }

    /// Checks the signature as Standard Webhooks says, with [`SECRET`].
    ///
    /// # Panics
    /// If it is wrong, or was made more than 5 minutes before or after the arrival.
    pub fn verify(&self) {
        let key = SECRET.strip_prefix("whsec_").expect("the prefix");
        let key = BASE64_STANDARD.decode(key).expect("base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let at = self.header("webhook-timestamp");
        let head = format!("{}.{at}.", self.id());
        let tag = hmac::sign(&key, &[head.as_bytes(), &self.body[..]].concat());
        let expected = format!("v1,{}", BASE64_STANDARD.encode(tag));
        let signatures = self.header("webhook-signature");
        let is_signed = signatures.split(' ').any(|one| one == expected);
        assert!(is_signed, "{signatures} instead of {expected}");
        let at: u64 = at.parse().expect("seconds");
        let arrived_at = self.arrived_at.as_millis() / 1000;
        let arrived_at = u64::try_from(arrived_at).expect("after 1970");
        assert!(arrived_at.abs_diff(at) < 300, "{at} is not {arrived_at}");
    }
}

impl Receiver {
    /// Starts one that takes everything.
    pub async fn start() -> Self {
        let mut receiver = Self::down();
        receiver.come_back().await;
        receiver
    }

    /// One that does not listen yet.
    #[must_use]
    pub fn down() -> Self {
        Self {
            port: port::free(),
            shared: Arc::new(Mutex::new(Shared {
                mood: Mood::Take,
                refused: None,
                received: Vec::new(),
            })),
            server: None,
        }
    }

    /// Listens again on the same port.
    ///
    /// # Panics
    /// If it cannot.
    pub async fn come_back(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await;
        let listener = listener.expect("its port");
        let router = Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&self.shared));
        let served = async move {
            // It ends only with its task.
            let _ = axum::serve(listener, router).await;
        };
        self.server = Some(tokio::spawn(served));
    }

    /// Stops listening. Each answer has closed its connection.
    pub async fn go_down(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
    }

    /// Does this with requests from now on.
    pub fn be(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// Answers events of locations whose names begin so with this status from now on.
    pub fn refuse_locations(&self, prefix: &str, status: u16) {
        self.lock().refused = Some((prefix.to_owned(), status));
    }

    /// Its URL, with a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hooks", self.port)
    }

    /// The settings by which a process sends all events here.
    #[must_use]
    pub fn settings(&self) -> [(&'static str, String); 3] {
        [
            ("EVERGREEN_EVENTS_URL", self.url()),
            ("EVERGREEN_EVENTS_SECRET", SECRET.to_owned()),
            ("EVERGREEN_EVENTS_ALLOW_PRIVATE", "true".to_owned()),
        ]
    }

    /// A section of the settings file that names it, with further fields.
    #[must_use]
    pub fn section(&self, list: &str, name: &str, fields: &str) -> String {
        let url = self.url();
        format!("[[{list}]]\nname = \"{name}\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n{fields}\n")
    }

    /// All requests so far, in the order in which they arrived.
    #[must_use]
    pub fn all(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    /// The requests that it has taken, in order.
    #[must_use]
    pub fn taken(&self) -> Vec<Received> {
        let taken = self.all().into_iter();
        taken.filter(|received| received.was_taken).collect()
    }

    /// Waits until requests hold that it has taken. Returns those that `find` picks.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        find: impl Fn(&[Received]) -> Option<T>,
    ) -> T {
        until(what, patience, || async {
            let taken = self.taken();
            find(&taken).ok_or_else(|| {
                let seen: Vec<_> = taken.iter().map(|it| it.body.clone()).collect();
                format!("{} messages: {seen:?}", seen.len())
            })
        })
        .await
    }

    /// Waits for an event of a type, about a location. Returns its JSON.
    pub async fn event(&self, kind: &str, location: &str, patience: Duration) -> Value {
        let what = format!("{kind} of {location}");
        let found = self.wait_for(&what, patience, |taken| {
            let mut taken = taken.iter();
            taken
                .find(|it| it.kind() == kind && it.location() == location)
                .cloned()
        });
        let found = found.await;
        found.verify();
        found.json()
    }

    /// Waits for this many requests that it has taken.
    pub async fn wait_for_count(&self, count: usize, patience: Duration) {
        until(&format!("{count} messages"), patience, || async {
            let taken = self.taken().len();
            holds(taken >= count, taken)
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("not poisoned")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

fn is_of_location(body: &[u8], prefix: &str) -> bool {
    let event: Value = serde_json::from_slice(body).unwrap_or_default();
    let location = event["installation"]["locationId"].as_str();
    location.is_some_and(|location| location.starts_with(prefix))
}

async fn receive(
    State(shared): State<Arc<Mutex<Shared>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mood = {
        let mut shared = shared.lock().expect("not poisoned");
        let refused = shared.refused.as_ref();
        let refused = refused.filter(|(prefix, _)| is_of_location(&body, prefix));
        let mood = refused.map_or(shared.mood, |(_, status)| Mood::Refuse(*status));
        shared.received.push(Received {
            arrived_at: Timestamp::of_this_machine(),
            path: uri.path().to_owned(),
            headers,
            body,
            was_taken: mood == Mood::Take,
        });
        mood
    };
    let status = match mood {
        Mood::Take => StatusCode::NO_CONTENT,
        Mood::Refuse(status) => StatusCode::from_u16(status).expect("a status"),
        Mood::Hang => std::future::pending().await,
    };
    (status, [("connection", "close")]).into_response()
}
