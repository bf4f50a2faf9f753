//! Texts for a terminal: their width, and without what could control it.

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text without line breaks and control characters. Somebody else may have chosen it, and an escape sequence could
/// hide or forge what the terminal shows.
pub(crate) fn clean(text: &str) -> String {
    let replaced = text.chars().map(|it| match it {
        '\n' | '\r' | '\t' => ' ',
        // These reverse the order of what follows.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        it if it.is_control() => char::REPLACEMENT_CHARACTER,
        it => it,
    });
    replaced.collect()
}

/// A member of an object as text. `-` if it is missing or `null`.
pub(crate) fn member(value: &Value, name: &str) -> String {
    in_words(&value[name])
}

/// A JSON value as text: `-` for nothing, `yes` and `no`, and lists separated by commas.
pub(crate) fn in_words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => clean(text),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(in_words).collect::<Vec<_>>().join(", "),
        Value::Object(_) => clean(&value.to_string()),
    }
}

/// A member with a time in UTC, such as `2026-12-01T10:11:12.345Z`, without its fraction of a second. `-` for nothing.
pub(crate) fn time(value: &Value, name: &str) -> String {
    let text = member(value, name);
    match (text.split_once('T'), text.strip_suffix('Z')) {
        (Some((date, _)), Some(until)) if date.len() == 10 => {
            let time = until.get(11..).unwrap_or_default();
            let seconds = time.split('.').next().unwrap_or_default();
            format!("{date} {seconds}Z")
        }
        _ => text,
    }
}

/// The columns that the text takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The beginning of the text, with an ellipsis if it has more columns than `most`.
pub(super) fn shorten(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > most {
            break;
        }
        kept.push(character);
    }
    kept + "…"
}

/// A name of the API in words: `lastError` is `last error`.
pub(super) fn spaced(name: &str) -> String {
    let mut words = String::new();
    for character in name.chars() {
        if character.is_uppercase() || character == '_' {
            words.push(' ');
        }
        if character != '_' {
            words.extend(character.to_lowercase());
        }
    }
    words.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let cleaned = clean("a\x1b[2Jb\nc\u{9b}d\u{202e}e");
        assert_eq!(cleaned, "a\u{fffd}[2Jb c\u{fffd}d\u{fffd}e");
        assert_eq!(clean("größe 漢字"), "größe 漢字");
    }

    #[test]
    fn values_are_shown_in_words() {
        let object = json!({
            "none": null, "empty": "", "yes": true, "count": 3, "tags": ["a", "b"], "no_tags": [],
        });
        let shown = ["none", "empty", "yes", "count", "tags", "no_tags", "absent"];
        let shown = shown.map(|name| member(&object, name));
        assert_eq!(shown, ["-", "-", "yes", "3", "a, b", "-", "-"]);
    }

    #[test]
    fn time_is_shown_to_the_second() {
        let object =
            json!({ "at": "2026-12-01T10:11:12.345Z", "day": "2026-12-01", "odd": "2026-12-01TZ" });
        assert_eq!(time(&object, "at"), "2026-12-01 10:11:12Z");
        assert_eq!(time(&object, "day"), "2026-12-01");
        assert_eq!(time(&object, "odd"), "2026-12-01 Z");
        assert_eq!(time(&object, "absent"), "-");
    }

    #[test]
    fn text_is_shortened_to_columns_and_not_to_characters() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdef", 5), "abcd…");
        // Each of these takes two columns.
        assert_eq!(width("漢字漢字"), 8);
        assert_eq!(shorten("漢字漢字", 6), "漢字…");
        assert_eq!(width(&shorten("漢字漢字", 6)), 5);
        assert_eq!(shorten("ab", 1), "…");
    }

    #[test]
    fn name_of_the_api_becomes_words() {
        assert_eq!(spaced("lastError"), "last error");
        assert_eq!(spaced("installationId"), "installation id");
        assert_eq!(spaced("expires_at"), "expires at");
        assert_eq!(spaced("app"), "app");
    }
}
