//! The known name that a misspelt one was meant to be.

/// The known name that is most like `name`. `None` if none is like it.
#[must_use]
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // One slip in a short name, some more in a long one.
    let most = (name.chars().count() / 5).clamp(1, 3);
    let ranked = known.into_iter().map(|known| {
        let is_other_prefix = rest(name).is_some() && rest(name) == rest(known);
        let rank = match is_other_prefix || is_begin(name, known) {
            // Another prefix, or a name that was cut off.
            true => 1,
            false => distance(name, known),
        };
        (rank, known)
    });
    let best = ranked.min_by_key(|(rank, known)| (*rank, known.len()));
    best.filter(|(rank, _)| *rank <= most)
        .map(|(_, known)| known)
}

/// The name without its first word, which is `EVERGREEN` or `GHL`.
fn rest(name: &str) -> Option<&str> {
    let (first, rest) = name.split_once('_')?;
    ["EVERGREEN", "GHL"].contains(&first).then_some(rest)
}

/// Whether a word or two are missing at the end: `EVERGREEN_REDIS` for `EVERGREEN_REDIS_URL`.
fn is_begin(name: &str, known: &str) -> bool {
    let has_words = name.split('_').count() >= 2;
    has_words
        && known
            .strip_prefix(name)
            .is_some_and(|missing| missing.starts_with('_'))
}

/// How many characters must be inserted, removed, replaced or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    // Row `i` has the distances of the first `i` characters of `left` to each beginning of `right`.
    let mut before = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, of_left) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, of_right) in right.iter().enumerate() {
            let replaced = last[j] + usize::from(of_left != of_right);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && left[i - 1] == *of_right && *of_left == right[j - 1] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_slips() {
        for (left, right, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("abc", "ab", 1),
            ("abc", "abcd", 1),
            ("abc", "xbc", 1),
            ("kitten", "sitting", 3),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
            assert_eq!(distance(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn nearest_name_is_suggested() {
        let known = [
            "EVERGREEN_REFRESH_LEAD",
            "EVERGREEN_REDIS_URL",
            "EVERGREEN_REDIS_REPLICAS",
            "EVERGREEN_MAX_BODY",
            "EVERGREEN_LISTEN",
            "GHL_CLIENT_ID",
            "client_id",
            "scopes",
        ];
        for (name, expected) in [
            ("EVERGREEN_REFERSH_LEAD", Some("EVERGREEN_REFRESH_LEAD")),
            ("EVERGREEN_REDIS", Some("EVERGREEN_REDIS_URL")),
            ("EVERGREEN_CLIENT_ID", Some("GHL_CLIENT_ID")),
            ("GHL_LISTEN", Some("EVERGREEN_LISTEN")),
            ("GHL_CLIENTID", Some("GHL_CLIENT_ID")),
            ("EVERGREEN_MAX_BODIES", Some("EVERGREEN_MAX_BODY")),
            ("EVERGREEN_COLOUR", None),
            ("scope", Some("scopes")),
            ("colour", None),
            ("EVERGREEN", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }
}
