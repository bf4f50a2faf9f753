//! Whether clocks agree.

use std::time::{Duration, SystemTime};

use store::Timestamp;

use super::finding::Finding;

/// A difference from which tokens and certificates are judged wrongly.
const MOST_SKEW: Duration = Duration::from_secs(30);

/// The time of this machine.
pub(super) fn now() -> SystemTime {
    let since_1970 = u64::try_from(Timestamp::of_this_machine().as_millis());
    SystemTime::UNIX_EPOCH + Duration::from_millis(since_1970.unwrap_or(0))
}

/// Compares this machine's clock with that of `other`, such as `GHL`.
pub(super) fn compare(
    name: &'static str,
    other: &str,
    here: SystemTime,
    there: SystemTime,
) -> Finding {
    let (skew, word) = match here.duration_since(there) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    // Dates of HTTP have whole seconds.
    let skew = Duration::from_secs(skew.as_secs());
    if skew <= MOST_SKEW {
        return Finding::ok(name, format!("this machine and {other} agree within 30 s"));
    }
    let skew = humantime::format_duration(skew);
    let text = format!("this machine's clock is {skew} {word} that of {other}");
    let todo = "set the clocks by NTP (`timedatectl set-ntp true`, or chrony)";
    Finding::problem(name, text, todo)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn difference_of_more_than_30_s_is_a_problem() {
        let now = now();
        for (seconds, is_ahead, expected) in [
            (0, true, State::Ok),
            (30, true, State::Ok),
            (30, false, State::Ok),
            (31, true, State::Problem),
            (3600, false, State::Problem),
        ] {
            let skew = Duration::from_secs(seconds);
            let there = if is_ahead { now - skew } else { now + skew };
            let found = compare("clock", "GHL", now, there);
            assert_eq!(found.state, expected, "{found}");
            if expected == State::Problem {
                let word = if is_ahead { "ahead of" } else { "behind" };
                assert!(found.to_string().contains(word), "{found}");
            }
        }
    }
}
