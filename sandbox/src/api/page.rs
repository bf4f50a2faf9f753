//! The `meta` of GHL's older lists.

use http::HeaderMap;
use http::header::HOST;
use serde_json::{Map, Value, json};

/// The position of a page in a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageMeta {
    pub(super) total: usize,
    /// The number of records on earlier pages.
    pub(super) shown_before: usize,
    pub(super) limit: usize,
    pub(super) has_next: bool,
}

impl PageMeta {
    /// The JSON. `path` is the call without its position, `last` the last record of the page, and
    /// `time_field` its field with the time that the list is sorted by.
    pub(super) fn describe(
        self,
        headers: &HeaderMap,
        path: &str,
        last: Option<&Map<String, Value>>,
        time_field: &str,
    ) -> Value {
        let text = |name| last?.get(name)?.as_str();
        let id = text("id");
        let time = text(time_field).and_then(|time| humantime::parse_rfc3339(time).ok());
        let time_ms = time
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
            .map(crate::clock::millis);
        let page = self.shown_before / self.limit.max(1) + 1;
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let next_url = format!(
            "http://{}{path}&startAfter={}&startAfterId={}",
            host.unwrap_or_default(),
            time_ms.unwrap_or_default(),
            id.unwrap_or_default()
        );
        json!({
            "total": self.total,
            "nextPageUrl": self.has_next.then_some(next_url),
            "startAfterId": id,
            "startAfter": time_ms,
            "currentPage": page,
            "nextPage": self.has_next.then_some(page + 1),
            "prevPage": (page > 1).then(|| page - 1),
        })
    }
}
