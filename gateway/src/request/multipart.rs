//! Reads fields of a multipart form in memory, in one pass over its bytes. The form is not changed.

use std::borrow::Cow;

/// The fields with these names that are not empty. Of several fields with one name, the first counts. Files are no
/// fields. A form that ends within a part has the fields before that part.
pub(crate) fn texts<'b, const N: usize>(
    body: &'b [u8],
    content_type: &str,
    names: [&str; N],
) -> [Option<Cow<'b, str>>; N] {
    let mut found = [const { None }; N];
    let boundary = parameter(content_type, "boundary").unwrap_or_default();
    if boundary.is_empty() {
        return found;
    }
    for part in Parts::of(body, &boundary) {
        let Some((name, value)) = field(part) else {
            continue;
        };
        if let Some(at) = names.iter().position(|wanted| *wanted == name) {
            found[at].get_or_insert_with(|| String::from_utf8_lossy(value));
        }
    }
    found
}

/// The complete parts of a form, each with its headers.
struct Parts<'b> {
    rest: &'b [u8],
    /// A line break and the delimiter.
    delimiter: Vec<u8>,
}

impl<'b> Parts<'b> {
    fn of(body: &'b [u8], boundary: &str) -> Self {
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        // The first delimiter may be at the start of the body, without a line break before it.
        let mut parts = Self {
            rest: body,
            delimiter,
        };
        let after = body.strip_prefix(&parts.delimiter[2..]);
        match after.and_then(after_delimiter) {
            Some(rest) => parts.rest = rest,
            None if after.is_some_and(|after| after.starts_with(b"--")) => parts.rest = b"",
            None => drop(parts.next()),
        }
        parts
    }
}

impl<'b> Iterator for Parts<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let part = self.rest;
        let mut from = 0;
        while let Some(at) = find(&part[from..], &self.delimiter) {
            let end = from + at;
            let after = end + self.delimiter.len();
            if part[after..].starts_with(b"--") {
                self.rest = b"";
                return Some(&part[..end]);
            }
            if let Some(rest) = after_delimiter(&part[after..]) {
                self.rest = rest;
                return Some(&part[..end]);
            }
            // The part's content only begins like a delimiter.
            from = after;
        }
        self.rest = b"";
        None
    }
}

/// The bytes after the rest of a delimiter's line. The line break stays, since the part's headers may be empty.
fn after_delimiter(bytes: &[u8]) -> Option<&[u8]> {
    let padding = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
    let rest = &bytes[padding.count()..];
    rest.starts_with(b"\r\n").then_some(rest)
}

/// The name and the value of a part that is a field.
fn field(part: &[u8]) -> Option<(String, &[u8])> {
    const END_OF_HEADERS: &[u8] = b"\r\n\r\n";
    let end = find(part, END_OF_HEADERS)?;
    let headers = String::from_utf8_lossy(&part[..end]);
    let value = &part[end + END_OF_HEADERS.len()..];
    let headers = headers
        .split("\r\n")
        .filter_map(|line| line.split_once(':'));
    let mut dispositions = headers
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
        .map(|(_, value)| value);
    let disposition = dispositions.next()?;
    let is_file = ["filename", "filename*"]
        .iter()
        .any(|name| parameter(disposition, name).is_some());
    if is_file || value.is_empty() {
        return None;
    }
    Some((parameter(disposition, "name")?, value))
}

/// The value of a header's parameter, such as `name` in `form-data; name="locationId"`.
fn parameter(header: &str, wanted: &str) -> Option<String> {
    let (_, mut rest) = header.split_once(';')?;
    loop {
        let (before, after) = rest.split_once('=')?;
        // A parameter without a value may be before it.
        let name = before.rsplit(';').next().unwrap_or(before).trim();
        let (value, others) = parameter_value(after.trim_start());
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = others;
    }
}

/// The value at the start of a text, and the text after it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_once(';').unwrap_or((text, ""));
        return (value.trim().to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(char) = chars.next() {
        let is_escape = char == '\\' && chars.as_str().starts_with(['"', '\\']);
        match char {
            '"' => break,
            _ if is_escape => value.extend(chars.next()),
            _ => value.push(char),
        }
    }
    (value, chars.as_str())
}

/// The index of the first occurrence.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = wanted.first()?;
    let mut windows = bytes.windows(wanted.len());
    windows.position(|window| window.first() == Some(first) && window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XX";
    const FIELD: &str = "--XX\r\nContent-Disposition: form-data; name=\"locationId\"\r\n\r\nL\r\n";
    const END: &str = "--XX--\r\n";

    fn location(body: &str) -> Option<String> {
        let [location] = texts(body.as_bytes(), TYPE, ["locationId"]);
        location.map(Cow::into_owned)
    }

    #[test]
    fn field_is_found_among_other_parts() {
        let file = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\
            Content-Type: text/plain\r\n\r\n\r\n--XXX\r\n--X\r\n\r\n\r\n";
        let no_headers = "--XX\r\n\r\nname=\"locationId\"\r\n";
        for body in [
            format!("{FIELD}{END}"),
            format!("{file}{FIELD}{END}"),
            format!("{file}{no_headers}{FIELD}{file}{END}"),
            format!("preamble\r\n{FIELD}{END}"),
            format!("--XXX\r\n{FIELD}{END}"),
            format!("{}--XX--", FIELD.replace("--XX\r\n", "--XX \t\r\n")),
        ] {
            assert_eq!(location(&body).as_deref(), Some("L"), "{body}");
        }
    }

    #[test]
    fn spelling_of_the_headers_does_not_hide_a_field() {
        for header in [
            "content-disposition:form-data;name=locationId",
            "X: y\r\nCONTENT-DISPOSITION : form-data; flag; NAME = \"locationId\" ; x=y",
            "Content-Disposition: form-data; x=\"a;\\\"name=b\"; name=\"locationId\"; name=z",
        ] {
            let body = format!("--XX\r\n{header}\r\n\r\nL\r\n{END}");
            assert_eq!(location(&body).as_deref(), Some("L"), "{header}");
        }
    }

    #[test]
    fn first_field_that_is_not_empty_counts() {
        let (empty, second) = (FIELD.replace('L', ""), FIELD.replace('L', "M"));
        let body = format!("{empty}{FIELD}{second}{END}");
        assert_eq!(location(&body).as_deref(), Some("L"));
    }

    #[test]
    fn files_and_incomplete_or_foreign_parts_are_no_fields() {
        let file = FIELD.replace("\"\r\n\r\n", "\"; filename=\"x\"\r\n\r\n");
        for body in [
            format!("{file}{END}"),
            FIELD.to_owned(),
            format!("{END}{FIELD}{END}"),
            FIELD.replace("XX", "YY") + "--YY--",
            format!("--XX\r\nX: {FIELD}"),
            String::new(),
            "--XX".to_owned(),
        ] {
            assert_eq!(location(&body), None, "{body}");
        }
        let body = format!("{FIELD}{END}");
        for content_type in ["multipart/form-data", "multipart/form-data; boundary=\"\""] {
            assert_eq!(texts(body.as_bytes(), content_type, ["locationId"]), [None]);
        }
    }

    #[test]
    fn boundary_may_be_quoted() {
        let body = FIELD.replace("XX", "a;b \"") + "--a;b \"--";
        let content_type = r#"multipart/form-data; charset=utf-8; Boundary="a;b \"""#;
        let [location] = texts(body.as_bytes(), content_type, ["locationId"]);
        assert_eq!(location.as_deref(), Some("L"));
    }

    #[test]
    fn many_delimiters_are_read_in_one_pass() {
        let body = "--XX\r\n".repeat(20_000);
        let started = std::time::Instant::now();
        assert_eq!(location(&body), None);
        assert!(started.elapsed().as_secs() < 5);
    }
}
