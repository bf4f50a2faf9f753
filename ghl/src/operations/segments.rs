//! The segments of a path.

use percent_encoding::percent_decode_str;

/// The segments of a path, with their percent encoding. Empty ones and `.` are skipped, and an encoded slash separates
/// as a plain one does, since a server or proxy may decode the path first.
#[derive(Debug, Clone, Copy)]
pub struct Segments<'p> {
    rest: &'p str,
}

impl<'p> Segments<'p> {
    /// The segments of this path.
    #[must_use]
    pub fn of(path: &'p str) -> Self {
        Self { rest: path }
    }
}

impl<'p> Iterator for Segments<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        while !self.rest.is_empty() {
            let (segment, rest) = split(self.rest);
            self.rest = rest;
            let is_skipped = segment.is_empty() || decoded(segment).eq(*b".");
            if !is_skipped {
                return Some(segment);
            }
        }
        None
    }
}

/// The bytes of a segment without percent encoding.
pub(super) fn decoded(segment: &str) -> impl Iterator<Item = u8> {
    percent_decode_str(segment)
}

/// The text before the first slash, and the text after it.
fn split(path: &str) -> (&str, &str) {
    let bytes = path.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'/' => return (&path[..at], &path[at + 1..]),
            b'%' if matches!(bytes.get(at + 1..at + 3), Some(b"2f" | b"2F")) => {
                return (&path[..at], &path[at + 3..]);
            }
            _ => {}
        }
    }
    (path, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_segments_and_dots_are_skipped() {
        for (path, expected) in [
            ("", &[][..]),
            ("/", &[]),
            ("//./%2e/", &[]),
            ("/a/b", &["a", "b"]),
            ("a%2Fb%2f/c/", &["a", "b", "c"]),
            ("/%2", &["%2"]),
            ("/é/%", &["é", "%"]),
            ("/.a/..", &[".a", ".."]),
        ] {
            assert_eq!(Segments::of(path).collect::<Vec<_>>(), expected, "{path}");
        }
    }
}
