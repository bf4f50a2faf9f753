//! Which requests are sent to GHL once more after they failed, and when: those that cannot have an
//! effect twice, and only as many as do no harm to a GHL that is in trouble.
//!
//! A connection that cannot be made is made again by `connector`, for every request.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::response::Response;
use http::{HeaderName, StatusCode, header};
use tokio::time::{Instant, sleep};

use crate::Core;
use crate::body::Outgoing;
use crate::error::Error;
use crate::forward::{Call, Spare};
use crate::guard::is_alive;
use crate::headers;
use crate::token::Token;
use crate::upstream::{Failure, Kind};

/// With it the caller says that GHL does the same once, however often it is asked.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How often a request is sent again.
const REPEATS: u32 = 2;
/// Before the first repeat, on average; twice as long before the next.
const PAUSE: Duration = Duration::from_millis(100);
/// GHL may name a longer pause; nobody is kept waiting for that.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How many repeats there may be: one for ten requests, and some at once.
///
/// In tenths of a repeat.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU32);

impl Budget {
    const FULL: u32 = 1000;
    const ONE: u32 = 10;

    pub(crate) fn full() -> Self {
        Self(AtomicU32::new(Self::FULL))
    }

    /// A request went out.
    pub(crate) fn earn(&self) {
        // Almost always full, and then nothing is written that other cores would have to fetch.
        if self.0.load(Ordering::Relaxed) < Self::FULL {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn spend(&self) -> bool {
        let spent = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(Self::ONE)
            });
        spent.is_ok()
    }
}

/// Whether the answer, or the want of one, may be better the next time.
fn is_passing(outcome: &Result<Response, Error>) -> bool {
    match outcome {
        Ok(response) => matches!(
            response.status(),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        ),
        // One that was silent has had all the time there is.
        Err(Error::Upstream(Failure { kind, .. })) => *kind == Kind::Broken,
        Err(_) => false,
    }
}

/// Whether the request has the same effect however often it arrives.
fn is_repeatable(call: &Call) -> bool {
    call.method.is_idempotent() || headers::passes(&call.headers, &IDEMPOTENCY_KEY)
}

/// Between half of and one and a half times the usual pause, or what GHL asks for. `None`: too long.
fn pause(outcome: &Result<Response, Error>, repeats: u32) -> Option<Duration> {
    let random = f64::from(store::random::bytes::<1>()[0]) / 255.0;
    let usual = (PAUSE * 2_u32.pow(repeats)).mul_f64(0.5 + random);
    let asked = outcome.as_ref().ok().and_then(|response| {
        let value = response.headers().get(header::RETRY_AFTER)?;
        value.to_str().ok()?.parse().ok().map(Duration::from_secs)
    });
    let pause = asked.map_or(usual, |asked| asked.max(usual));
    (pause <= LONGEST_PAUSE).then_some(pause)
}

impl Core {
    /// Sends the call, and sends it again where that may help and cannot harm. `spare` is the same
    /// call, where its body is held.
    pub(crate) async fn send_repeatedly(
        &self,
        token: &Token,
        call: &Call,
        body: Outgoing,
        spare: Option<Spare<'_>>,
    ) -> Result<Response, Error> {
        self.repeats.earn();
        let outcome = self.ghl.send(call.with(token), body).await;
        match spare {
            Some(spare) if is_passing(&outcome) && is_repeatable(call) => {
                // Rare, so it shall not make the future of every request larger.
                Box::pin(self.send_again(token, spare, outcome)).await
            }
            Some(_) | None => outcome,
        }
    }

    async fn send_again(
        &self,
        token: &Token,
        spare: Spare<'_>,
        mut outcome: Result<Response, Error>,
    ) -> Result<Response, Error> {
        let patience = Instant::now() + self.config.response_timeout;
        let deadline = patience.min(spare.call.claim.deadline);
        for repeats in 0..REPEATS {
            if !is_passing(&outcome) {
                break;
            }
            let Some(pause) = pause(&outcome, repeats) else {
                break;
            };
            if Instant::now() + pause >= deadline || !self.repeats.spend() {
                break;
            }
            sleep(pause).await;
            if !is_alive(token, self.reader.now()) {
                break;
            }
            self.metrics.repeated.increment(1);
            outcome = self
                .ghl
                .send(spare.call.with(token), spare.body_again())
                .await;
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{HeaderMap, HeaderValue, Method, Uri};

    use super::*;
    use crate::limits::Claim;
    use crate::upstream::Peer;

    fn answered(status: u16) -> Result<Response, Error> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        Ok(response)
    }

    fn failed(kind: Kind) -> Result<Response, Error> {
        Err(Error::Upstream(Failure {
            peer: Peer::Ghl,
            kind,
            source: None,
        }))
    }

    fn call(method: Method, key: Option<&'static str>) -> Call {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static(key));
        }
        Call {
            method,
            uri: Uri::from_static("http://ghl/"),
            headers,
            claim: Claim {
                caller: None,
                deadline: Instant::now(),
                held: 0,
            },
        }
    }

    #[test]
    fn what_passes_is_tried_again_and_what_was_decided_is_not() {
        for status in [502, 503, 504] {
            assert!(is_passing(&answered(status)), "{status}");
        }
        for status in [200, 400, 401, 404, 408, 409, 429, 500, 501] {
            assert!(!is_passing(&answered(status)), "{status}");
        }
        assert!(is_passing(&failed(Kind::Broken)));
        for kind in [
            Kind::Unreachable,
            Kind::ConnectTimeout,
            Kind::Silent,
            Kind::Malformed,
        ] {
            assert!(!is_passing(&failed(kind)), "{kind}");
        }
    }

    #[test]
    fn nothing_is_done_twice_unless_its_caller_says_so() {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
            assert!(is_repeatable(&call(method, None)));
        }
        for method in [Method::POST, Method::PATCH] {
            assert!(!is_repeatable(&call(method.clone(), None)));
            let mut with_key = call(method, Some("7"));
            assert!(is_repeatable(&with_key));
            let unsent = HeaderValue::from_static("idempotency-key");
            with_key.headers.insert(header::CONNECTION, unsent);
            assert!(!is_repeatable(&with_key));
        }
    }

    #[test]
    fn repeats_are_spread_and_nobody_waits_for_long() {
        for repeats in 0..REPEATS {
            let usual = PAUSE * 2_u32.pow(repeats);
            let pause = pause(&answered(502), repeats).unwrap();
            assert!((usual / 2..=usual * 3 / 2).contains(&pause), "{pause:?}");
        }
        for (asked, expected) in [("1", Some(Duration::from_secs(1))), ("60", None)] {
            let mut outcome = answered(503);
            if let Ok(response) = &mut outcome {
                let asked = HeaderValue::from_static(asked);
                response.headers_mut().insert(header::RETRY_AFTER, asked);
            }
            assert_eq!(pause(&outcome, 0), expected);
        }
    }

    #[test]
    fn a_long_outage_is_not_made_worse_by_more_than_a_tenth() {
        let budget = Budget::full();
        let mut repeats = 0;
        for _ in 0..10_000 {
            budget.earn();
            repeats += u32::from(budget.spend());
        }
        assert!((1000..=1101).contains(&repeats), "{repeats}");
    }
}
