//! The fields of a row, under normalized names: lower case without `_`, so `access_token` is `accessToken`.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Map, Value};

use super::RowError;
use crate::webhook::time_ms;

/// More than any token of GHL has.
const MAX_TOKEN_BYTES: usize = 32 * 1024;
const MAX_EXTERNAL_ID: usize = 128;
const MAX_TAGS: usize = 16;
const MAX_TAG: usize = 64;
/// Members under which some backends keep the token response in a row.
const NESTED: [&str; 5] = ["tokens", "token", "oauth", "session", "data"];
/// The years 2018 and 2100, in milliseconds. A number outside of them is a lifetime, or in another unit.
const POSSIBLE_MS: std::ops::Range<i64> = 1_514_764_800_000..4_102_444_800_000;
/// The key of a document in MongoDB. Its name is not normalized: `id` is another field.
const KEY: &str = "_id";
/// The hex digits of an id that MongoDB made.
const OBJECT_ID_DIGITS: usize = 24;

/// Fields by their normalized names. `null` counts as absent.
pub(super) struct Fields<'v>(BTreeMap<String, &'v Value>);

impl<'v> Fields<'v> {
    pub(super) fn of(object: &'v Map<String, Value>) -> Self {
        let mut fields = Self(BTreeMap::new());
        fields.add(object);
        if !has_token(object) {
            for name in NESTED {
                if let Some(Value::Object(inner)) = fields.0.get(name).copied()
                    && has_token(inner)
                {
                    fields.add(inner);
                }
            }
        }
        fields
    }

    /// Fields that are there already are kept.
    fn add(&mut self, object: &'v Map<String, Value>) {
        for (name, value) in object {
            if !value.is_null() {
                self.0.entry(normalized(name)).or_insert(value);
            }
        }
    }

    fn first(&self, names: &[&str]) -> Option<&'v Value> {
        names.iter().find_map(|name| self.0.get(*name).copied())
    }

    /// A text or a whole number, without white space around it.
    pub(super) fn name(&self, names: &[&str]) -> Option<String> {
        text(self.first(names)?)
    }

    /// A token. `shown`: its name in the error.
    pub(super) fn token(
        &self,
        names: &[&str],
        shown: &'static str,
    ) -> Result<Option<SecretString>, RowError> {
        let Some(value) = self.first(names) else {
            return Ok(None);
        };
        let token = match value {
            Value::String(text) => text.trim(),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => return Err(RowError::NotAToken(shown)),
        };
        if token.is_empty() {
            return Ok(None);
        }
        let is_token =
            token.len() <= MAX_TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic());
        match is_token {
            true => Ok(Some(token.into())),
            false => Err(RowError::NotAToken(shown)),
        }
    }

    /// The location or company, if its field does not say which of both it is: `resourceId` of GHL's SDK for Node.js, and
    /// `_id` of collections that use it as their key.
    pub(super) fn resource(&self) -> Option<String> {
        self.name(&["resourceid"]).or_else(|| {
            let id = self.0.get(KEY).copied().filter(|id| id.is_string());
            let id = id.and_then(text)?;
            let is_generated =
                id.len() == OBJECT_ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            (!is_generated).then_some(id)
        })
    }

    /// A time in milliseconds since the Unix epoch.
    pub(super) fn time(&self, names: &[&str]) -> Result<Option<i64>, RowError> {
        let Some(value) = self.first(names) else {
            return Ok(None);
        };
        let at = time(value).filter(|at| POSSIBLE_MS.contains(at));
        at.map(Some).ok_or(RowError::BadExpiry)
    }

    /// The scopes, from a text or an array, separated by one space.
    pub(super) fn scope(&self) -> String {
        let parts: Vec<&str> = match self.first(&["scope", "scopes"]) {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
                Vec::new()
            }
        };
        let is_separator = |c: char| c == ',' || c.is_whitespace();
        let words = parts.iter().flat_map(|part| part.split(is_separator));
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        words.join(" ")
    }

    pub(super) fn external_id(&self) -> Result<Option<String>, RowError> {
        let Some(value) = self.first(&["externalid"]) else {
            return Ok(None);
        };
        let id = text(value).filter(|id| is_short(id, MAX_EXTERNAL_ID));
        id.map(Some).ok_or(RowError::BadExternalId)
    }

    pub(super) fn tags(&self) -> Result<Vec<String>, RowError> {
        let tags = match self.first(&["tags"]) {
            None => return Ok(Vec::new()),
            Some(Value::Array(tags)) if tags.len() <= MAX_TAGS => tags,
            Some(_) => return Err(RowError::BadTags),
        };
        let tag = |tag: &Value| {
            let tag = tag.as_str()?.trim();
            is_short(tag, MAX_TAG).then(|| tag.to_owned())
        };
        let tags: Option<Vec<String>> = tags.iter().map(tag).collect();
        tags.ok_or(RowError::BadTags)
    }
}

/// Whether an object has a token of its own.
pub(super) fn has_token(object: &Map<String, Value>) -> bool {
    let is_one = |name: &String| is_token_name(name);
    object.keys().any(is_one)
}

/// Whether a member with this name is a token of a row.
pub(super) fn is_token_name(name: &str) -> bool {
    matches!(normalized(name).as_str(), "accesstoken" | "refreshtoken")
}

fn normalized(name: &str) -> String {
    if name == KEY {
        return name.to_owned();
    }
    let kept = name.chars().filter(|c| !matches!(c, '_' | '-'));
    kept.map(|c| c.to_ascii_lowercase()).collect()
}

fn is_short(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// A text, a whole number, or either in MongoDB's extended JSON.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(_) => text(extended(value)?),
        Value::Null | Value::Bool(_) | Value::Array(_) => None,
    }
}

/// The value inside `{"$numberLong": …}` and its like.
fn extended(value: &Value) -> Option<&Value> {
    const TYPES: [&str; 5] = [
        "$date",
        "$numberLong",
        "$numberInt",
        "$numberDouble",
        "$oid",
    ];
    let object = value.as_object().filter(|object| object.len() == 1)?;
    TYPES.iter().find_map(|name| object.get(*name))
}

fn time(value: &Value) -> Option<i64> {
    match value {
        Value::Object(_) => time(extended(value)?),
        Value::String(text) => {
            let text = text.trim();
            time_ms(&Value::from(text)).or_else(|| whole_time(text.parse().ok()?))
        }
        Value::Number(number) => time_ms(value).or_else(|| whole_time(number.as_f64()?)),
        Value::Null | Value::Bool(_) | Value::Array(_) => None,
    }
}

/// The time of a number that is written with a fraction or an exponent.
fn whole_time(number: f64) -> Option<i64> {
    time_ms(&Value::from(format!("{number:.0}")))
}
