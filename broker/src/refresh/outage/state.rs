//! The outage record that all brokers share, and the decisions about it, as pure functions.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::Timestamp;

/// A larger difference means that a clock was set.
const CLOCK_STEP: Duration = Duration::from_secs(60);
/// This many unknown outcomes in a row, without a success between them, are an outage.
pub(crate) const UNKNOWN_THRESHOLD: u32 = 3;
/// The pause between the last unknown outcome and the first probe, once GHL responds clearly again.
const FIRST_PROBE: Duration = Duration::from_secs(40);
/// The pause after two failed probes. The end of an outage is noticed within two minutes.
const PROBE_INTERVAL: Duration = Duration::from_secs(110);
/// After this many failed probes the pauses double. A long outage must not cost a token every two minutes.
const PROBES_BEFORE_BACKOFF: u32 = 5;
/// The first pause before a probe while unresolved installations get no clear response.
const MIN_SILENCE: Duration = Duration::from_secs(10 * 60);
/// The longest pause before a probe.
const MAX_SILENCE: Duration = Duration::from_secs(4 * 3600);
/// How long a broker holds the right to probe. Longer than the longest call.
const PROBE_LEASE: Duration = Duration::from_secs(30);

/// If this many installations in a row get their first refusal, without a success between them, GHL is
/// probably wrong. It is unlikely that all these customers have left.
pub(crate) const REFUSED_THRESHOLD: u32 = 5;

/// The outcomes of new tokens since the last success. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outage {
    /// Number of unknown outcomes.
    unknown: u32,
    /// Number of refusals.
    #[serde(default)]
    refused: u32,
    /// The time of the last of these outcomes.
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contained: Option<Contained>,
}

/// Containment: no new token is spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Contained {
    since: Timestamp,
    /// When the next probe may be sent.
    probe_at: Timestamp,
    /// Number of probes whose outcome is unknown.
    risked: u32,
}

impl Outage {
    /// The record after one more unknown outcome of a new token.
    pub(crate) fn after_unknown(known: Option<&Self>, began_at: Timestamp, now: Timestamp) -> Self {
        let unknown = known.map_or(0, |known| known.unknown).saturating_add(1);
        let contained = match known.and_then(|known| known.contained.as_ref()) {
            // The call began before the containment.
            Some(contained) if began_at < contained.since => Some(contained.clone()),
            // A probe failed.
            Some(contained) => {
                let risked = contained.risked.saturating_add(1);
                Some(Contained {
                    since: contained.since,
                    probe_at: now + silence_before_probe(risked),
                    risked,
                })
            }
            None if unknown >= UNKNOWN_THRESHOLD => Some(Contained {
                since: now,
                probe_at: now + silence_before_probe(0),
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

    /// The record after one more first refusal.
    pub(crate) fn after_refusal(known: Option<&Self>, now: Timestamp) -> Self {
        let refused = known.map_or(0, |known| known.refused).saturating_add(1);
        Self {
            unknown: known.map_or(0, |known| known.unknown),
            refused,
            at: now,
            contained: known.and_then(|known| known.contained.clone()),
        }
    }

    /// Whether GHL refuses every installation.
    pub(crate) fn is_refusing_all(&self) -> bool {
        self.refused >= REFUSED_THRESHOLD
    }

    /// The record after a clear response for an unresolved installation, or when none is unresolved: a
    /// probe is allowed sooner. `None` if nothing changes.
    pub(crate) fn after_clear_response(&self, now: Timestamp) -> Option<Self> {
        let contained = self.contained.as_ref()?;
        let soon = now.max(self.at + pause_before_probe(contained.risked));
        (soon < contained.probe_at).then(|| {
            let mut next = self.clone();
            next.contained = Some(Contained {
                probe_at: soon,
                ..contained.clone()
            });
            next
        })
    }

    /// Takes the right to probe. `None` if it is too early.
    pub(crate) fn probe(&self, now: Timestamp) -> Option<Self> {
        let contained = self.contained.as_ref()?;
        // A later time was written before the store's clock was set back.
        let is_due = contained.probe_at <= now || contained.probe_at > now + MAX_SILENCE;
        is_due.then(|| {
            let mut next = self.clone();
            next.contained = Some(Contained {
                // If this broker dies, another may probe after the longest call.
                probe_at: now + PROBE_LEASE,
                ..contained.clone()
            });
            next
        })
    }

    /// Whether a success at `at` ends the outage. A record from the future was written before the store's
    /// clock was set back, so any success ends it.
    pub(crate) fn is_ended_by(&self, at: Timestamp, now: Timestamp) -> bool {
        at >= self.at || self.at > now + CLOCK_STEP
    }

    /// Whether no new token may be spent.
    pub(crate) fn is_contained(&self) -> bool {
        self.contained.is_some()
    }

    /// The start of the containment.
    pub(crate) fn contained_since(&self) -> Option<Timestamp> {
        self.contained.as_ref().map(|contained| contained.since)
    }
}

fn pause_before_probe(risked: u32) -> Duration {
    match risked {
        0 => FIRST_PROBE,
        1 => 2 * FIRST_PROBE,
        more => (PROBE_INTERVAL * 2_u32.pow(more.saturating_sub(PROBES_BEFORE_BACKOFF).min(8)))
            .min(MAX_SILENCE),
    }
}

fn silence_before_probe(risked: u32) -> Duration {
    (MIN_SILENCE * 2_u32.pow(risked.min(8))).min(MAX_SILENCE)
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
    fn three_unknown_outcomes_in_a_row_start_containment() {
        assert!(!after(2).is_contained());
        assert!(after(3).is_contained());
        assert_eq!(after(5).contained_since(), Some(NOW));
    }

    #[test]
    fn call_from_before_the_containment_does_not_count_as_a_probe() {
        let (before, soon) = (NOW - FIRST_PROBE, NOW + FIRST_PROBE);
        let next = Outage::after_unknown(Some(&after(3)), before, NOW + Duration::from_secs(5));
        assert_eq!(next.contained, after(3).contained);
        assert!(!next.is_ended_by(NOW, soon), "it is the last outcome");
    }

    #[test]
    fn five_first_refusals_in_a_row_do_not_start_containment() {
        let mut known = None;
        for count in 1..=6 {
            let next = Outage::after_refusal(known.as_ref(), NOW);
            assert_eq!(next.is_refusing_all(), count >= 5);
            assert!(!next.is_contained());
            known = Some(next);
        }
        assert!(known.unwrap().is_ended_by(NOW, NOW), "by a success");
    }

    #[test]
    fn only_a_success_after_the_last_unknown_outcome_ends_the_outage() {
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
    fn probe_is_sent_soon_after_a_clear_response_and_otherwise_after_ten_minutes() {
        let contained = after(3);
        assert_eq!(contained.probe(NOW + FIRST_PROBE), None);
        assert!(contained.probe(NOW + MIN_SILENCE).is_some());
        let answered = contained.after_clear_response(NOW).unwrap();
        assert_eq!(answered.probe(NOW), None, "too soon after the response");
        let soon = NOW + FIRST_PROBE;
        let taken = answered.probe(soon).unwrap();
        assert_eq!(taken.probe(soon), None, "one at a time");
        let failed = Outage::after_unknown(Some(&taken), soon, soon);
        assert_eq!(failed.probe(soon + MIN_SILENCE), None, "the pause grows");
        assert_eq!(failed.contained_since(), Some(NOW));
    }

    #[test]
    fn failed_probes_make_the_next_probe_wait_longer() {
        let mut outage = after(3);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let answered = outage.after_clear_response(NOW).unwrap();
            let probe_at = answered.contained.as_ref().unwrap().probe_at;
            pauses.push(probe_at.since(NOW).as_secs());
            outage = Outage::after_unknown(Some(&answered), NOW, NOW);
        }
        assert_eq!(pauses, [40, 80, 110, 110, 110, 110, 220, 440]);
    }

    #[test]
    fn pauses_between_probes_grow_to_four_hours() {
        let pauses: Vec<u64> = (0..7)
            .map(|risked| silence_before_probe(risked).as_secs() / 60)
            .collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 240, 240]);
    }

    #[test]
    fn store_clock_that_is_set_back_does_not_delay_probes_for_ever() {
        let earlier = NOW - Duration::from_secs(900);
        assert_eq!(after(3).probe(earlier), None);
        let much_earlier = Timestamp::from_millis(0) - 2 * MAX_SILENCE;
        assert!(after(3).probe(much_earlier).is_some());
    }

    #[test]
    fn outage_survives_a_round_trip_through_json() {
        for outage in [after(1), after(3)] {
            let text = serde_json::to_string(&outage).unwrap();
            assert_eq!(serde_json::from_str::<Outage>(&text).unwrap(), outage);
        }
    }
}
