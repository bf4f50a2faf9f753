//! Valid token responses in undocumented shapes. Integrators report each of them of GHL or a similar
//! provider.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The unusual shape of a token response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Oddity {
    ScopeArray,
    /// `"true"` instead of `true`.
    BooleansAsText,
    CamelCase,
    ByteOrderMark,
    /// Inside `{"data": …}`.
    Wrapped,
    /// Compressed, without a header that says so.
    Gzip,
    /// `expires_in` is the rule's `value`.
    ExpiresIn,
    /// An HTML page instead of the response. The refresh token is spent.
    Unreadable,
    /// It names another location or company.
    Foreign,
}

/// The body with the unusual shape. A body without tokens is not changed.
pub(super) fn distort(body: &Bytes, oddity: Oddity, value: Option<&Value>) -> Bytes {
    let Ok(mut fields) = serde_json::from_slice::<Map<String, Value>>(body) else {
        return body.clone();
    };
    if !fields.contains_key("access_token") {
        return body.clone();
    }
    match oddity {
        Oddity::ScopeArray => {
            let scopes: Vec<String> = fields["scope"]
                .as_str()
                .into_iter()
                .flat_map(str::split_whitespace)
                .map(str::to_owned)
                .collect();
            fields.insert("scope".to_owned(), json!(scopes));
        }
        Oddity::BooleansAsText => {
            for field in fields.values_mut() {
                if let Value::Bool(flag) = field {
                    *field = json!(flag.to_string());
                }
            }
        }
        Oddity::CamelCase => {
            let renamed = fields
                .into_iter()
                .map(|(name, field)| (camel(&name), field));
            fields = renamed.collect();
        }
        Oddity::ByteOrderMark => return ["\u{feff}".as_bytes(), body].concat().into(),
        Oddity::Wrapped => return json!({ "data": fields }).to_string().into(),
        Oddity::Gzip => return gzip(body),
        Oddity::ExpiresIn => {
            fields.insert("expires_in".to_owned(), json!(value));
        }
        Oddity::Unreadable => return Bytes::from_static(b"<html>Just a moment...</html>"),
        Oddity::Foreign => {
            let name = ["locationId", "companyId"]
                .into_iter()
                .find(|name| fields.contains_key(*name));
            if let Some(name) = name {
                fields.insert(name.to_owned(), json!("somebody-else"));
            }
        }
    }
    Value::Object(fields).to_string().into()
}

fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut characters = word.chars();
        camel.extend(characters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(characters.as_str());
    }
    camel
}

fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing into memory does not fail.
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_without_tokens_are_not_changed() {
        let error = Bytes::from_static(br#"{"statusCode":400,"message":"no"}"#);
        assert_eq!(distort(&error, Oddity::Wrapped, None), error);
    }

    #[test]
    fn names_are_spelled_in_camel_case() {
        let names = ["access_token", "expires_in", "scope", "userType"].map(camel);
        assert_eq!(names, ["accessToken", "expiresIn", "scope", "userType"]);
    }
}
