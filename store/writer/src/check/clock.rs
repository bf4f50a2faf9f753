//! The servers' clocks, from one check to the next.

use std::collections::HashMap;
use std::time::Duration;

use store::Timestamp;
use store::clock::Moment;

use super::{Facts, Finding, Reason, Severity};

/// Differences of clocks below this are of no interest: expiries are compared in the store's time.
const APART: Duration = Duration::from_secs(5 * 60);
/// A clock that goes back by less was corrected, as time servers do.
const STEP: Duration = Duration::from_secs(2);

/// What each server's clock showed last, and when.
#[derive(Debug, Default)]
pub struct Clocks(HashMap<String, (Timestamp, Moment)>);

impl Clocks {
    /// Compares what the servers tell with what they told before, and with this machine's clock.
    pub fn note(&mut self, facts: &[Facts]) -> Vec<Finding> {
        facts
            .iter()
            .filter_map(|facts| self.note_one(facts))
            .collect()
    }

    fn note_one(&mut self, facts: &Facts) -> Option<Finding> {
        let reading = facts.clock;
        let former = self
            .0
            .insert(facts.server.clone(), (reading.told, reading.at));
        let expected = former.map(|(told, at)| told + reading.at.since(at));
        let back = expected.map(|expected| expected.since(reading.told));
        let apart = reading
            .told
            .since(reading.here)
            .max(reading.here.since(reading.told));
        let text = match back {
            Some(back) if back > STEP => format!(
                "the clock of {} went back by {}: tokens count as valid for longer than they are. \
                 Have a time server slew clocks and not step them",
                facts.server,
                seconds(back)
            ),
            Some(_) | None if apart > APART => format!(
                "the clocks of {} and of this machine differ by {}: have both follow a time server. \
                 `evergreen up` takes its clock over when it starts",
                facts.server,
                seconds(apart)
            ),
            Some(_) | None => return None,
        };
        Some(Finding {
            reason: Reason::Clock,
            severity: Severity::Degraded,
            text,
        })
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
