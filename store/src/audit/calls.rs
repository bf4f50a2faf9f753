//! How many calls a gateway has answered, for the overview. A report that is lost loses numbers alone.

use serde::{Deserialize, Serialize};

/// The most of one count that a broker believes in one report: far more than a gateway answers in the minutes that it may
/// wait for a broker.
const MOST: u64 = 100_000_000;
/// The longest text of a report, in characters.
const LONGEST: usize = 64;

/// Calls that a gateway has answered since its last report. The first three are all calls to GHL, and the last three are
/// some of the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calls {
    /// GHL answered them, or did not answer.
    pub forwarded: u64,
    /// The gateway refused them: 4xx.
    pub refused: u64,
    /// The gateway could not do them: 5xx.
    pub failed: u64,
    /// GHL answered 4xx, but not 429.
    pub ghl_4xx: u64,
    /// GHL answered 429.
    pub ghl_429: u64,
    /// GHL answered 5xx, or did not answer.
    pub ghl_5xx: u64,
}

/// A gateway's report about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayReport {
    /// Random. A broker counts a report once.
    pub id: String,
    /// Names the process.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When it started, in the store's time.
    pub started: crate::clock::Timestamp,
    /// Its calls.
    pub calls: Calls,
}

impl Calls {
    /// Each count with its name in the store.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("forwarded", self.forwarded),
            ("call_refused", self.refused),
            ("call_failed", self.failed),
            ("ghl_4xx", self.ghl_4xx),
            ("ghl_429", self.ghl_429),
            ("ghl_5xx", self.ghl_5xx),
        ]
    }

    /// Whether there is nothing to report.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl GatewayReport {
    /// With texts that are fit to be shown, and counts that are possible.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for text in [&mut self.id, &mut self.name, &mut self.version] {
            *text = text
                .chars()
                .filter(|it| it.is_ascii_graphic())
                .take(LONGEST)
                .collect();
        }
        let calls = &mut self.calls;
        for count in [
            &mut calls.forwarded,
            &mut calls.refused,
            &mut calls.failed,
            &mut calls.ghl_4xx,
            &mut calls.ghl_429,
            &mut calls.ghl_5xx,
        ] {
            *count = (*count).min(MOST);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_bounded_whatever_a_gateway_sends() {
        let json = r#"{"id": "a", "name": "g\u001b[31m 1", "version": "0", "started": 5,
            "calls": {"forwarded": 18446744073709551615, "unheard_of": 1}}"#;
        let mut report: GatewayReport = serde_json::from_str(json).unwrap();
        report.id = "x".repeat(10_000);
        let bounded = report.bounded();
        assert_eq!(
            (bounded.id.len(), bounded.name.as_str()),
            (LONGEST, "g[31m1")
        );
        assert_eq!(bounded.calls.forwarded, MOST);
        assert_eq!(bounded.calls.refused, 0);
    }
}
