//! The cookie that binds a consent's state to the browser that began it. Without it, somebody could send a customer a
//! link that connects his own account to the customer's session (login CSRF).

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use store::{KeyRing, consent_state};

/// Each consent has a cookie of its own, so that two tabs do not disturb each other.
const PREFIX: &str = "evergreen_consent_";

/// The value of `Set-Cookie` for a state. `is_secure`: whether browsers reach the callback over https.
pub(crate) fn issue(ring: &KeyRing, state: &str, is_secure: bool) -> Option<HeaderValue> {
    let (name, proof) = (
        name(state, is_secure),
        consent_state::browser_proof(ring, state),
    );
    let seconds = consent_state::VALID_FOR.as_secs();
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie =
        format!("{name}={proof}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&cookie).ok()
}

/// Whether the request is of the browser that began the consent.
pub(crate) fn verify(ring: &KeyRing, headers: &HeaderMap, state: &str, is_secure: bool) -> bool {
    let name = name(state, is_secure);
    let cookies = headers.get_all(COOKIE).iter();
    let cookies = cookies.filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.any(|(found, proof)| {
        found == name && consent_state::verify_browser_proof(ring, state, proof)
    })
}

/// A part of the state's nonce: enough to tell the consents of one browser apart. With the prefix `__Host-` a browser
/// takes the cookie from this very host alone (RFC 6265bis), and not from a sibling that an attacker controls.
fn name(state: &str, is_secure: bool) -> String {
    let nonce = state.split('.').nth(1).unwrap_or_default();
    let short: String = nonce
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(8)
        .collect();
    let host = if is_secure { "__Host-" } else { "" };
    format!("{host}{PREFIX}{short}")
}

#[cfg(test)]
mod tests {
    use store::{AppName, Timestamp};

    use super::*;

    #[test]
    fn cookie_of_one_consent_is_no_proof_for_another() {
        let ring = KeyRing::generate("a");
        let [one, other] = [1, 2].map(|at| {
            consent_state::issue(&ring, &AppName::default(), None, Timestamp::from_millis(at))
        });
        let pair = |state: &str| {
            let cookie = issue(&ring, state, true).unwrap();
            let cookie = cookie.to_str().unwrap().to_owned();
            assert!(
                cookie.ends_with("; HttpOnly; SameSite=Lax; Secure"),
                "{cookie}"
            );
            cookie.split(';').next().unwrap().to_owned()
        };
        let headers = HeaderMap::from_iter([(
            COOKIE,
            format!("theme=dark; {}", pair(&one)).parse().unwrap(),
        )]);
        assert!(pair(&one).starts_with("__Host-"));
        assert!(verify(&ring, &headers, &one, true));
        assert!(!verify(&ring, &headers, &other, true));
        assert!(!verify(&ring, &HeaderMap::new(), &one, true));
    }
}
