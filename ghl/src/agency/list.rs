//! A page of an agency's locations, in either spelling of GHL's API.

use serde::Deserialize;
use serde_json::Value;

/// How many locations a page has at most.
pub const PAGE_SIZE: usize = 100;

/// A page of the locations with the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocationPage {
    /// The ids of locations on which the app is installed.
    pub installed: Vec<String>,
    /// How many locations the page has, with and without the app.
    pub length: usize,
    /// How many locations there are on all pages. `None` if GHL does not say it.
    pub total: Option<usize>,
    /// Whether the app is installed on later locations, too. `None` if GHL does not say it.
    pub is_for_future_locations: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    /// `items` is the spelling of API v3.
    #[serde(alias = "items")]
    locations: Vec<Value>,
    count: Option<Value>,
    install_to_future_locations: Option<Value>,
}

impl LocationPage {
    /// Parses a page. An entry without an id is left out.
    ///
    /// # Errors
    /// If the body is not a page. The text says where, and repeats nothing.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let body: Body = serde_json::from_slice(body)
            .map_err(|error| format!("line {}, column {}", error.line(), error.column()))?;
        let installed = body.locations.iter().filter(|entry| is_installed(entry));
        Ok(Self {
            installed: installed.filter_map(id).collect(),
            length: body.locations.len(),
            total: body.count.as_ref().and_then(number),
            is_for_future_locations: body.install_to_future_locations.as_ref().and_then(flag),
        })
    }

    /// Whether no page follows. `from` counts the locations before this page. A page that is not full says little: GHL may
    /// give fewer locations than it was asked for.
    #[must_use]
    pub const fn is_last(&self, from: usize) -> bool {
        match self.total {
            Some(_) | None if self.length == 0 => true,
            Some(total) => from + self.length >= total,
            None => self.length < PAGE_SIZE,
        }
    }
}

/// Without a statement the location has the app, because the request asks for such locations.
fn is_installed(entry: &Value) -> bool {
    entry.get("isInstalled").and_then(flag).unwrap_or(true)
}

fn id(entry: &Value) -> Option<String> {
    let id = ["_id", "id", "locationId"]
        .into_iter()
        .find_map(|name| entry.get(name))?;
    id.as_str().map(str::to_owned)
}

/// A boolean, or its text.
fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A count, or its text.
fn number(value: &Value) -> Option<usize> {
    match value {
        Value::Number(number) => number.as_u64()?.try_into().ok(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        let older = br#"{"locations":[{"_id":"a","name":"x","isInstalled":true},{"_id":"b","isInstalled":false},
            {"_id":"c","isInstalled":"true"},{"name":"no id"}],"count":4,"installToFutureLocations":true}"#;
        let page = LocationPage::parse(older).unwrap();
        assert_eq!(page.installed, ["a", "c"]);
        assert_eq!((page.length, page.total), (4, Some(4)));
        assert_eq!(page.is_for_future_locations, Some(true));
        let newer = br#"{"items":[{"id":"a"}],"pagination":{"hasNextPage":false}}"#;
        let page = LocationPage::parse(newer).unwrap();
        assert_eq!(page.installed, ["a"]);
        assert_eq!((page.is_for_future_locations, page.total), (None, None));
    }

    #[test]
    fn page_is_the_last_by_the_total_or_else_by_its_length() {
        for (from, length, total, expected) in [
            // GHL gives fewer than it was asked for.
            (0, 20, Some(45), false),
            (20, 20, Some(45), false),
            (40, 5, Some(45), true),
            (0, PAGE_SIZE, Some(PAGE_SIZE), true),
            (0, PAGE_SIZE, None, false),
            (0, PAGE_SIZE - 1, None, true),
            // The total may count locations without the app.
            (40, 0, Some(45), true),
            (0, 0, None, true),
        ] {
            let page = LocationPage {
                installed: Vec::new(),
                length,
                total,
                is_for_future_locations: None,
            };
            assert_eq!(page.is_last(from), expected, "{from} {length} {total:?}");
        }
    }

    #[test]
    fn another_body_is_refused_without_repeating_it() {
        for body in ["", "{}", "[]", r#"{"locations":"secret"}"#, "<html>"] {
            let error = LocationPage::parse(body.as_bytes()).unwrap_err();
            assert!(error.starts_with("line "), "{error}");
        }
    }
}
