//! The order of refreshes: how strictly the soonest expiry came first, and how even the rate was.

use serde_json::Value;
use store::Timestamp;

/// The order of all refreshes in the ledger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Order {
    pub(super) refreshed: usize,
    /// The share of all pairs in which the sooner expiry came first.
    pub(super) pairs_in_order: f64,
    /// The largest difference in expiry by which a refresh was overtaken, in seconds.
    pub(super) worst_overtaken_s: f64,
    /// The number of refreshes in the busiest second.
    pub(super) busiest_second: usize,
}

impl Order {
    /// The order since `from`, according to the sandbox's ledger. A seeded token expires one lifetime after its
    /// issue.
    pub(super) fn of(chains: &[Value], from: Timestamp) -> Self {
        let from_ms = u64::try_from(from.as_millis()).unwrap_or(0);
        let mut spent: Vec<(u64, u64)> = chains
            .iter()
            .filter_map(|chain| {
                let first = &chain["tokens"][0];
                Some((first["spent_ms"].as_u64()?, first["issued_ms"].as_u64()?))
            })
            .filter(|(spent_ms, _)| *spent_ms >= from_ms)
            .collect();
        spent.sort_unstable();
        Self::of_refreshes(&spent)
    }

    /// The order of pairs of refresh time and expiry, in milliseconds, sorted by refresh time.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn of_refreshes(refreshes: &[(u64, u64)]) -> Self {
        let mut expiries: Vec<u64> = refreshes.iter().map(|(_, expiry)| *expiry).collect();
        let refreshed = expiries.len();
        let mut latest = 0;
        let overtaken = expiries.iter().map(|expiry| {
            latest = latest.max(*expiry);
            latest - expiry
        });
        let worst_ms = overtaken.max().unwrap_or(0);
        let pairs = refreshed * refreshed.saturating_sub(1) / 2;
        let wrong = sort_counting_inversions(&mut expiries);
        Self {
            refreshed,
            pairs_in_order: 1.0 - wrong as f64 / pairs.max(1) as f64,
            worst_overtaken_s: worst_ms as f64 / 1000.0,
            busiest_second: busiest_second(refreshes),
        }
    }
}

fn busiest_second(refreshes: &[(u64, u64)]) -> usize {
    let ends = refreshes.iter().enumerate().map(|(first, (start_ms, _))| {
        let end = refreshes.partition_point(|(at_ms, _)| *at_ms < start_ms + 1000);
        end - first
    });
    ends.max().unwrap_or(0)
}

/// Merge sort. Returns the number of pairs that were in the wrong order.
fn sort_counting_inversions(values: &mut [u64]) -> usize {
    if values.len() < 2 {
        return 0;
    }
    let (left, right) = values.split_at_mut(values.len() / 2);
    let mut inversions = sort_counting_inversions(left) + sort_counting_inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let mut rest = &*left;
    for value in right.iter() {
        let before = rest.partition_point(|other| other <= value);
        merged.extend_from_slice(&rest[..before]);
        rest = &rest[before..];
        inversions += rest.len();
        merged.push(*value);
    }
    merged.extend_from_slice(rest);
    values.copy_from_slice(&merged);
    inversions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_reports_pairs_in_order_and_worst_overtaken() {
        let order = |expiries: &[u64]| {
            let refreshes: Vec<_> = (0..)
                .map(|number| number * 400)
                .zip(expiries.iter().copied())
                .collect();
            Order::of_refreshes(&refreshes)
        };
        let perfect = order(&[1000, 2000, 2000, 3000]);
        assert_eq!(perfect.pairs_in_order, 1.0);
        assert_eq!(perfect.worst_overtaken_s, 0.0);
        let one_late = order(&[2000, 3000, 1000, 4000]);
        assert!((one_late.pairs_in_order - 4.0 / 6.0).abs() < 1e-9);
        assert_eq!(one_late.worst_overtaken_s, 2.0);
        assert_eq!(order(&[3, 2, 1]).pairs_in_order, 0.0);
        assert_eq!(perfect.busiest_second, 3);
        assert_eq!(order(&[]).refreshed, 0);
    }
}
