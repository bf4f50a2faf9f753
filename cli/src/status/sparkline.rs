//! A chart in one line of text.

/// The columns of a chart.
const COLUMNS: usize = 48;

/// The characters of a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Blocks, on a terminal.
    Blocks,
    /// For files, pipes and logs.
    Ascii,
}

impl Look {
    /// From nothing to the most.
    const fn levels(self) -> &'static [char] {
        match self {
            Self::Blocks => &['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
            Self::Ascii => &['.', '_', '-', '=', '+', '*', '%', '#', '@'],
        }
    }
}

/// The counts in one line, scaled to their maximum. Each column is a sum of counts. A single event is seen.
pub(super) fn sparkline(counts: &[u64], look: Look) -> String {
    let group = counts.len().div_ceil(COLUMNS).max(1);
    let sums = counts.chunks(group);
    let sums: Vec<u64> = sums
        .map(|some| some.iter().fold(0, |sum: u64, it| sum.saturating_add(*it)))
        .collect();
    let most = sums.iter().copied().max().unwrap_or_default();
    let levels = look.levels();
    let highest = levels.len() - 1;
    let level = |sum: u64| match (sum, most) {
        (0, _) | (_, 0) => 0,
        _ => {
            let scaled = u128::from(sum) * highest as u128 / u128::from(most);
            usize::try_from(scaled).unwrap_or(highest).clamp(1, highest)
        }
    };
    sums.into_iter().map(|sum| levels[level(sum)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_sums_scaled_to_their_maximum() {
        let mut counts = vec![0; 288];
        counts[0] = 1;
        counts[282] = 4000;
        counts[287] = 4000;
        let line = sparkline(&counts, Look::Blocks);
        assert_eq!(line.chars().count(), COLUMNS);
        assert!(line.starts_with("▁·") && line.ends_with("·█"), "{line}");
        let ascii = sparkline(&counts, Look::Ascii);
        assert!(ascii.is_ascii() && ascii.ends_with(".@"), "{ascii}");
    }

    #[test]
    fn nothing_and_huge_counts_have_a_chart() {
        assert_eq!(sparkline(&[], Look::Ascii), "");
        assert_eq!(sparkline(&[0, 0], Look::Ascii), "..");
        assert_eq!(sparkline(&[u64::MAX, 1], Look::Ascii), "@_");
    }
}
