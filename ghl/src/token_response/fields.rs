//! The fields of a response. Each is parsed on its own, so that a malformed one affects no other.

use std::collections::BTreeMap;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ParseError;

/// The fields of an object, not yet parsed.
type Object<'t> = BTreeMap<String, &'t RawValue>;

/// The field that may wrap the whole response.
const WRAPPER: &str = "data";

/// The object that holds the fields of the response.
pub(super) struct Fields<'t>(Object<'t>);

impl<'t> Fields<'t> {
    /// Finds the object: the outermost one, or the one that it wraps.
    ///
    /// # Errors
    /// [`ParseError::NotJson`] if there is none.
    pub(super) fn find(text: &'t str) -> Result<Self, ParseError> {
        let outer = Self(object(text).map_err(|error| ParseError::NotJson {
            line: error.line(),
            column: error.column(),
        })?);
        if outer.access_token().is_some() {
            return Ok(outer);
        }
        let inner = outer.0.get(WRAPPER);
        let inner = inner.and_then(|inner| object(inner.get()).ok()).map(Self);
        Ok(inner.unwrap_or(outer))
    }

    pub(super) fn access_token(&self) -> Option<SecretString> {
        self.token("access_token", "accessToken")
    }

    /// A token: visible ASCII only (RFC 6749), because it is sent in a header.
    pub(super) fn token(&self, snake: &str, camel: &str) -> Option<SecretString> {
        self.first(snake, camel, |raw| {
            let text = Zeroizing::new(text(raw)?);
            let token = text.trim();
            let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
            is_token.then(|| SecretString::from(token))
        })
    }

    /// An id or a word, as a string or a whole number.
    pub(super) fn name(&self, snake: &str, camel: &str) -> Option<String> {
        self.first(snake, camel, |raw| {
            let name = text(raw).or_else(|| {
                let number = raw.get();
                let is_whole = number.bytes().all(|byte| byte.is_ascii_digit());
                is_whole.then(|| number.to_owned())
            })?;
            let name = name.trim();
            (!name.is_empty()).then(|| name.to_owned())
        })
    }

    /// A boolean, also as a string or a number.
    pub(super) fn flag(&self, snake: &str, camel: &str) -> Option<bool> {
        self.first(snake, camel, |raw| {
            let word = text(raw).unwrap_or_else(|| raw.get().to_owned());
            match word.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" => Some(true),
                "false" | "0" | "no" => Some(false),
                _ => None,
            }
        })
    }

    /// The scopes, separated by spaces. Read from a string or an array, separated by commas or white space.
    pub(super) fn scope(&self) -> Option<String> {
        self.first("scope", "scopes", |raw| {
            let parts = match text(raw) {
                Some(one) => vec![one],
                None => {
                    let list: Vec<&RawValue> = serde_json::from_str(raw.get()).ok()?;
                    list.into_iter().filter_map(text).collect()
                }
            };
            let is_separator = |c: char| c == ',' || c.is_whitespace();
            let scopes: Vec<&str> = parts
                .iter()
                .flat_map(|part| part.split(is_separator))
                .filter(|scope| !scope.is_empty())
                .collect();
            (!scopes.is_empty()).then(|| scopes.join(" "))
        })
    }

    /// The stated lifetime, without quotes. `None` if absent.
    pub(super) fn expires_in(&self) -> Option<String> {
        self.first("expires_in", "expiresIn", |raw| {
            let stated = text(raw).unwrap_or_else(|| raw.get().to_owned());
            let stated = stated.trim();
            (!stated.is_empty() && stated != "null").then(|| stated.to_owned())
        })
    }

    /// The first spelling of a field that can be parsed.
    fn first<T>(
        &self,
        snake: &str,
        camel: &str,
        read: impl Fn(&'t RawValue) -> Option<T>,
    ) -> Option<T> {
        [snake, camel]
            .iter()
            .find_map(|name| read(self.0.get(*name)?))
    }
}

/// Parses the first value of the text as an object. Trailing text is ignored.
fn object(text: &str) -> serde_json::Result<Object<'_>> {
    Object::deserialize(&mut serde_json::Deserializer::from_str(text))
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}
