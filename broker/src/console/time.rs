//! Times on pages. Without JavaScript they are in UTC, with it in the browser's time zone.

use std::fmt;
use std::time::UNIX_EPOCH;

use askama::filters::HtmlSafe;
use store::Timestamp;

/// A point in time, as a `<time>` element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(Timestamp);

impl Time {
    /// Of a text in RFC 3339. `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let moment = humantime::parse_rfc3339(text).ok()?;
        let millis = moment.duration_since(UNIX_EPOCH).ok()?.as_millis();
        Some(Self(Timestamp::from_millis(i64::try_from(millis).ok()?)))
    }
}

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let shown = text.replace('T', " ").replace('Z', " UTC");
        write!(f, "<time datetime=\"{text}\">{shown}</time>")
    }
}

/// Only digits, and the characters between them.
impl HtmlSafe for Time {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_shown_in_utc() {
        let html = "<time datetime=\"2026-11-29T12:00:00Z\">2026-11-29 12:00:00 UTC</time>";
        let at = Timestamp::from_millis(1_795_953_600_007);
        assert_eq!(Time::from(at).to_string(), html);
        let parsed = Time::parse("2026-11-29T12:00:00.007Z");
        assert_eq!(parsed, Some(Time::from(at)));
        assert_eq!(Time::parse("<script>"), None);
    }
}
