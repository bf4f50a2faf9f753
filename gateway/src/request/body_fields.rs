//! The top-level fields of a body: of a JSON object, a form, or a multipart form.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::{headers, json, multipart, query};

/// The formats whose fields are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Form,
    Multipart,
}

impl Format {
    /// By the `Content-Type`.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let media_type = headers::media_type(headers)?;
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        if is("application/json") {
            Some(Self::Json)
        } else if is("application/x-www-form-urlencoded") {
            Some(Self::Form)
        } else if is("multipart/form-data") {
            Some(Self::Multipart)
        } else {
            None
        }
    }
}

/// A body in memory, or its beginning, whose fields can be read.
#[derive(Debug, Clone, Default)]
pub(crate) enum BodyFields<'b> {
    #[default]
    None,
    Json(Cow<'b, [u8]>),
    Form(Cow<'b, [u8]>),
    Multipart {
        body: Cow<'b, [u8]>,
        content_type: &'b str,
    },
}

impl<'b> BodyFields<'b> {
    pub(crate) fn of(headers: &'b HeaderMap, body: Cow<'b, [u8]>) -> Self {
        if body.is_empty() {
            return Self::None;
        }
        match Format::of(headers) {
            None => Self::None,
            Some(Format::Json) => Self::Json(body),
            Some(Format::Form) => Self::Form(body),
            Some(Format::Multipart) => {
                let content_type = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
                let content_type = content_type.unwrap_or_default();
                Self::Multipart { body, content_type }
            }
        }
    }

    /// Of the beginning of a body. The fields that are complete there count. JSON has no fields before its end.
    pub(crate) fn of_beginning(headers: &'b HeaderMap, beginning: &'b [u8]) -> Self {
        match Self::of(headers, Cow::Borrowed(beginning)) {
            Self::None | Self::Json(_) => Self::None,
            Self::Form(_) => {
                let end = beginning.iter().rposition(|byte| *byte == b'&');
                Self::Form(Cow::Borrowed(&beginning[..end.unwrap_or(0)]))
            }
            // A part that has no end yet is no field.
            multipart @ Self::Multipart { .. } => multipart,
        }
    }

    /// The fields with these names that are texts and not empty. A body that does not have the format has none here.
    /// GHL validates it. Invalid UTF-8 is replaced, as GHL's own parsers do, so that it hides no field.
    pub(crate) fn texts<const N: usize>(&self, names: [&str; N]) -> [Option<String>; N] {
        match self {
            Self::None => [const { None }; N],
            Self::Json(body) => {
                let body = String::from_utf8_lossy(body);
                let members = json::members(body.as_bytes(), names).unwrap_or([None; N]);
                members.map(json::text)
            }
            Self::Form(body) => {
                let body = json::without_byte_order_mark(body);
                form(&String::from_utf8_lossy(body), names)
            }
            Self::Multipart { body, content_type } => {
                let texts = multipart::texts(body, content_type, names);
                texts.map(|text| text.map(Cow::into_owned))
            }
        }
    }
}

/// Of several fields with one name, the first counts.
fn form<const N: usize>(body: &str, names: [&str; N]) -> [Option<String>; N] {
    let mut found = [const { None }; N];
    for (name, raw) in query::pairs(body).filter(|(_, raw)| !raw.is_empty()) {
        let name = query::decoded(name);
        if let Some(at) = names.iter().position(|wanted| *wanted == name) {
            found[at].get_or_insert_with(|| query::decoded(raw).into_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NAMES: [&str; 2] = ["locationId", "companyId"];

    fn texts(content_type: &'static str, body: &str) -> [Option<String>; 2] {
        let value = HeaderValue::from_static(content_type);
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
        BodyFields::of(&headers, body.as_bytes().into()).texts(NAMES)
    }

    #[test]
    fn fields_are_read_by_content_type() {
        let both = ["L", "C"].map(|text| Some(text.to_owned()));
        let none = [None, None];
        let json = r#"{"companyId":"C","locationId":"L"}"#;
        let form = "x=1&companyId=C&locationId=L";
        let multipart = "--b\r\nContent-Disposition: form-data; name=\"companyId\"\r\n\r\nC\r\n\
            --b\r\nContent-Disposition: form-data; name=\"locationId\"\r\n\r\nL\r\n--b--\r\n";
        let urlencoded = "application/x-www-form-urlencoded";
        let marked = |body: &str| format!("\u{feff}{body}");
        for (content_type, body, expected) in [
            ("application/json; charset=utf-8", json, &both),
            (urlencoded, form, &both),
            ("Multipart/Form-Data; boundary=b", multipart, &both),
            ("application/json", &marked(json), &both),
            (urlencoded, &marked("locationId=L&companyId=C"), &both),
            ("application/json", form, &none),
            (urlencoded, json, &none),
            ("multipart/form-data", multipart, &none),
            ("text/plain", json, &none),
        ] {
            assert_eq!(&texts(content_type, body), expected, "{content_type}");
        }
    }

    #[test]
    fn first_field_of_a_form_counts_however_it_is_written() {
        let body = "locationId=&location%49d=L+%4c&locationId=second&companyId";
        let [location, company] = texts("application/x-www-form-urlencoded", body);
        assert_eq!(location.as_deref(), Some("L L"));
        assert_eq!(company, None);
    }

    #[test]
    fn beginning_of_a_form_has_the_fields_that_are_complete() {
        let part =
            "--b\r\nContent-Disposition: form-data; name=\"locationId\"\r\n\r\nLOC1\r\n--b\r\n";
        let location = |content_type: &'static str, beginning: &str| {
            let value = HeaderValue::from_static(content_type);
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
            let fields = BodyFields::of_beginning(&headers, beginning.as_bytes());
            let [location] = fields.texts(["locationId"]);
            location
        };
        let urlencoded = "application/x-www-form-urlencoded";
        let multipart = "multipart/form-data; boundary=b";
        for (content_type, beginning, expected) in [
            (urlencoded, "a=1&locationId=LOC1&b", Some("LOC1")),
            (urlencoded, "a=1&locationId=LOC", None),
            (urlencoded, "locationId=LOC1", None),
            (multipart, part, Some("LOC1")),
            (multipart, &part[..part.len() - 8], None),
            ("application/json", r#"{"locationId":"LOC1"}"#, None),
        ] {
            let found = location(content_type, beginning);
            assert_eq!(found.as_deref(), expected, "{beginning}");
        }
    }
}
