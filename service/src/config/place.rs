//! Where a setting of a list of sections stands in the settings file.

use std::borrow::Cow;

/// The lists of sections that a settings file may have: `[[events]]`. A section's fields are settings
/// `events.NUMBER.FIELD`, with numbers from 1 on.
pub(super) const LISTS: [&str; 2] = ["events", "webhooks"];

/// A setting's name as messages show it: `[[events]] number 2: url` for `events.2.url`.
#[must_use]
pub fn place(key: &str) -> Cow<'_, str> {
    let Some((list, number, field)) = split(key) else {
        return key.into();
    };
    match field {
        "" => format!("[[{list}]] number {number}").into(),
        field => format!("[[{list}]] number {number}: {field}").into(),
    }
}

/// The number of a section of this list, if the setting is in one.
pub(super) fn number(list: &str, key: &str) -> Option<u32> {
    let (of, number, _) = split(key)?;
    (of == list).then_some(number)
}

/// The list, the number and the field.
fn split(key: &str) -> Option<(&str, u32, &str)> {
    let (list, rest) = key.split_once('.')?;
    let (number, field) = rest.split_once('.').unwrap_or((rest, ""));
    LISTS
        .contains(&list)
        .then_some((list, number.parse().ok()?, field))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::Settings;

    #[test]
    fn place_names_the_list_and_the_number() {
        assert_eq!(place("events.2.url"), "[[events]] number 2: url");
        assert_eq!(place("webhooks.10"), "[[webhooks]] number 10");
        for key in ["EVERGREEN_LISTEN", "apps.2.scopes", "events", "events.x.y"] {
            assert_eq!(place(key), key);
        }
    }

    #[test]
    fn mistakes_in_a_list_of_sections_name_the_place() {
        let entries = [
            ("events.2.url", "nonsense"),
            ("events.10.secret", "x"),
            ("events.10.secret_file", "/nowhere"),
            ("webhooks.1.colour", "red"),
        ];
        let entries = entries.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let source = HashMap::from(entries);
        let mut settings = Settings::new(&source);
        assert_eq!(settings.list("events"), ["events.2", "events.10"]);
        assert_eq!(settings.list("webhooks"), ["webhooks.1"]);
        assert!(settings.list("apps").is_empty());
        settings.url_optional("events.2.url");
        settings.secret("events.10.secret");
        settings.check_section("webhooks.1", &["url"]);
        let mistakes = settings.finish(()).unwrap_err().to_string();
        let lines: Vec<&str> = mistakes.lines().collect();
        assert!(lines[0].starts_with("[[events]] number 2: url must be an http"));
        assert_eq!(
            lines[1..],
            [
                "[[events]] number 10: secret and [[events]] number 10: secret_file are both set: keep one",
                "[[webhooks]] number 1: colour is no setting: there are url"
            ]
        );
    }
}
