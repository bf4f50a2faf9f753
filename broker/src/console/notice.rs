//! Notices: a change is followed by a redirect, and the next page says once how it went.

use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::SET_COOKIE;
use http::request::Parts;
use store::{ConsoleSession, KeyRing};

use super::session::{Cookies, NOTICE};

/// The longest text. A cookie holds 4 KiB.
const MAX_CHARS: usize = 500;

/// The message of the next page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Whether something was done. Otherwise it was not possible.
    pub(crate) is_done: bool,
    /// The text, for people.
    pub(crate) text: String,
}

/// To a page of the console, which says that this was done.
pub(crate) fn done(path: &str, text: impl Into<String>) -> Response {
    redirect(path, true, text.into())
}

/// To a page of the console, which says that this was not possible.
pub(crate) fn problem(path: &str, text: impl Into<String>) -> Response {
    redirect(path, false, text.into())
}

fn redirect(path: &str, is_done: bool, text: String) -> Response {
    let mut response = Redirect::to(path).into_response();
    response.extensions_mut().insert(Notice { is_done, text });
    response
}

impl Notice {
    fn seal(&self, ring: &KeyRing, session: &ConsoleSession) -> String {
        let kind = if self.is_done { '+' } else { '-' };
        let text: String = self.text.chars().take(MAX_CHARS).collect();
        let body = BASE64_URL_SAFE_NO_PAD.encode(format!("{kind}{text}"));
        format!("{body}.{}", session.sign_notice(ring, &body))
    }

    /// `None` for a text that [`Notice::seal`] did not make for this session.
    fn open(ring: &KeyRing, session: &ConsoleSession, sealed: &str) -> Option<Self> {
        let (body, signature) = sealed.split_once('.')?;
        if !session.verify_notice(ring, body, signature) {
            return None;
        }
        let body = BASE64_URL_SAFE_NO_PAD.decode(body).ok()?;
        let body = String::from_utf8(body).ok()?;
        let (kind, text) = body.split_at_checked(1)?;
        Some(Self {
            is_done: kind == "+",
            text: text.to_owned(),
        })
    }

    /// The notice that the browser brings.
    pub(super) fn of_request(
        parts: &Parts,
        cookies: &Cookies,
        (ring, session): (&KeyRing, &ConsoleSession),
    ) -> Option<Self> {
        let sealed = cookies.get(&parts.headers, NOTICE)?;
        Self::open(ring, session, sealed)
    }
}

/// Gives the notice of a response to the browser. Removes one that a page has shown.
pub(super) fn pass_on(
    response: &mut Response,
    cookies: &Cookies,
    has_shown: bool,
    (ring, session): (&KeyRing, &ConsoleSession),
) {
    let cookie = match response.extensions_mut().remove::<Notice>() {
        Some(notice) => cookies.notice(&notice.seal(ring, session)),
        None if has_shown && response.status().is_success() => cookies.notice(""),
        None => None,
    };
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use store::{KeyHash, Timestamp};

    use super::*;

    #[test]
    fn notice_is_for_one_session() {
        let ring = KeyRing::generate("a");
        let session = || ConsoleSession::begin(KeyHash::of("k"), Timestamp::from_millis(0));
        let (own, other) = (session(), session());
        let notice = Notice {
            is_done: true,
            text: "The key „crm“ was revoked.".to_owned(),
        };
        let sealed = notice.seal(&ring, &own);
        assert_eq!(Notice::open(&ring, &own, &sealed), Some(notice));
        assert_eq!(Notice::open(&ring, &other, &sealed), None);
        assert_eq!(Notice::open(&ring, &own, "abc.a:b"), None);
        let long = Notice {
            is_done: false,
            text: "é".repeat(10_000),
        };
        assert!(long.seal(&ring, &own).len() < 2048);
    }
}
