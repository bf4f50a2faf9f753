//! What brokers know together of GHL's token endpoint, and what they do about it: pure decisions.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::Timestamp;

/// Clocks that differ by more were set.
const CLOCK_STEP: Duration = Duration::from_secs(60);
/// So many tokens in a row with an unknown fate, and none granted between, are an outage.
pub(crate) const UNKNOWN_IN_A_ROW: u32 = 3;
/// How long after the last unknown outcome the first new token is risked, once GHL answers again.
const FIRST_PROBE: Duration = Duration::from_secs(40);
/// The pause after two were risked in vain. The end of an outage is noticed within two minutes.
const PROBE_EVERY: Duration = Duration::from_secs(110);
/// After so many the pauses double: a long outage must not cost a token every two minutes.
const PROBES: u32 = 5;
/// How long nothing new is risked where nothing is heard from the installations in doubt: the
/// first time, and at most.
const FIRST_RISK: Duration = Duration::from_secs(10 * 60);
const LAST_RISK: Duration = Duration::from_secs(4 * 3600);
/// Longer than the longest call.
const TAKEN: Duration = Duration::from_secs(30);

/// So many installations in a row whose token is refused for the first time, and none granted between:
/// GHL is wrong, and not all these customers gone.
pub(crate) const REFUSED_IN_A_ROW: u32 = 5;

/// Outcomes of new tokens since the last one that was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outage {
    /// Their fate is unknown.
    unknown: u32,
    /// They were refused.
    #[serde(default)]
    refused: u32,
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
    pub(crate) fn after_unknown(known: Option<&Self>, began_at: Timestamp, now: Timestamp) -> Self {
        let unknown = known.map_or(0, |known| known.unknown).saturating_add(1);
        let contained = match known.and_then(|known| known.contained.as_ref()) {
            // The call had begun before.
            Some(contained) if began_at < contained.since => Some(contained.clone()),
            // A probe failed.
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
            refused: known.map_or(0, |known| known.refused),
            at: now,
            contained,
        }
    }

    /// One more token is refused for the first time.
    pub(crate) fn after_refusal(known: Option<&Self>, now: Timestamp) -> Self {
        let refused = known.map_or(0, |known| known.refused).saturating_add(1);
        Self {
            unknown: known.map_or(0, |known| known.unknown),
            refused,
            at: now,
            contained: known.and_then(|known| known.contained.clone()),
        }
    }

    /// Whether GHL refuses whoever asks.
    pub(crate) fn refuses_all(&self) -> bool {
        self.refused >= REFUSED_IN_A_ROW
    }

    /// GHL answered clearly for an installation in doubt, or none is left to ask for: one new token
    /// may be risked. `None`: nothing changes.
    pub(crate) fn after_clear_answer(&self, now: Timestamp) -> Option<Self> {
        let contained = self.contained.as_ref()?;
        let soon = now.max(self.at + probe_after(contained.risked));
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
                probe_at: now + TAKEN,
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

fn probe_after(risked: u32) -> Duration {
    match risked {
        0 => FIRST_PROBE,
        1 => 2 * FIRST_PROBE,
        more => (PROBE_EVERY * 2_u32.pow(more.saturating_sub(PROBES).min(8))).min(LAST_RISK),
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
                Some(Outage::after_unknown(known.as_ref(), NOW, NOW))
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
    fn a_call_that_was_under_way_when_it_began_is_no_risk_that_failed() {
        let (before, soon) = (NOW - FIRST_PROBE, NOW + FIRST_PROBE);
        let next = Outage::after_unknown(Some(&after(3)), before, NOW + Duration::from_secs(5));
        assert_eq!(next.contained, after(3).contained);
        assert!(!next.is_ended_by(NOW, soon), "it counts as the last one");
    }

    #[test]
    fn five_refusals_in_a_row_are_ghls_mistake_and_contain_nothing() {
        let mut known = None;
        for count in 1..=6 {
            let next = Outage::after_refusal(known.as_ref(), NOW);
            assert_eq!(next.refuses_all(), count >= 5);
            assert!(!next.is_contained());
            known = Some(next);
        }
        assert!(
            known.unwrap().is_ended_by(NOW, NOW),
            "by one that is granted"
        );
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
        assert_eq!(contained.probe(NOW + FIRST_PROBE), None);
        assert!(contained.probe(NOW + FIRST_RISK).is_some());
        let answered = contained.after_clear_answer(NOW).unwrap();
        assert_eq!(answered.probe(NOW), None, "an answer of a moment ago");
        let soon = NOW + FIRST_PROBE;
        let taken = answered.probe(soon).unwrap();
        assert_eq!(taken.probe(soon), None, "one at a time");
        let failed = Outage::after_unknown(Some(&taken), soon, soon);
        assert_eq!(failed.probe(soon + FIRST_RISK), None, "it cost a token");
        assert_eq!(failed.contained_since(), Some(NOW));
    }

    #[test]
    fn tokens_that_were_risked_in_vain_make_the_next_one_wait() {
        let mut outage = after(3);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let answered = outage.after_clear_answer(NOW).unwrap();
            let probe_at = answered.contained.as_ref().unwrap().probe_at;
            pauses.push(probe_at.since(NOW).as_secs());
            outage = Outage::after_unknown(Some(&answered), NOW, NOW);
        }
        assert_eq!(pauses, [40, 80, 110, 110, 110, 110, 220, 440]);
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
