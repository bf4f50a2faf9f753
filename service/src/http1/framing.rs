//! Where a body ends: RFC 9112, 6 and 7.

use axum::body::Bytes;
use bytes::{Buf, BytesMut};
use httparse::{EMPTY_HEADER, Status, parse_chunk_size, parse_headers};
use hyper::body::SizeHint;

use super::{MAX_HEADERS, Malformed};

/// As long as the line before a chunk may be, in bytes.
const CHUNK_LINE_BYTES: usize = 1024;

/// As long as everything after the last chunk may be, in bytes. It ends here, as `Trailer`, which
/// would announce it, does.
const TRAILER_BYTES: usize = 16 * 1024;

/// What of a body is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    Chunks(Chunks),
    /// All there is until the connection is closed.
    UntilClosed,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunks {
    Size,
    /// So many bytes of a chunk, and the end of its line.
    Data(u64),
    Trailers,
    Nothing,
}

impl Framing {
    /// There is no body.
    pub const NOTHING: Self = Self::Length(0);

    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunks(Chunks::Nothing))
    }

    /// Takes the next piece of the body from what was read; `None`: more has to be read first,
    /// unless it is over.
    ///
    /// # Errors
    /// When what was read cannot be a part of it.
    pub fn next(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        match self {
            Self::Length(left) => Ok(take(left, read)),
            Self::UntilClosed => Ok((!read.is_empty()).then(|| read.split().freeze())),
            Self::Chunks(chunks) => {
                chunks.advance(read)?;
                let Chunks::Data(left) = chunks else {
                    return Ok(None);
                };
                let data = take(left, read);
                // So that the last piece is known to be the last.
                chunks.advance(read)?;
                Ok(data)
            }
        }
    }

    /// The connection was closed. Whether the body is over then, and nothing is missing.
    pub fn closed(&mut self) -> bool {
        if *self == Self::UntilClosed {
            *self = Self::NOTHING;
        }
        self.is_over()
    }

    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Chunks(Chunks::Nothing) => SizeHint::with_exact(0),
            Self::Chunks(_) | Self::UntilClosed => SizeHint::default(),
        }
    }
}

impl Chunks {
    /// Goes past everything that is not the body's.
    fn advance(&mut self, read: &mut BytesMut) -> Result<(), Malformed> {
        loop {
            *self = match self {
                Self::Size => match parse_chunk_size(read) {
                    // httparse takes a line without a digit for zero, and a bare LF for nothing.
                    Ok(Status::Complete((length, size)))
                        if read[0].is_ascii_hexdigit() && !read[..length - 1].contains(&b'\n') =>
                    {
                        read.advance(length);
                        match size {
                            0 => Self::Trailers,
                            size => Self::Data(size),
                        }
                    }
                    Ok(Status::Partial) if read.len() < CHUNK_LINE_BYTES => return Ok(()),
                    Ok(_) | Err(_) => return Err(Malformed::Chunks),
                },
                Self::Data(0) => match read.get(..2) {
                    Some(b"\r\n") => {
                        read.advance(2);
                        Self::Size
                    }
                    Some(_) => return Err(Malformed::Chunks),
                    None => return Ok(()),
                },
                Self::Trailers => match parse_headers(read, &mut [EMPTY_HEADER; MAX_HEADERS]) {
                    Ok(Status::Complete((length, _))) => {
                        read.advance(length);
                        Self::Nothing
                    }
                    Ok(Status::Partial) if read.len() < TRAILER_BYTES => return Ok(()),
                    Ok(Status::Partial) | Err(_) => return Err(Malformed::Chunks),
                },
                Self::Data(_) | Self::Nothing => return Ok(()),
            };
        }
    }
}

/// As much of what is left as was read.
fn take(left: &mut u64, read: &mut BytesMut) -> Option<Bytes> {
    let count = usize::try_from(*left).map_or(read.len(), |left| left.min(read.len()));
    if count == 0 {
        return None;
    }
    *left -= count as u64;
    Some(read.split_to(count).freeze())
}
