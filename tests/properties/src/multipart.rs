//! Fields of a multipart form: `gateway/src/request/multipart.rs`.
//!
//! Input: a line with the `Content-Type`, then the form.

use gateway::fuzzing::multipart_text;

use crate::input;

const NAME: &str = "locationId";

/// A field is part of the form. A field that is added before the others counts, and one that is added after them does
/// not hide an earlier one.
pub fn check(bytes: &[u8]) {
    let ([content_type], form) = input::lines(bytes);
    let content_type = input::text(content_type);
    let found = multipart_text(form, &content_type, NAME);
    if let Some(found) = &found {
        assert!(!found.is_empty());
        assert!(input::text(form).contains(found.as_str()));
    }

    let known = "multipart/form-data; boundary=evergreen-boundary";
    let field = |value: &str| {
        format!(
            "--evergreen-boundary\r\nContent-Disposition: form-data; name=\"{NAME}\"\r\n\r\n{value}\r\n"
        )
    };
    let mut file = b"\r\n".to_vec();
    file.extend_from_slice(form);
    let delimiter = b"\r\n--evergreen-boundary";
    if file.windows(delimiter.len()).any(|it| it == delimiter) {
        return;
    }
    let mut body = b"--evergreen-boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n".to_vec();
    body.extend_from_slice(form);
    body.extend_from_slice(b"\r\n");
    body.extend_from_slice(field("one").as_bytes());
    body.extend_from_slice(field("other").as_bytes());
    body.extend_from_slice(b"--evergreen-boundary--\r\n");
    assert_eq!(multipart_text(&body, known, NAME).as_deref(), Some("one"));
}
