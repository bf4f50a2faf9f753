//! Values that were copied or quoted wrongly. They would be taken as they are, and fail much later.

/// The pairs of quotes that editors, web pages and `--env-file` leave around a value.
const QUOTES: [(char, char); 4] = [('"', '"'), ('\'', '\''), ('“', '”'), ('‘', '’')];

/// Words that stand for a value in manuals and examples.
const PLACEHOLDERS: [&str; 11] = [
    "change-me",
    "change_me",
    "changeme",
    "client-id",
    "client-secret",
    "client_id",
    "client_secret",
    "fixme",
    "placeholder",
    "replace-me",
    "todo",
];

/// The value without the quotes around it. `None` if it is not quoted.
pub(super) fn unquoted(value: &str) -> Option<&str> {
    QUOTES.iter().find_map(|(open, close)| {
        let inner = value.strip_prefix(*open)?.strip_suffix(*close)?;
        Some(inner.trim())
    })
}

/// Whether a value is shortened or marked as in a manual: `…`, `evg_…`, `<client id>`.
pub(super) fn is_shortened(value: &str) -> bool {
    let is_marked = value.starts_with('<') && value.ends_with('>');
    value == "..." || value.contains('…') || is_marked
}

/// Whether a secret or an id is a word of a manual, such as `changeme` or `your-client-id`.
pub(super) fn is_placeholder(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let is_yours = ["your-", "your_", "your "]
        .iter()
        .any(|begin| value.starts_with(begin));
    let is_crosses = value.len() >= 3 && value.bytes().all(|byte| byte == b'x');
    is_yours || is_crosses || PLACEHOLDERS.contains(&value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_around_a_value_are_found() {
        for (value, expected) in [
            ("\"abc\"", Some("abc")),
            ("'abc '", Some("abc")),
            ("“abc”", Some("abc")),
            ("\"\"", Some("")),
            ("\"", None),
            ("abc", None),
            ("\"abc", None),
            ("a\"b\"", None),
        ] {
            assert_eq!(unquoted(value), expected, "{value}");
        }
    }

    #[test]
    fn placeholders_are_recognised_and_real_values_are_not() {
        for value in ["…", "...", "evg_…", "<client id>"] {
            assert!(is_shortened(value), "{value}");
        }
        for value in ["a...b", "a<b>", "x", "redis://h:1/2"] {
            assert!(!is_shortened(value), "{value}");
        }
        for value in [
            "changeme",
            "ChangeMe",
            "your-client-id",
            "YOUR_SECRET",
            "XXXX",
        ] {
            assert!(is_placeholder(value), "{value}");
        }
        let real = "65f0c1d2e3a4b5c6d7e8f901-lx2abcde";
        for value in ["x", "s", "hunter2", "secret", "sandbox-secret", "app", real] {
            assert!(!is_placeholder(value), "{value}");
        }
    }
}
