//! The cookie of a session, and its end.

use http::header::{COOKIE, HOST};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use store::console_session::VALID_FOR;
use store::{ConsoleSession, KeyRing};
use store_writer::WriteError;

use super::Console;

/// The cookie of the session.
const SESSION: &str = "evergreen_console";
/// The cookie of a notice, which the next page shows.
pub(super) const NOTICE: &str = "evergreen_notice";
/// How long a notice waits for the next page.
const NOTICE_SECONDS: u64 = 60;

/// The names and attributes of the cookies of one request.
#[derive(Debug, Clone)]
pub(super) struct Cookies {
    /// A browser sends the cookies of all ports of a host, so each port has names of its own.
    suffix: String,
    is_secure: bool,
}

impl Cookies {
    fn name(&self, name: &str) -> String {
        // With this prefix a browser takes a cookie from this very host alone (RFC 6265bis).
        let host = if self.is_secure { "__Host-" } else { "" };
        format!("{host}{name}{}", self.suffix)
    }

    pub(super) fn get<'h>(&self, headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
        let name = self.name(name);
        let cookies = headers.get_all(COOKIE).iter();
        let cookies = cookies.filter_map(|value| value.to_str().ok());
        let mut pairs = cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let found = pairs.find(|(found, _)| *found == name);
        found.map(|(_, value)| value)
    }

    fn set(&self, name: &str, value: &str, seconds: u64) -> Option<HeaderValue> {
        let name = self.name(name);
        let secure = if self.is_secure { "; Secure" } else { "" };
        let cookie =
            format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
        let mut value = HeaderValue::from_str(&cookie).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Sets the session.
    pub(super) fn sign_in(&self, ring: &KeyRing, session: &ConsoleSession) -> Option<HeaderValue> {
        let text = session.issue(ring);
        self.set(SESSION, text.expose_secret(), VALID_FOR.as_secs())
    }

    /// Removes the session.
    pub(super) fn sign_out(&self) -> Option<HeaderValue> {
        self.set(SESSION, "", 0)
    }

    /// Sets a notice. An empty one removes it.
    pub(super) fn notice(&self, text: &str) -> Option<HeaderValue> {
        let seconds = if text.is_empty() { 0 } else { NOTICE_SECONDS };
        self.set(NOTICE, text, seconds)
    }
}

impl Console {
    pub(super) fn cookies(&self, parts: &Parts) -> Cookies {
        let host = parts.headers.get(HOST).and_then(|it| it.to_str().ok());
        let host = host.and_then(|host| host.parse::<Authority>().ok());
        let authority = parts.uri.authority().or(host.as_ref());
        let port = authority.and_then(Authority::port_u16);
        Cookies {
            suffix: port.map_or_else(String::new, |port| format!("_{port}")),
            is_secure: self.is_secure(parts),
        }
    }

    /// The session of a request that has not ended. Its key may have.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(super) async fn session(
        &self,
        parts: &Parts,
        cookies: &Cookies,
    ) -> Result<Option<ConsoleSession>, WriteError> {
        let broker = &self.0.broker.0;
        let Some(presented) = cookies.get(&parts.headers, SESSION) else {
            return Ok(None);
        };
        let now = broker.reader.now();
        let Some(session) = ConsoleSession::verify(self.ring(), presented, now) else {
            return Ok(None);
        };
        let key = ended_key(&session);
        let ended = broker.writer.get(&key).await?;
        Ok(ended.is_none().then_some(session))
    }

    /// Ends a session everywhere. A copy of its cookie is of no use then.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(super) async fn end(&self, session: &ConsoleSession) -> Result<(), WriteError> {
        let broker = &self.0.broker.0;
        let left = session.expires_at.since(broker.reader.now());
        let left = left.max(std::time::Duration::from_secs(1));
        let key = ended_key(session);
        broker.writer.put(&key, "ended", left).await.map(|_| ())
    }

    /// The ring that signs sessions. Gateways do not have it.
    pub(super) fn ring(&self) -> &KeyRing {
        &self.0.broker.0.writer.rings().refresh
    }
}

/// The key under which the store has the end of a session.
fn ended_key(session: &ConsoleSession) -> String {
    store::keys::consent(&format!("console-ended:{}", session.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_of_two_ports_are_two_and_secure_ones_are_of_one_host() {
        let plain = Cookies {
            suffix: "_9080".to_owned(),
            is_secure: false,
        };
        let secure = Cookies {
            suffix: String::new(),
            is_secure: true,
        };
        let set = |cookies: &Cookies| {
            let set = cookies.set(SESSION, "v", 60).unwrap();
            set.to_str().unwrap().to_owned()
        };
        let attributes = "Path=/; Max-Age=60; HttpOnly; SameSite=Strict";
        assert_eq!(
            set(&plain),
            format!("evergreen_console_9080=v; {attributes}")
        );
        assert_eq!(
            set(&secure),
            format!("__Host-evergreen_console=v; {attributes}; Secure")
        );
        let headers = HeaderMap::from_iter([(
            COOKIE,
            "a=b; evergreen_console_9080=one; __Host-evergreen_console=two"
                .parse()
                .unwrap(),
        )]);
        assert_eq!(plain.get(&headers, SESSION), Some("one"));
        assert_eq!(secure.get(&headers, SESSION), Some("two"));
        assert_eq!(plain.get(&headers, NOTICE), None);
    }
}
