//! Why a message was not delivered.

use std::error::Error as StdError;
use std::io;

use super::address::RefusedAddress;
use super::resolver::ResolveError;

/// The most characters of an answer that are shown.
const MAX_EXCERPT: usize = 200;

/// Why an attempt failed. All are tried again. Messages have no control characters, and neither the URL nor a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// The endpoint leads to an address that may not be reached.
    #[error(
        "{} is no address of the public internet. If the receiver is within your own network, set \
         EVERGREEN_EVENTS_ALLOW_PRIVATE=true",
        .0.0
    )]
    RefusedAddress(RefusedAddress),
    /// The name of the endpoint has no address.
    #[error("{0}")]
    Dns(String),
    /// No connection was made.
    #[error("no connection: {0}")]
    Connect(String),
    /// The endpoint is no server of TLS, or its certificate is not trusted.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// There was no answer within the time limit.
    #[error("no answer within 15 s")]
    Timeout,
    /// The answer is neither a success nor a redirect.
    #[error("the answer was {status}{}", shown(.excerpt))]
    Status {
        /// The status.
        status: u16,
        /// The begin of the body.
        excerpt: String,
    },
    /// The answer is a redirect. It is not followed, since the signed message is for the endpoint alone.
    #[error("the answer was a redirect ({0}), which is not followed: set the url that it leads to")]
    Redirect(u16),
    /// Anything else, such as a connection that was closed before the answer.
    #[error("{0}")]
    Other(String),
}

fn shown(excerpt: &str) -> String {
    match excerpt {
        "" => ", without a text".to_owned(),
        excerpt => format!(": {excerpt}"),
    }
}

impl DeliveryError {
    /// Every [`kind`](Self::kind).
    pub(crate) const KINDS: [&str; 8] = [
        "refused_address",
        "dns",
        "connect",
        "tls",
        "timeout",
        "status",
        "redirect",
        "other",
    ];

    /// A word for each kind of error, for metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::RefusedAddress(_) => "refused_address",
            Self::Dns(_) => "dns",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Timeout => "timeout",
            Self::Status { .. } => "status",
            Self::Redirect(_) => "redirect",
            Self::Other(_) => "other",
        }
    }

    /// Whether every message would fail so now. Any other answer is about this message alone.
    pub(crate) fn is_of_endpoint(&self) -> bool {
        match self {
            Self::RefusedAddress(_)
            | Self::Dns(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::Timeout
            | Self::Other(_) => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::Redirect(_) => false,
        }
    }

    /// The error of an answer that is no success. `body`: its begin.
    pub(super) fn of_answer(status: u16, body: &[u8]) -> Self {
        match status {
            300..=399 => Self::Redirect(status),
            _ => Self::Status {
                status,
                excerpt: excerpt(&String::from_utf8_lossy(body)),
            },
        }
    }

    /// The error of a request without an answer.
    pub(super) fn of_request(error: reqwest::Error) -> Self {
        // The path may be secret.
        let error = error.without_url();
        match find::<ResolveError>(&error) {
            Some(ResolveError::Refused(refused)) => return Self::RefusedAddress(refused.clone()),
            Some(failed @ (ResolveError::Lookup(_) | ResolveError::NoAddress)) => {
                return Self::Dns(excerpt(&failed.to_string()));
            }
            None => {}
        }
        if let Some(fault) = find::<rustls::Error>(&error) {
            return Self::Tls(excerpt(&fault.to_string()));
        }
        if error.is_timeout() {
            return Self::Timeout;
        }
        let reason = excerpt(&innermost(&error).to_string());
        match error.is_connect() {
            true => Self::Connect(reason),
            false => Self::Other(format!("the request failed: {reason}")),
        }
    }
}

/// The cause of an error. An I/O error does not return its inner error as its source.
fn cause<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
    let io = error.downcast_ref::<io::Error>();
    match io.and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    std::iter::successors(Some(error), |it| cause(*it)).find_map(|it| it.downcast_ref())
}

fn innermost<'e>(error: &'e (dyn StdError + 'static)) -> &'e (dyn StdError + 'static) {
    let causes = std::iter::successors(Some(error), |it| cause(*it));
    causes.last().unwrap_or(error)
}

/// The begin of a text, on one line, without characters that a terminal or a reader could mistake.
fn excerpt(text: &str) -> String {
    let printable = text.chars().map(|c| if is_printable(c) { c } else { ' ' });
    let line: String = printable.take(4 * MAX_EXCERPT).collect();
    let words: Vec<&str> = line.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Whether a character is shown as itself: no control, no line separator, and none that changes the direction of a text.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_quoted_on_one_line_without_control_characters() {
        let body = b"no\r\n\x1b[31mway\x00\t out\xff \xe2\x80\xae!";
        let error = DeliveryError::of_answer(503, body);
        assert_eq!(
            error.to_string(),
            "the answer was 503: no [31mway out\u{fffd} !"
        );
        let silent = DeliveryError::of_answer(410, b" \n");
        assert_eq!(silent.to_string(), "the answer was 410, without a text");
    }

    #[test]
    fn endpoint_fails_without_an_answer_or_with_an_answer_for_all_messages() {
        for status in [408, 429, 500, 502, 503, 599] {
            let error = DeliveryError::of_answer(status, b"");
            assert!(error.is_of_endpoint(), "{status}");
        }
        for status in [302, 400, 401, 404, 409, 410, 422] {
            let error = DeliveryError::of_answer(status, b"");
            assert!(!error.is_of_endpoint(), "{status}");
        }
        assert!(DeliveryError::Timeout.is_of_endpoint());
        assert!(DeliveryError::Connect("refused".to_owned()).is_of_endpoint());
    }

    #[test]
    fn long_answer_is_cut() {
        let DeliveryError::Status { excerpt, .. } =
            DeliveryError::of_answer(500, "ä".repeat(4096).as_bytes())
        else {
            panic!("a status");
        };
        assert_eq!(excerpt.chars().count(), MAX_EXCERPT + 1);
        assert!(excerpt.ends_with("ä…"), "{excerpt}");
    }

    #[test]
    fn redirect_is_told_from_other_answers() {
        for status in [301, 302, 307, 308] {
            let error = DeliveryError::of_answer(status, b"moved");
            assert_eq!(error, DeliveryError::Redirect(status));
        }
        assert_eq!(DeliveryError::of_answer(404, b"").kind(), "status");
    }
}
