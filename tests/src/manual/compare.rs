//! Loose comparison of what a command printed with what a page shows.

/// `…` in the page.
const GAP: char = '…';

/// Why the output is not what the page shows, or nothing. `…` stands for anything. White space does not count, and ids,
/// keys and times may differ.
#[must_use]
pub fn difference(shown: &str, printed: &str) -> Option<String> {
    let printed = canonical(printed);
    let pieces: Vec<String> = shown.split(GAP).map(canonical).collect();
    let mut rest = printed.as_str();
    let last = pieces.len().saturating_sub(1);
    for (number, piece) in pieces.iter().enumerate() {
        let at = if number == last && number > 0 {
            rest.ends_with(piece.as_str())
                .then(|| rest.len() - piece.len())
        } else if number == 0 {
            rest.starts_with(piece.as_str()).then_some(0)
        } else {
            rest.find(piece.as_str())
        };
        match at {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return Some(format!("no {piece:?} in {rest:?}")),
        }
    }
    let is_open = last > 0;
    (!is_open && !rest.is_empty()).then(|| format!("also {rest:?}"))
}

/// Without white space, and with the same word for each id, key and time.
fn canonical(text: &str) -> String {
    let mut result = String::new();
    let mut word = String::new();
    for c in text.chars() {
        // Times and dates are one word.
        if c.is_ascii_alphanumeric() || "_-:.".contains(c) {
            word.push(c);
            continue;
        }
        result.push_str(&canonical_word(&word));
        word.clear();
        if !c.is_whitespace() {
            result.push(c);
        }
    }
    result.push_str(&canonical_word(&word));
    result
}

fn canonical_word(word: &str) -> String {
    let end = word.trim_end_matches([':', '.', '-']).len();
    let (word, rest) = word.split_at(end);
    let same = if is_time(word) {
        "TIME"
    } else if let Some(kind) = id_kind(word) {
        kind
    } else if is_hex(word) {
        "HEX"
    } else {
        word
    };
    format!("{same}{rest}")
}

/// `install_`, `evt_`, `evg_` and others, before at least 16 hex digits.
fn id_kind(word: &str) -> Option<&str> {
    let (kind, digits) = word.rsplit_once('_')?;
    is_hex(digits).then(|| &word[..=kind.len()])
}

fn is_hex(word: &str) -> bool {
    word.len() >= 16 && word.chars().all(|c| c.is_ascii_hexdigit())
}

/// `2026-11-24T03:38:35Z`, with or without a fraction, or a date or a time of a day alone.
fn is_time(word: &str) -> bool {
    let is_two = |part: &str| part.len() == 2 && part.chars().all(|c| c.is_ascii_digit());
    let time = word.strip_suffix('Z').unwrap_or_default();
    if time.len() == 8 && time.split(':').all(is_two) {
        return true;
    }
    let mut parts = word.splitn(3, '-');
    let digits = |part: Option<&str>, length| {
        part.is_some_and(|it| it.len() == length && it.chars().all(|c| c.is_ascii_digit()))
    };
    let begins = digits(parts.next(), 4) && digits(parts.next(), 2);
    let rest = parts.next().unwrap_or_default();
    let is_day = digits(rest.get(..2), 2);
    begins && is_day && (rest.len() == 2 || rest.as_bytes().get(2) == Some(&b'T'))
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn gaps_ids_times_and_white_space_may_differ() {
        let printed = "{\"id\":\"install_00112233445566778899aabb\",\"more\":1,\"at\":\"2026-11-24T03:38:35Z\"}\n";
        let shown =
            "{\"id\":\"install_7f78209197ddd785cda129de\",…,\n \"at\":\"2025-01-01T00:00:00Z\"}";
        assert_eq!(difference(shown, printed), None);
        assert_eq!(difference("…", printed), None);
        assert_eq!(difference("a …\nc", "a b\nc\n"), None);
        assert_eq!(
            difference("2026-11-24 03:38:35Z", "2026-12-01 09:00:00Z\n"),
            None
        );
    }

    #[test]
    fn other_words_are_differences() {
        assert!(difference("valid", "invalid").is_some());
        assert!(difference("valid", "valid and more").is_some());
        assert!(difference("a…c", "a b").is_some());
        assert!(difference("{\"a\":1,…}", "{\"a\":2,\"b\":3}").is_some());
    }
}
