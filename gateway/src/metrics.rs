//! Metrics about callers' requests: `evergreen_gateway_…`.
//!
//! Label values come from enums only. The handles are looked up once. A lookup by name for every request would
//! cost more than all other work of the gateway.
//!
//! A call that GHL answers at once costs three increments of counters and two samples of histograms. It allocates nothing
//! for them, but a block for every few hundred samples. The attempt at GHL is timed with readings of the clock that were
//! there before, and one more. The number of calls in progress is read once a second from the permits, which are counted
//! anyway.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use service::metrics::Buckets;
use service::shutdown::Shutdown;
use tokio::time::sleep;

use crate::admission::concurrency::Concurrency;
use crate::admission::limited::Limited;
use crate::error::Error;
use crate::retry::{Attempt, Outcome};
use crate::token::cache::Counters;
use crate::upstream::{Peer, SendError};

const REQUESTS: &str = "evergreen_gateway_requests_total";
const DURATION: &str = "evergreen_gateway_request_duration_seconds";
const CACHE: &str = "evergreen_gateway_cache_total";
const COHERENT: &str = "evergreen_gateway_cache_coherent";
const QUEUED: &str = "evergreen_gateway_queued";
const QUEUE_DURATION: &str = "evergreen_gateway_queue_duration_seconds";
const LIMITED: &str = "evergreen_gateway_limited_total";
const REFUSED: &str = "evergreen_gateway_ghl_refused_total";

const REPEATED: &str = "evergreen_gateway_repeated_total";
const IN_FLIGHT: &str = "evergreen_gateway_in_flight";
const UPSTREAM_DURATION: &str = "evergreen_gateway_upstream_duration_seconds";
const UPSTREAM_RESPONSES: &str = "evergreen_gateway_upstream_responses_total";
const CURED_401: &str = "evergreen_gateway_cured_401_total";
const TOKEN_WAIT: &str = "evergreen_gateway_token_wait_duration_seconds";
const AUDIT_DROPPED: &str = "evergreen_gateway_audit_dropped_total";
const SHED: &str = "evergreen_gateway_shed_total";

/// From an answer of a near data centre to the longest timeouts.
const UPSTREAM_BUCKETS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// The histograms that need other buckets than the usual.
pub const BUCKETS: [Buckets; 2] = [
    (UPSTREAM_DURATION, &UPSTREAM_BUCKETS),
    (TOKEN_WAIT, &UPSTREAM_BUCKETS),
];

/// How often the calls in progress are counted.
const IN_FLIGHT_INTERVAL: Duration = Duration::from_secs(1);

/// Whose answer a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnsweredBy {
    /// A gateway's or a broker's.
    Evergreen,
    /// GHL's, or none because GHL did not answer.
    Ghl,
}

impl AnsweredBy {
    /// In the order of their declaration.
    const ALL: [Self; 2] = [Self::Evergreen, Self::Ghl];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Evergreen => "evergreen",
            Self::Ghl => "ghl",
        }
    }

    /// Of the outcome of a request to this route.
    pub(crate) fn of<T>(route: Route, outcome: &Result<T, Error>) -> Self {
        match outcome {
            Ok(_) => match route.leads_to_ghl() {
                true => Self::Ghl,
                false => Self::Evergreen,
            },
            Err(Error::Upstream(failure)) => match failure.peer {
                Peer::Ghl => Self::Ghl,
                Peer::Broker => Self::Evergreen,
            },
            Err(_) => Self::Evergreen,
        }
    }
}

const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The kinds of request that have separate metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Health,
    Ghl,
    TestConnection,
    Products,
    CreateProduct,
    CreateContact,
    TestProduct,
    UploadFile,
    Mcp,
    Broker,
    Preflight,
    Token,
    Unknown,
}

impl Route {
    /// In the order of their declaration.
    const ALL: [Self; 13] = [
        Self::Health,
        Self::Ghl,
        Self::TestConnection,
        Self::Products,
        Self::CreateProduct,
        Self::CreateContact,
        Self::TestProduct,
        Self::UploadFile,
        Self::Mcp,
        Self::Broker,
        Self::Preflight,
        Self::Token,
        Self::Unknown,
    ];

    pub(crate) fn leads_to_ghl(self) -> bool {
        match self {
            Self::Ghl
            | Self::TestConnection
            | Self::Products
            | Self::CreateProduct
            | Self::CreateContact
            | Self::TestProduct
            | Self::UploadFile
            | Self::Mcp => true,
            Self::Health | Self::Broker | Self::Preflight | Self::Token | Self::Unknown => false,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ghl => "ghl",
            Self::TestConnection => "test_connection",
            Self::Products => "products",
            Self::CreateProduct => "create_product",
            Self::CreateContact => "create_contact",
            Self::TestProduct => "test_product",
            Self::UploadFile => "upload_file",
            Self::Mcp => "mcp",
            Self::Broker => "broker",
            Self::Preflight => "preflight",
            Self::Token => "token",
            Self::Unknown => "unknown",
        }
    }
}

pub(crate) struct Metrics {
    routes: [PerRoute; Route::ALL.len()],
    pub(crate) coherent: Gauge,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) shed: Counter,
    pub(crate) token_wait: Histogram,
    limited: PerLimit,
}

struct PerRoute {
    requests: [[Counter; STATUS_CLASSES.len()]; AnsweredBy::ALL.len()],
    duration: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        describe();
        Self {
            routes: Route::ALL.map(PerRoute::new),
            coherent: gauge!(COHERENT),
            attempts: Arc::new(Attempts::new()),
            shed: counter!(SHED),
            token_wait: histogram!(TOKEN_WAIT),
            limited: PerLimit {
                interval: counter!(LIMITED, "limit" => "interval"),
                queue: counter!(LIMITED, "limit" => "queue"),
                day: counter!(LIMITED, "limit" => "day"),
                quota: counter!(LIMITED, "limit" => "quota"),
            },
        }
    }

    pub(crate) fn count(&self, route: Route, by: AnsweredBy, status: StatusCode, took: Duration) {
        let of_route = &self.routes[route as usize];
        of_route.requests[by as usize][class(status)].increment(1);
        of_route.duration.record(took.as_secs_f64());
    }

    pub(crate) fn count_limited(&self, limited: &Limited) {
        let counter = match limited {
            Limited::Interval { .. } => &self.limited.interval,
            Limited::Full { .. } => &self.limited.queue,
            Limited::Day { .. } => &self.limited.day,
            Limited::Quota { .. } => &self.limited.quota,
        };
        counter.increment(1);
    }
}

/// The attempts of calls at GHL.
pub(crate) struct Attempts {
    duration: Histogram,
    responses: [Counter; STATUS_CLASSES.len()],
    without_response: Counter,
    pub(crate) repeated: Counter,
    cured_401: Counter,
}

impl Attempts {
    fn new() -> Self {
        let responses = |class| counter!(UPSTREAM_RESPONSES, "status_class" => class);
        Self {
            duration: histogram!(UPSTREAM_DURATION),
            responses: STATUS_CLASSES.map(responses),
            without_response: responses("error"),
            repeated: counter!(REPEATED),
            cured_401: counter!(CURED_401),
        }
    }

    /// Counts an attempt, unless its caller broke it off.
    pub(crate) fn count(&self, took: Duration, answer: &Result<Response, SendError>) {
        let counter = match answer {
            Ok(response) => &self.responses[class(response.status())],
            Err(SendError::Peer(_)) => &self.without_response,
            Err(SendError::Body(_)) => return,
        };
        counter.increment(1);
        self.duration.record(took.as_secs_f64());
    }

    /// Counts a call whose 401 has become another answer with a fresh token. `last`: the outcome that is delivered.
    pub(crate) fn count_cure(&self, attempt: &Attempt, last: &Outcome) {
        if attempt.is_refreshed && matches!(last, Outcome::Answered { .. }) {
            self.cured_401.increment(1);
        }
    }
}

/// The number of the class in [`STATUS_CLASSES`].
fn class(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, STATUS_CLASSES.len()) - 1
}

/// Reports the calls in progress until shutdown.
pub(crate) async fn watch_in_flight(concurrency: Concurrency, shutdown: Shutdown) {
    let in_flight = gauge!(IN_FLIGHT);
    loop {
        let calls = u32::try_from(concurrency.in_use()).unwrap_or(u32::MAX);
        in_flight.set(f64::from(calls));
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(IN_FLIGHT_INTERVAL) => {}
        }
    }
}

/// 429 responses of the gateway itself.
struct PerLimit {
    interval: Counter,
    queue: Counter,
    day: Counter,
    quota: Counter,
}

impl PerRoute {
    fn new(route: Route) -> Self {
        let route = route.as_str();
        Self {
            requests: AnsweredBy::ALL.map(|by| {
                STATUS_CLASSES.map(|class| {
                    let by = by.as_str();
                    counter!(REQUESTS, "route" => route, "status_class" => class, "by" => by)
                })
            }),
            duration: histogram!(DURATION, "route" => route),
        }
    }
}

/// Events that the audit log does not get.
pub(crate) fn audit_dropped() -> Counter {
    let dropped = counter!(AUDIT_DROPPED);
    dropped.absolute(0);
    dropped
}

/// How lookups of tokens were answered.
pub(crate) fn token_lookups() -> Counters {
    Counters {
        hit: counter!(CACHE, "result" => "hit"),
        miss: counter!(CACHE, "result" => "miss"),
        stale: counter!(CACHE, "result" => "stale"),
    }
}

/// Calls that wait for their location's rate limit.
pub(crate) struct Queued {
    pub(crate) now: Gauge,
    pub(crate) waited: Histogram,
    /// GHL's 429 responses, including those that are retried.
    pub(crate) refused: Counter,
}

impl Queued {
    pub(crate) fn new() -> Self {
        Self {
            now: gauge!(QUEUED),
            waited: histogram!(QUEUE_DURATION),
            refused: counter!(REFUSED),
        }
    }
}

fn describe() {
    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Requests answered, by route and class of status"
    );
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "From the request's head to the response's head, by route"
    );
    describe_counter!(
        CACHE,
        Unit::Count,
        "Lookups of tokens: hit, from memory; miss, read from the store; \
         stale, from memory because the store did not answer"
    );
    describe_counter!(
        REPEATED,
        Unit::Count,
        "Retries after a 502, 503, 504 or a broken connection"
    );
    describe_gauge!(
        IN_FLIGHT,
        Unit::Count,
        "Calls to GHL in progress, until their callers have the whole response"
    );
    describe_histogram!(
        UPSTREAM_DURATION,
        Unit::Seconds,
        "One attempt of a call at GHL, from the head of the request to the head of the response"
    );
    describe_counter!(
        UPSTREAM_RESPONSES,
        Unit::Count,
        "Attempts of calls at GHL, by class of status; error: GHL gave no response"
    );
    describe_counter!(
        CURED_401,
        Unit::Count,
        "Calls whose 401 of GHL became another answer with a fresh token"
    );
    describe_histogram!(
        TOKEN_WAIT,
        Unit::Seconds,
        "How long calls waited for a fresh token, if they had to"
    );
    describe_counter!(
        SHED,
        Unit::Count,
        "Requests refused with 503 because EVERGREEN_MAX_REQUESTS were being served"
    );
    describe_counter!(
        AUDIT_DROPPED,
        Unit::Count,
        "Events that the audit log lacks: no broker took them, or there were too many"
    );
    describe_gauge!(
        COHERENT,
        Unit::Count,
        "1 while announcements of changes arrive and tokens come from memory, otherwise 0"
    );
    describe_gauge!(
        QUEUED,
        Unit::Count,
        "Calls that wait for their location's rate limit"
    );
    describe_histogram!(
        QUEUE_DURATION,
        Unit::Seconds,
        "How long calls waited for their location's rate limit, if they had to"
    );
    describe_counter!(
        LIMITED,
        Unit::Count,
        "Calls that the gateway itself answered 429: interval, the rate limit did not admit them in \
         time; queue, too many calls waited already; day, the daily limit is used up; \
         quota, the quota of their key is used up"
    );
    describe_counter!(
        REFUSED,
        Unit::Count,
        "429 responses of GHL, including those that were retried"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_indexed_in_declaration_order() {
        for (index, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, index, "{}", route.as_str());
        }
    }

    #[test]
    fn status_outside_the_known_classes_is_counted() {
        let metrics = Metrics::new();
        for status in [100, 200, 599, 999] {
            let status = StatusCode::from_u16(status).unwrap();
            metrics.count(Route::Ghl, AnsweredBy::Ghl, status, Duration::ZERO);
        }
    }
}
