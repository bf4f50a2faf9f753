//! One line of the access log.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use service::telemetry::ACCESS_LOG;
use tracing::info;

use super::decision::Facts;
use super::path::loggable;
use super::record::RequestRecord;

/// An answered request.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) record: Arc<RequestRecord>,
    pub(crate) request_id: HeaderValue,
    pub(crate) facts: Facts,
    /// The stable code of the gateway's own error.
    pub(crate) code: Option<&'static str>,
    /// The length of the response's body, if it is known at its head.
    pub(crate) bytes: Option<u64>,
}

impl Line {
    pub(super) fn write(&self) {
        let record = &self.record;
        let path = loggable(record.path());
        let attempts = record.attempts();
        info!(
            target: ACCESS_LOG,
            request_id = self.request_id.to_str().unwrap_or_default(),
            trace_id = record.trace_id(),
            key = record.key_name(),
            app = record.app(),
            installation = record.installation(),
            method = record.method(),
            path = &*path,
            status = self.facts.status.as_u16(),
            code = self.code,
            ghl_status = attempts.status.map(|status| status.as_u16()),
            attempts = attempts.count,
            ms = millis(self.facts.took),
            ghl_ms = (attempts.count > 0).then(|| millis(attempts.took)),
            bytes = self.bytes,
            "request"
        );
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
