//! How much is kept for an endpoint that is down.

use store_writer::outbox::QueueCount;

/// About how many messages wait for an endpoint at most. Newer ones are not stored then.
pub(crate) const MOST_WAITING: u64 = 100_000;
/// About how many dead letters of an endpoint are kept. The oldest go first.
pub(crate) const MOST_DEAD: u64 = 20_000;
/// How many dead letters are removed at once at most.
const MOST_REMOVED: u64 = 5000;

/// The consequences of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Whether new messages are dropped.
    pub(super) is_full: bool,
    /// How many of the oldest dead letters go.
    pub(super) excess_dead: usize,
}

impl Bounds {
    pub(super) fn of(count: QueueCount) -> Self {
        let excess = count.dead_letters.saturating_sub(MOST_DEAD);
        Self {
            is_full: count.messages >= MOST_WAITING,
            excess_dead: usize::try_from(excess.min(MOST_REMOVED)).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_full_at_the_bound_and_its_oldest_dead_letters_go() {
        let bounds = |messages, dead_letters| {
            let bounds = Bounds::of(QueueCount {
                messages,
                dead_letters,
                ..QueueCount::default()
            });
            (bounds.is_full, bounds.excess_dead)
        };
        assert_eq!(bounds(99_999, 20_000), (false, 0));
        assert_eq!(bounds(100_000, 20_001), (true, 1));
        assert_eq!(bounds(0, 1_000_000), (false, 5000));
    }
}
