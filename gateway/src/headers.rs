//! Which headers cross the gateway, and which end here.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, EXPECT, Entry, FORWARDED, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT, VIA,
};
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

/// RFC 9110, 7.6.1: these are about one connection, not about the message.
const HOP_BY_HOP: [HeaderName; 8] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What the caller told us and GHL must not hear: our keys, our names, and an expectation that
/// was met when we began to read the body.
const OURS: [HeaderName; 6] = [AUTHORIZATION, API_KEY, INSTALLATION, TIMEOUT, HOST, EXPECT];

/// Who is behind us, as balancers note it: nobody else's business.
const BEHIND_US: [HeaderName; 7] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

/// Makes a caller's headers ready for GHL, all but the token.
pub(crate) fn for_ghl(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    for name in OURS.iter().chain(&BEHIND_US) {
        headers.remove(name);
    }
    if let Entry::Vacant(version) = headers.entry(VERSION) {
        version.insert(DEFAULT_VERSION);
    }
    if let Entry::Vacant(agent) = headers.entry(USER_AGENT) {
        agent.insert(DEFAULT_AGENT);
    }
}

/// Takes out what is about the connection the message came on.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        strip_named_by_connection(headers);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn strip_named_by_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
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
