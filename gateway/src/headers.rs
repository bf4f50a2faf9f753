//! Which headers cross the gateway, and which end here.

use http::header::{CONNECTION, CONTENT_TYPE, Entry, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Names the installation to us.
pub(crate) const INSTALLATION: HeaderName = HeaderName::from_static("x-installation-id");
/// A caller's key, for callers whose `Authorization` is taken.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// How long the caller lets its call wait for its turn.
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// Ties the log lines of everyone who handled a request together.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// GHL's API version.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("version");

const DEFAULT_VERSION: HeaderValue = HeaderValue::from_static(ghl::api::DEFAULT_VERSION);
const DEFAULT_AGENT: HeaderValue = HeaderValue::from_static(ghl::api::USER_AGENT);

/// About one connection, not about the message: RFC 9110, 7.6.1.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// What the caller told us and GHL must not hear: our keys, our names, and an expectation that
/// was met when we began to read the body.
fn is_ours(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization"
            | "expect"
            | "host"
            | "x-api-key"
            | "x-installation-id"
            | "x-request-timeout"
    )
}

/// Who is behind us, as balancers note it: nobody else's business.
fn is_behind_us(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "forwarded"
            | "via"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-proto"
            | "x-real-ip"
    )
}

/// Makes a caller's headers ready for GHL, all but the token.
pub(crate) fn for_ghl(headers: &mut HeaderMap) {
    strip(headers, |name| {
        is_hop_by_hop(name) || is_ours(name) || is_behind_us(name)
    });
    if let Entry::Vacant(version) = headers.entry(VERSION) {
        version.insert(DEFAULT_VERSION);
    }
    if let Entry::Vacant(agent) = headers.entry(USER_AGENT) {
        agent.insert(DEFAULT_AGENT);
    }
}

/// Takes out what is about the connection the message came on.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    strip(headers, is_hop_by_hop);
}

/// Takes out what ends here, and what `Connection` names.
///
/// One look at each name that is there: a lookup for each that might be costs ten times as much.
fn strip(headers: &mut HeaderMap, ends_here: impl Fn(&HeaderName) -> bool) {
    let ending = headers.keys().filter(|name| ends_here(name));
    let mut ending: Vec<HeaderName> = ending.cloned().collect();
    if ending.contains(&CONNECTION) {
        ending.extend(named_by_connection(headers));
    }
    for name in ending {
        headers.remove(name);
    }
}

fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let values = headers.get_all(CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
}

/// Whether the body is coded in a way that would have to be undone before it could be sent on.
pub(crate) fn is_transfer_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    content_type
        .and_then(|it| it.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = headers.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        pairs.collect()
    }

    #[test]
    fn what_is_about_the_connection_ends_here() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Secret-Hop"),
            ("keep-alive", "timeout=5"),
            ("x-secret-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("x-ratelimit-remaining", "99"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("x-ratelimit-remaining", "99")]));
    }

    #[test]
    fn our_keys_and_names_are_never_forwarded() {
        let mut headers = map(&[
            ("authorization", "Bearer evg_1"),
            ("x-api-key", "evg_1"),
            ("x-installation-id", "install_1"),
            ("x-request-timeout", "15s"),
            ("host", "gateway"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ]);
        for_ghl(&mut headers);
        let expected = map(&[
            ("accept", "*/*"),
            ("version", ghl::api::DEFAULT_VERSION),
            ("user-agent", ghl::api::USER_AGENT),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn the_callers_version_and_agent_pass() {
        let mut headers = map(&[("version", "v3"), ("user-agent", "curl/8")]);
        let before = headers.clone();
        for_ghl(&mut headers);
        assert_eq!(headers, before);
    }

    #[test]
    fn json_is_told_by_its_essence() {
        for (value, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json5", false),
            ("multipart/form-data; boundary=application/json", false),
        ] {
            assert_eq!(is_json(&map(&[("content-type", value)])), expected);
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
