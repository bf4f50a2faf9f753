//! What a head says about its body and its connection: RFC 9112, 6 and 9.

use axum::http::HeaderName;

use super::{Chunks, Framing, Malformed, Role};

/// What was noted of a head.
#[derive(Debug, Default)]
pub struct About {
    length: Option<u64>,
    is_chunked: bool,
    /// `Connection: close`
    pub is_closed: bool,
    /// `Connection: keep-alive`
    pub is_kept: bool,
    pub hosts: u32,
    /// `Expect: 100-continue`
    pub expects_continue: bool,
    /// Headers that `Connection` names.
    pub private: Vec<HeaderName>,
}

impl About {
    /// Looks at a header. `false`: it says again what another has said.
    ///
    /// # Errors
    /// When it contradicts another, or cannot be understood.
    pub fn note(&mut self, role: Role, value: &[u8]) -> Result<bool, Malformed> {
        match role {
            Role::Length => {
                let length = number(value).ok_or(Malformed::Length)?;
                return match self.length.replace(length) {
                    None => Ok(true),
                    Some(before) if before == length => Ok(false),
                    Some(_) => Err(Malformed::Length),
                };
            }
            Role::Coding => {
                let mut codings = value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                let last = codings.next().unwrap_or_default();
                if self.is_chunked || !last.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::Unending);
                }
                if codings.next().is_some() {
                    return Err(Malformed::Coding);
                }
                self.is_chunked = true;
            }
            Role::Connection => {
                for named in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if named.eq_ignore_ascii_case(b"close") {
                        self.is_closed = true;
                    } else if named.eq_ignore_ascii_case(b"keep-alive") {
                        self.is_kept = true;
                    } else {
                        self.private.extend(HeaderName::from_bytes(named));
                    }
                }
            }
            Role::Host => self.hosts += 1,
            Role::Expectation => {
                self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue")
            }
            Role::Other => {}
        }
        Ok(true)
    }

    /// How the body is framed; `None`: nothing was said.
    ///
    /// # Errors
    /// With a length beside chunks: that may be an attempt to hide a message in another, so it is
    /// refused, which RFC 9112, 6.3 allows.
    pub fn framing(&self) -> Result<Option<Framing>, Malformed> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(Malformed::LengthAndChunks),
            (Some(length), false) => Ok(Some(Framing::Length(length))),
            (None, true) => Ok(Some(Framing::Chunks(Chunks::Size))),
            (None, false) => Ok(None),
        }
    }
}

/// Digits and nothing else.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
