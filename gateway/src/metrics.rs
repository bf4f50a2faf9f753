//! Metrics about callers' requests: `evergreen_gateway_…`.
//!
//! Label values come from enums only. The handles are looked up once. A lookup by name for every request would
//! cost more than all other work of the gateway.

use std::time::Duration;

use http::StatusCode;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::admission::limited::Limited;
use crate::error::Error;
use crate::token::cache::Counters;
use crate::upstream::Peer;

const REQUESTS: &str = "evergreen_gateway_requests_total";
const DURATION: &str = "evergreen_gateway_request_duration_seconds";
const CACHE: &str = "evergreen_gateway_cache_total";
const COHERENT: &str = "evergreen_gateway_cache_coherent";
const QUEUED: &str = "evergreen_gateway_queued";
const QUEUE_DURATION: &str = "evergreen_gateway_queue_duration_seconds";
const LIMITED: &str = "evergreen_gateway_limited_total";
const REFUSED: &str = "evergreen_gateway_ghl_refused_total";

const REPEATED: &str = "evergreen_gateway_repeated_total";
const AUDIT_DROPPED: &str = "evergreen_gateway_audit_dropped_total";
const SHED: &str = "evergreen_gateway_shed_total";

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

    fn leads_to_ghl(self) -> bool {
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
    pub(crate) repeated: Counter,
    pub(crate) shed: Counter,
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
            repeated: counter!(REPEATED),
            shed: counter!(SHED),
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
        let class = usize::from(status.as_u16() / 100).clamp(1, STATUS_CLASSES.len());
        of_route.requests[by as usize][class - 1].increment(1);
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
