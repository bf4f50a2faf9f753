//! Reads members of JSON bodies, and adds members, without serializing the body again. The caller's bytes stay
//! unchanged.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A body that is not a JSON object.
#[derive(Debug, thiserror::Error)]
#[error("The body must be a JSON object")]
pub(crate) struct NotAnObject;

/// The body without the byte order mark that some programs write before UTF-8.
pub(crate) fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}

/// The raw values of the members with these names, in the order of the names. A byte order mark is skipped.
pub(crate) fn members<'a, const N: usize>(
    body: &'a [u8],
    names: [&str; N],
) -> Result<[Option<&'a RawValue>; N], NotAnObject> {
    let mut input = serde_json::Deserializer::from_slice(without_byte_order_mark(body));
    let found = Members(names)
        .deserialize(&mut input)
        .map_err(|_| NotAnObject)?;
    input.end().map_err(|_| NotAnObject)?;
    Ok(found)
}

/// The text of a value, if it is a string and not empty.
pub(crate) fn text(value: Option<&RawValue>) -> Option<String> {
    let text: String = serde_json::from_str(value?.get()).ok()?;
    Some(text).filter(|text| !text.is_empty())
}

/// The object with the missing `defaults` inserted as its first members.
pub(crate) fn with_defaults<const N: usize>(
    body: &Bytes,
    defaults: [(&str, &str); N],
) -> Result<Bytes, NotAnObject> {
    let there = members(body, defaults.map(|(name, _)| name))?;
    let missing: Vec<String> = defaults
        .into_iter()
        .zip(there)
        .filter(|(_, there)| there.is_none())
        .map(|((name, value), _)| format!("\"{name}\":{}", quoted(value)))
        .collect();
    if missing.is_empty() {
        return Ok(body.clone());
    }
    let opening = body.iter().position(|byte| *byte == b'{');
    let (head, tail) = body.split_at(opening.ok_or(NotAnObject)? + 1);
    let is_empty = tail.trim_ascii_start().starts_with(b"}");
    let separator: &[u8] = if is_empty { b"" } else { b"," };
    Ok([head, missing.join(",").as_bytes(), separator, tail]
        .concat()
        .into())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

struct Members<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = [None; N];
        while let Some(index) = map.next_key_seed(Name(&self.0))? {
            match index {
                Some(index) => found[index] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Compares a member's name with the wanted ones without copying it.
struct Name<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|wanted| *wanted == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(body: &'static str) -> Result<String, NotAnObject> {
        let filled = with_defaults(&Bytes::from_static(body.as_bytes()), [("locationId", "L")])?;
        Ok(String::from_utf8(filled.to_vec()).unwrap())
    }

    #[test]
    fn only_top_level_members_are_found() {
        let body = br#" {"a":{"locationId":"inner"},"loc\u0061tionId":"L","companyId":7} "#;
        let [location, company] = members(body, ["locationId", "companyId"]).unwrap();
        assert_eq!(text(location).as_deref(), Some("L"));
        assert!(company.is_some() && text(company).is_none());
        assert_eq!(text(members(br#"{"a":""}"#, ["a"]).unwrap()[0]), None);
    }

    #[test]
    fn non_objects_are_rejected() {
        for body in [
            "",
            "[]",
            "null",
            "{",
            r#"{"a":1} x"#,
            r#"{"a" 1}"#,
            "\"{}\"",
        ] {
            assert!(members(body.as_bytes(), ["a"]).is_err(), "{body}");
            assert!(fill(body).is_err(), "{body}");
        }
    }

    #[test]
    fn missing_member_is_inserted_first_and_the_rest_is_unchanged() {
        for (body, expected) in [
            ("{}", r#"{"locationId":"L"}"#),
            (" {\n } ", " {\"locationId\":\"L\"\n } "),
            (
                r#"{ "name": "x",  "n":1.0 }"#,
                r#"{"locationId":"L", "name": "x",  "n":1.0 }"#,
            ),
            (r#"{"locationId":"other"}"#, r#"{"locationId":"other"}"#),
            (r#"{"locationId":null}"#, r#"{"locationId":null}"#),
            ("\u{feff}{}", "\u{feff}{\"locationId\":\"L\"}"),
        ] {
            assert_eq!(fill(body).unwrap(), expected);
        }
    }

    #[test]
    fn several_defaults_are_inserted_in_order() {
        let body = Bytes::from_static(br#"{"b":1}"#);
        let filled = with_defaults(&body, [("a", "x\"y"), ("b", "no"), ("c", "z")]).unwrap();
        assert_eq!(&filled[..], br#"{"a":"x\"y","c":"z","b":1}"#);
    }
}
