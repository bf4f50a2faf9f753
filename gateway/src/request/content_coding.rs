//! `Content-Encoding` of a caller's body. A compressed body is decompressed only to look into it; it is forwarded as
//! it came.

use std::io::Read;

use flate2::bufread::GzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentCoding {
    Identity,
    Gzip,
    /// One that the gateway does not decompress, or several.
    Other,
}

/// Why a body was not decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotDecompressed {
    /// It is longer than the limit when it is decompressed.
    TooLarge,
    /// It is no gzip, it is incomplete, or something follows it. A further member could be read by one program and
    /// skipped by another.
    Malformed,
}

impl ContentCoding {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let (coding, others) = (values.next(), values.next());
        let coding = coding.map(|value| value.as_bytes().trim_ascii());
        let is = |coding: &[u8], name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
        match coding {
            _ if others.is_some() => Self::Other,
            None => Self::Identity,
            Some(coding) if coding.is_empty() || is(coding, "identity") => Self::Identity,
            // RFC 9110, 8.4.1.3
            Some(coding) if is(coding, "gzip") || is(coding, "x-gzip") => Self::Gzip,
            Some(_) => Self::Other,
        }
    }
}

/// Decompresses gzip, up to `limit` bytes. More is never decompressed, however small the body is.
pub(crate) fn gunzip(body: &[u8], limit: usize) -> Result<Vec<u8>, NotDecompressed> {
    let mut decoder = GzDecoder::new(body);
    let mut text = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = (&mut decoder).take(one_more).read_to_end(&mut text);
    read.map_err(|_| NotDecompressed::Malformed)?;
    if text.len() > limit {
        return Err(NotDecompressed::TooLarge);
    }
    match decoder.into_inner().is_empty() {
        true => Ok(text),
        false => Err(NotDecompressed::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http::HeaderValue;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn content_encoding_is_read_however_it_is_spelled() {
        for (values, expected) in [
            (&[][..], ContentCoding::Identity),
            (&["identity"], ContentCoding::Identity),
            (&["GZip "], ContentCoding::Gzip),
            (&["x-gzip"], ContentCoding::Gzip),
            (&["br"], ContentCoding::Other),
            (&["gzip, gzip"], ContentCoding::Other),
            (&["gzip", "identity"], ContentCoding::Other),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(ContentCoding::of(&headers), expected, "{values:?}");
        }
    }

    #[test]
    fn decompression_ends_at_its_limit() {
        let text = br#"{"locationId":"L"}"#;
        assert_eq!(gunzip(&gzip(text), text.len()).unwrap(), text);
        let bomb = gzip(&vec![b' '; 10_000_000]);
        for limit in [0, 1000, 9_999_999] {
            assert_eq!(gunzip(&bomb, limit), Err(NotDecompressed::TooLarge));
        }
    }

    #[test]
    fn incomplete_or_foreign_bytes_are_refused() {
        let whole = gzip(b"{}");
        let twice = [whole.as_slice(), &whole].concat();
        for body in [b"{}".as_slice(), b"", &whole[..whole.len() - 1], &twice] {
            assert_eq!(gunzip(body, 100), Err(NotDecompressed::Malformed));
        }
    }
}
