//! A file of rows, taken apart: an array, one row a line, or a map of location ids to tokens.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::RowError;
use super::fields::is_token_name;

/// Where a row is in its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line, from 1.
    Line(usize),
    /// An element of an array, from 1.
    Element(usize),
    /// A key of a map.
    Key(String),
    /// An entry of a map, from 1. Its key may be a secret.
    Entry(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Element(index) => write!(f, "element {index}"),
            Self::Key(key) => write!(f, "key {key}"),
            Self::Entry(index) => write!(f, "entry {index}"),
        }
    }
}

/// A row of a document, not yet parsed.
#[derive(Clone)]
pub struct Entry<'t> {
    /// Where it is.
    pub place: Place,
    /// Its key, if the document is a map.
    pub key: Option<String>,
    /// Its JSON.
    pub raw: Result<&'t str, RowError>,
}

/// Without the row, which has tokens.
impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(&self.place).finish()
    }
}

/// Why a document has no rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is empty.
    #[error(
        "it is empty: it needs a JSON array of rows, one row a line, or a map of location ids to tokens"
    )]
    Empty,
    /// It is not JSON.
    #[error("it is not JSON: parsing stopped at line {line}, column {column}")]
    NotJson {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// It is JSON of another shape.
    #[error(
        "it has no rows: it needs a JSON array of rows, one row a line, or a map of location ids to tokens"
    )]
    NoRows,
}

impl DocumentError {
    fn of(error: &serde_json::Error) -> Self {
        Self::NotJson {
            line: error.line(),
            column: error.column(),
        }
    }
}

/// The rows of a document.
///
/// # Errors
/// See [`DocumentError`]. A bad line among others is an [`Entry`] without JSON.
pub fn split(text: &str) -> Result<Vec<Entry<'_>>, DocumentError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.trim_start().chars().next() {
        None => Err(DocumentError::Empty),
        Some('[') => match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(rows) => Ok(elements(&rows)),
            Err(error) => Err(DocumentError::of(&error)),
        },
        Some('{') => match has_lines(text) {
            true => Ok(split_lines(text)),
            false => object(text),
        },
        Some(_) if has_lines(text) => Ok(split_lines(text)),
        Some(_) => match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => Err(DocumentError::NoRows),
            Err(error) => Err(DocumentError::of(&error)),
        },
    }
}

/// One row a line. Empty lines are skipped.
#[must_use]
pub fn split_lines(text: &str) -> Vec<Entry<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = (1..).zip(text.lines());
    let lines = lines.map(|(number, line)| (number, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| Entry {
            place: Place::Line(number),
            key: None,
            raw: json(line),
        })
        .collect()
}

fn json(line: &str) -> Result<&str, RowError> {
    let raw: Result<&RawValue, _> = serde_json::from_str(line);
    raw.map(RawValue::get).map_err(|error| RowError::NotJson {
        line: error.line(),
        column: error.column(),
    })
}

/// Whether the document has one row a line. A single object may be in several lines.
fn has_lines(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_object = |line: &str| line.starts_with('{') && json(line).is_ok();
    let is_first = lines.next().is_some_and(is_object);
    let has_more = lines.next().is_some();
    has_more && (is_first || (json(text).is_err() && text.lines().map(str::trim).any(is_object)))
}

fn elements<'t>(rows: &[&'t RawValue]) -> Vec<Entry<'t>> {
    let rows = (1..).zip(rows);
    rows.map(|(index, raw)| Entry {
        place: Place::Element(index),
        key: None,
        raw: Ok(raw.get()),
    })
    .collect()
}

/// A map, or one row.
fn object(text: &str) -> Result<Vec<Entry<'_>>, DocumentError> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let members = parser
        .deserialize_map(Members)
        .and_then(|members| parser.end().map(|()| members))
        .map_err(|error| DocumentError::of(&error))?;
    if members.iter().any(|(name, _)| is_token_name(name)) {
        return Ok(vec![Entry {
            place: Place::Line(1),
            key: None,
            raw: Ok(text.trim()),
        }]);
    }
    let is_token = |raw: &RawValue| raw.get().starts_with(['{', '"']);
    if members.is_empty() || !members.iter().all(|(_, raw)| is_token(raw)) {
        return Err(DocumentError::NoRows);
    }
    let entries = (1..).zip(members);
    let entries = entries.map(|(index, (key, raw))| Entry {
        place: match is_id(&key) {
            true => Place::Key(key.clone()),
            false => Place::Entry(index),
        },
        key: Some(key),
        raw: Ok(raw.get()),
    });
    Ok(entries.collect())
}

/// Whether a key can be shown: it looks like an id of GHL, and not like a token.
fn is_id(key: &str) -> bool {
    const LONGEST: usize = 32;
    (1..=LONGEST).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The members of an object in their order. A key may occur twice.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}
