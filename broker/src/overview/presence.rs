//! The brokers and gateways that run: each broker notes itself and the gateways that report to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::Timestamp;
use store::audit::GatewayReport;
use utoipa::ToSchema;

/// A process that was not seen for this long does not run, or cannot be reached.
const SEEN_WITHIN: Duration = Duration::from_secs(60);
/// A process that was not seen for this long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// The most gateways that a broker notes.
const MOST_GATEWAYS: usize = 500;
/// For how long a report may be sent again: longer than its MAC is valid.
const REPEATED_WITHIN: Duration = Duration::from_secs(300);
/// The most reports whose ids are remembered. A gateway sends four a minute.
const MOST_IDS: usize = 10_000;

/// The kinds of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Broker,
    Gateway,
}

impl Kind {
    /// The name in the store and on pages.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Gateway => "gateway",
        }
    }
}

/// A process that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) started: Timestamp,
    /// When a broker noted it last, in the store's time.
    pub(crate) at: Timestamp,
}

impl Seen {
    /// The field in the store, and the value.
    pub(crate) fn entry(&self) -> (String, String) {
        let kind = self.kind.as_str();
        let json = serde_json::to_string(self).unwrap_or_default();
        (format!("{kind}:{}", self.name), json)
    }

    fn is_younger_than(&self, age: Duration, now: Timestamp) -> bool {
        now.since(self.at) <= age
    }
}

/// The processes of the store's entries that run, in order, and the fields of those that are long gone.
pub(crate) fn sort(stored: &[(String, String)], now: Timestamp) -> (Vec<Seen>, Vec<String>) {
    let (mut running, mut gone) = (Vec::new(), Vec::new());
    for (field, json) in stored {
        match serde_json::from_str::<Seen>(json) {
            Ok(seen) if seen.is_younger_than(SEEN_WITHIN, now) => running.push(seen),
            Ok(seen) if seen.is_younger_than(FORGOTTEN_AFTER, now) => {}
            // One of a newer build may not be readable. It is noted again soon.
            Ok(_) | Err(_) => gone.push(field.clone()),
        }
    }
    running.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    (running, gone)
}

/// The gateways that report to this broker.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    seen: BTreeMap<String, Seen>,
    /// The reports of the last minutes. A report may be recorded and sent again.
    ids: BTreeSet<(Timestamp, String)>,
}

impl Gateways {
    /// Notes a report. Whether it is new.
    pub(crate) fn note(&mut self, report: &GatewayReport, now: Timestamp) -> bool {
        self.ids.retain(|(at, _)| *at >= now - REPEATED_WITHIN);
        let is_known = self.ids.iter().any(|(_, id)| *id == report.id);
        if is_known || self.ids.len() >= MOST_IDS {
            return false;
        }
        self.ids.insert((now, report.id.clone()));
        self.seen.retain(|_, seen| seen.at >= now - FORGOTTEN_AFTER);
        if self.seen.contains_key(&report.name) || self.seen.len() < MOST_GATEWAYS {
            let seen = Seen {
                kind: Kind::Gateway,
                name: report.name.clone(),
                version: report.version.clone(),
                started: report.started.min(now),
                at: now,
            };
            self.seen.insert(seen.name.clone(), seen);
        }
        true
    }

    /// Those that have reported lately.
    pub(crate) fn running(&self, now: Timestamp) -> Vec<Seen> {
        let all = self.seen.values();
        all.filter(|seen| seen.is_younger_than(SEEN_WITHIN, now))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use store::audit::Calls;

    use super::*;

    fn report(id: &str, name: &str) -> GatewayReport {
        GatewayReport {
            id: id.to_owned(),
            name: name.to_owned(),
            version: "1".to_owned(),
            started: Timestamp::from_millis(99_000_000),
            calls: Calls::default(),
        }
    }

    #[test]
    fn report_counts_once_and_gateways_are_bounded() {
        let now = Timestamp::from_millis(1_000_000);
        let mut gateways = Gateways::default();
        assert!(gateways.note(&report("a", "g"), now));
        assert!(!gateways.note(&report("a", "g"), now + SEEN_WITHIN));
        assert_eq!(
            gateways.running(now)[0].started,
            now,
            "no time of the future"
        );
        for number in 0..2 * MOST_GATEWAYS {
            let text = number.to_string();
            assert!(gateways.note(&report(&format!("id-{text}"), &text), now));
        }
        assert_eq!(gateways.running(now).len(), MOST_GATEWAYS);
        let later = now + SEEN_WITHIN + Duration::from_millis(1);
        assert!(gateways.running(later).is_empty());
    }

    #[test]
    fn processes_run_for_a_minute_after_they_were_seen_and_are_forgotten_after_ten() {
        let now = Timestamp::from_millis(10_000_000);
        let seen = |kind, name: &str, ago: u64| {
            Seen {
                kind,
                name: name.to_owned(),
                version: "1".to_owned(),
                started: Timestamp::from_millis(0),
                at: now - Duration::from_secs(ago),
            }
            .entry()
        };
        let stored = [
            seen(Kind::Gateway, "b", 1),
            seen(Kind::Broker, "z", 60),
            seen(Kind::Broker, "silent", 61),
            seen(Kind::Broker, "gone", 601),
            ("odd".to_owned(), "{}".to_owned()),
        ];
        let (running, gone) = sort(&stored, now);
        let names: Vec<&str> = running.iter().map(|seen| seen.name.as_str()).collect();
        assert_eq!(names, ["z", "b"], "brokers come first");
        assert_eq!(gone, ["broker:gone", "odd"]);
    }
}
