//! What brokers know together of GHL's token endpoint, and what they do about it: pure decisions.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::Timestamp;

/// Clocks that differ by more were set.
const CLOCK_STEP: Duration = Duration::from_secs(60);
/// So many tokens in a row with an unknown fate, and none granted between, are an outage.
pub(crate) const UNKNOWN_IN_A_ROW: u32 = 3;
/// Between two new tokens that are risked to find out whether GHL is well, once it answers again.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// How long nothing new is risked where nothing is heard from the installations in doubt: the
/// first time, and at most.
const FIRST_RISK: Duration = Duration::from_secs(10 * 60);
const LAST_RISK: Duration = Duration::from_secs(4 * 3600);

/// New tokens whose fate is unknown, since the last one that was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outage {
    unknown: u32,
    /// The last of them.
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contained: Option<Contained>,
}

/// No new token is spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Contained {
    since: Timestamp,
    /// When one new token may be risked.
    probe_at: Timestamp,
    /// How many were, with an unknown fate.
    risked: u32,
}

impl Outage {
    /// The fate of one more new token is unknown.
    pub(crate) fn after_unknown(known: Option<&Self>, now: Timestamp) -> Self {
        let unknown = known.map_or(0, |known| known.unknown).saturating_add(1);
        let contained = match known.and_then(|known| known.contained.as_ref()) {
            // A probe failed, or a call that had begun before.
            Some(contained) => {
                let risked = contained.risked.saturating_add(1);
                Some(Contained {
                    since: contained.since,
                    probe_at: now + risk_after(risked),
                    risked,
                })
            }
            None if unknown >= UNKNOWN_IN_A_ROW => Some(Contained {
                since: now,
                probe_at: now + risk_after(0),
                risked: 0,
            }),
            None => None,
        };
        Self {
            unknown,
            at: now,
            contained,
        }
    }

    /// GHL answered clearly for an installation in doubt, or none is left to ask for: one new token
    /// may be risked. `None`: nothing changes.
    pub(crate) fn after_clear_answer(&self, now: Timestamp) -> Option<Self> {
        let contained = self.contained.as_ref()?;
        let soon = now.max(self.at + PROBE_EVERY);
        (soon < contained.probe_at).then(|| {
            let mut next = self.clone();
            next.contained = Some(Contained {
                probe_at: soon,
                ..contained.clone()
            });
            next
        })
    }

    /// Takes the right to risk one new token; `None`: not now.
    pub(crate) fn probe(&self, now: Timestamp) -> Option<Self> {
        let contained = self.contained.as_ref()?;
        // One that lies further ahead was written before the store's clock was set back.
        let is_due = contained.probe_at <= now || contained.probe_at > now + LAST_RISK;
        is_due.then(|| {
            let mut next = self.clone();
            next.contained = Some(Contained {
                // If whoever took it dies with it, somebody else may after the longest call.
                probe_at: now + 3 * PROBE_EVERY,
                ..contained.clone()
            });
            next
        })
    }

    /// Whether a token that was granted at `at` ends it. An outage of the future was noted before the
    /// store's clock was set back.
    pub(crate) fn is_ended_by(&self, at: Timestamp, now: Timestamp) -> bool {
        at >= self.at || self.at > now + CLOCK_STEP
    }

    pub(crate) fn is_contained(&self) -> bool {
        self.contained.is_some()
    }

    /// Since when no new token is spent.
    pub(crate) fn contained_since(&self) -> Option<Timestamp> {
        self.contained.as_ref().map(|contained| contained.since)
    }
}

fn risk_after(risked: u32) -> Duration {
    (FIRST_RISK * 2_u32.pow(risked.min(8))).min(LAST_RISK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn after(count: u32) -> Outage {
        (0..count)
            .fold(None, |known, _| {
                Some(Outage::after_unknown(known.as_ref(), NOW))
            })
            .unwrap()
    }

    #[test]
    fn three_unknown_outcomes_in_a_row_contain_it() {
        assert!(!after(2).is_contained());
        assert!(after(3).is_contained());
        assert_eq!(after(5).contained_since(), Some(NOW));
    }

    #[test]
    fn a_success_after_the_last_unknown_outcome_ends_it_and_an_earlier_one_does_not() {
        assert!(after(3).is_ended_by(NOW, NOW));
        for earlier in [Duration::from_millis(1), Duration::from_secs(3600)] {
            assert!(!after(3).is_ended_by(NOW - earlier, NOW));
        }
        assert!(
            after(3).is_ended_by(
                NOW - Duration::from_secs(3600),
                NOW - Duration::from_secs(3600)
            ),
            "the clock was set"
        );
    }

    #[test]
    fn one_new_token_is_risked_soon_after_a_clear_answer_and_else_after_ten_minutes() {
        let contained = after(3);
        assert_eq!(contained.probe(NOW + PROBE_EVERY), None);
        assert!(contained.probe(NOW + FIRST_RISK).is_some());
        let answered = contained.after_clear_answer(NOW).unwrap();
        assert_eq!(answered.probe(NOW), None, "an answer of a moment ago");
        let soon = NOW + PROBE_EVERY;
        let taken = answered.probe(soon).unwrap();
        assert_eq!(taken.probe(soon), None, "one at a time");
        let failed = Outage::after_unknown(Some(&taken), soon);
        assert_eq!(failed.probe(soon + FIRST_RISK), None, "it cost a token");
        assert_eq!(failed.contained_since(), Some(NOW));
    }

    #[test]
    fn the_pauses_between_risks_grow_to_four_hours() {
        let pauses: Vec<u64> = (0..7)
            .map(|risked| risk_after(risked).as_secs() / 60)
            .collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 240, 240]);
    }

    #[test]
    fn a_store_clock_that_is_set_back_does_not_put_probes_off_for_ever() {
        let earlier = NOW - Duration::from_secs(900);
        assert_eq!(after(3).probe(earlier), None);
        let much_earlier = Timestamp::from_millis(0) - 2 * LAST_RISK;
        assert!(after(3).probe(much_earlier).is_some());
    }

    #[test]
    fn it_is_text_in_the_store() {
        for outage in [after(1), after(3)] {
            let text = serde_json::to_string(&outage).unwrap();
            assert_eq!(serde_json::from_str::<Outage>(&text).unwrap(), outage);
        }
    }
}
