//! Sentences of evergreen on a page: times are in the browser's time zone, and what is between backticks is code.

use std::fmt;

use askama::filters::HtmlSafe;

use super::Time;
use crate::api::html::escape;

/// A text. All of it is escaped, since names and messages of others are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prose(String);

/// The length of a time as RFC 3339 in UTC without fractions.
const TIME: usize = "2026-11-29T12:00:00Z".len();

impl<T: Into<String>> From<T> for Prose {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Prose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = self.0.split('`').collect();
        for (index, part) in parts.iter().enumerate() {
            let is_inside = index % 2 == 1;
            // A backtick without its partner is a character as any other.
            let is_closed = index + 1 < parts.len();
            match (is_inside, is_closed) {
                (true, true) => write!(f, "<code>{}</code>", escape(part))?,
                (true, false) => {
                    f.write_str("`")?;
                    write_with_times(f, part)?;
                }
                (false, _) => write_with_times(f, part)?,
            }
        }
        Ok(())
    }
}

impl HtmlSafe for Prose {}

fn write_with_times(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut rest = text;
    while let Some((before, time, after)) = first_time(rest) {
        write!(f, "{}{time}", escape(before))?;
        rest = after;
    }
    f.write_str(&escape(rest))
}

/// The first time in a text, and what is before and after it.
fn first_time(text: &str) -> Option<(&str, Time, &str)> {
    for (last, _) in text.match_indices('Z') {
        let end = last + 1;
        let start = end.checked_sub(TIME);
        let found = start.and_then(|start| Some((start, Time::parse(text.get(start..end)?)?)));
        if let Some((start, time)) = found {
            return Some((&text[..start], time, &text[end..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_code_are_marked_and_the_rest_is_escaped() {
        let html = |text: &str| Prose::from(text).to_string();
        assert_eq!(
            html("until 2026-11-29T12:00:00Z, <b> `evergreen <x>`."),
            "until <time datetime=\"2026-11-29T12:00:00Z\">2026-11-29 12:00:00 UTC</time>, &lt;b&gt; \
             <code>evergreen &lt;x&gt;</code>."
        );
        assert_eq!(
            html("ZZZ ü2026-11-29T12:00:00Z").matches("<time").count(),
            1
        );
        assert_eq!(html("a ` b"), "a ` b");
        assert_eq!(html("`a` ` b"), "<code>a</code> ` b");
        assert_eq!(html(""), "");
        assert_eq!(
            html("`<img onerror=1>`"),
            "<code>&lt;img onerror=1&gt;</code>"
        );
    }
}
