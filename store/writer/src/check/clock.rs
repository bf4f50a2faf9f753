//! The servers' clocks, compared between checks.

use std::collections::HashMap;
use std::time::Duration;

use store::Timestamp;
use store::clock::Moment;

use super::facts::Facts;
use super::finding::{Finding, Reason, Severity};

/// A smaller difference between clocks does not matter, because expiries are compared in the store's time.
const MAX_DIFFERENCE: Duration = Duration::from_secs(5 * 60);
/// A smaller step back is a correction by a time server.
const MAX_STEP_BACK: Duration = Duration::from_secs(2);

/// The last reading of each server's clock.
#[derive(Debug, Default)]
pub struct ClockHistory(HashMap<String, (Timestamp, Moment)>);

impl ClockHistory {
    /// Compares the servers' clocks with their last readings and with this machine's clock.
    pub fn compare(&mut self, facts: &[Facts]) -> Vec<Finding> {
        facts
            .iter()
            .filter_map(|facts| self.compare_one(facts))
            .collect()
    }

    fn compare_one(&mut self, facts: &Facts) -> Option<Finding> {
        let reading = facts.clock;
        let previous = self
            .0
            .insert(facts.server.clone(), (reading.server_time, reading.at));
        let expected = previous.map(|(server_time, at)| server_time + reading.at.since(at));
        let step_back = expected.map(|expected| expected.since(reading.server_time));
        let difference = reading
            .server_time
            .since(reading.local_time)
            .max(reading.local_time.since(reading.server_time));
        let text = match step_back {
            Some(step_back) if step_back > MAX_STEP_BACK => format!(
                "the clock of {} went back by {}: tokens count as valid for longer than they are. \
                 Have a time server slew clocks and not step them",
                facts.server,
                seconds(step_back)
            ),
            Some(_) | None if difference > MAX_DIFFERENCE => format!(
                "the clocks of {} and of this machine differ by {}: have both follow a time server. \
                 `evergreen up` takes its clock over when it starts",
                facts.server,
                seconds(difference)
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
