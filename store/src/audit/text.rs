//! Text from outside, such as the name of a key, as it may stand in a log.

use serde::Serialize;

use crate::caller::KEY_PREFIX;

/// The most characters that are kept.
const MOST: usize = 80;

/// Characters of a key after its prefix from which on it is taken for one.
const DIGITS_OF_A_KEY: usize = 8;

/// Text without characters that act on a terminal or on the direction of writing, without keys, and short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CleanText(String);

impl CleanText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: AsRef<str>> From<T> for CleanText {
    fn from(text: T) -> Self {
        let text = text.as_ref();
        if has_key(text) {
            return Self("(it has a key in it)".to_owned());
        }
        let mut shown = text.chars().map(|c| if acts(c) { '\u{fffd}' } else { c });
        let mut kept: String = shown.by_ref().take(MOST).collect();
        if shown.next().is_some() {
            kept.push('…');
        }
        Self(kept)
    }
}

/// Whether the text contains something that may be a key of evergreen.
fn has_key(text: &str) -> bool {
    let after = text.split(KEY_PREFIX).skip(1);
    after
        .map(|rest| rest.bytes().take_while(u8::is_ascii_alphanumeric).count())
        .any(|digits| digits >= DIGITS_OF_A_KEY)
}

/// Whether the character acts instead of being shown: control characters, line separators, those without a width, and
/// those that change the direction of writing.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::caller::new_key;

    #[test]
    fn text_cannot_act_on_a_terminal_or_forge_a_line() {
        let clean = CleanText::from("crm\n\u{1b}[31m\u{202e}evil\u{2028}");
        assert_eq!(
            clean.as_str(),
            "crm\u{fffd}\u{fffd}[31m\u{fffd}evil\u{fffd}"
        );
        assert_eq!(CleanText::from("Käufer №1").as_str(), "Käufer №1");
    }

    #[test]
    fn text_is_short_and_has_no_key() {
        let long = CleanText::from("x".repeat(1000));
        assert_eq!(long.as_str().chars().count(), MOST + 1);
        let key = new_key();
        for text in [key.expose_secret(), &key.expose_secret()[..20]] {
            let clean = CleanText::from(format!("key of {text}!"));
            assert!(!clean.as_str().contains("evg_"), "{clean:?}");
        }
        assert_eq!(CleanText::from("evg_old").as_str(), "evg_old");
    }
}
