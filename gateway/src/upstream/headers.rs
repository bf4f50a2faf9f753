//! Which headers cross the gateway, and which end here.

use http::header::{AUTHORIZATION, CONNECTION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

/// GHL's API version.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("version");

const DEFAULT_VERSION: HeaderValue = HeaderValue::from_static(ghl::api::DEFAULT_VERSION);
const DEFAULT_AGENT: HeaderValue = HeaderValue::from_static(ghl::api::USER_AGENT);

/// About one connection, not about the message: RFC 9110, 7.6.1.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
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
        "authorization" | "expect" | "x-api-key" | "x-installation-id" | "x-request-timeout"
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

/// Said anew for each connection.
fn is_about_body_or_host(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "content-length" | "host" | "transfer-encoding"
    )
}

/// The headers of a request as the other side gets them, all but those about its body and its host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sent<'h> {
    /// A caller's, and the token.
    ToGhl {
        callers: &'h HeaderMap,
        bearer: &'h HeaderValue,
    },
    ToBroker(&'h HeaderMap),
}

impl Sent<'_> {
    /// Nothing is copied or taken out before: this is all the work there is with them.
    pub(crate) fn for_each(self, mut send: impl FnMut(&HeaderName, &HeaderValue)) {
        let (headers, bearer) = match self {
            Self::ToBroker(headers) => (headers, None),
            Self::ToGhl { callers, bearer } => (callers, Some(bearer)),
        };
        let private: Vec<HeaderName> = named_by_connection(headers).collect();
        let (mut has_version, mut has_agent) = (false, false);
        for (name, value) in headers {
            let ends_here = is_hop_by_hop(name) || is_about_body_or_host(name);
            let is_private = bearer.is_some() && (is_ours(name) || is_behind_us(name));
            if ends_here || is_private || private.contains(name) {
                continue;
            }
            has_version |= *name == VERSION;
            has_agent |= *name == USER_AGENT;
            send(name, value);
        }
        if let Some(bearer) = bearer {
            send(&AUTHORIZATION, bearer);
            if !has_version {
                send(&VERSION, &DEFAULT_VERSION);
            }
            if !has_agent {
                send(&USER_AGENT, &DEFAULT_AGENT);
            }
        }
    }
}

/// Takes out what is about the connection the message came on.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let ending = headers.keys().filter(|name| is_hop_by_hop(name));
    let mut ending: Vec<HeaderName> = ending.cloned().collect();
    ending.extend(named_by_connection(headers));
    for name in ending {
        headers.remove(name);
    }
}

/// Whether GHL gets it: not what `Connection` names.
pub(crate) fn passes(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.contains_key(name) && !named_by_connection(headers).any(|named| named == *name)
}

fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let values = headers.get_all(CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
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

    const BEARER: HeaderValue = HeaderValue::from_static("Bearer token");

    fn to_ghl(callers: &HeaderMap) -> HeaderMap {
        let mut sent = HeaderMap::new();
        let bearer = &BEARER;
        Sent::ToGhl { callers, bearer }.for_each(|name, value| {
            sent.append(name, value.clone());
        });
        sent
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
        let mut sent = to_ghl(&headers);
        for ours in [AUTHORIZATION, VERSION, USER_AGENT] {
            assert!(sent.remove(ours).is_some());
        }
        strip_hop_by_hop(&mut headers);
        for passed in [headers, sent] {
            assert_eq!(passed, map(&[("x-ratelimit-remaining", "99")]));
        }
    }

    #[test]
    fn our_keys_and_names_are_never_forwarded() {
        let headers = map(&[
            ("authorization", "Bearer evg_1"),
            ("x-api-key", "evg_1"),
            ("x-installation-id", "install_1"),
            ("x-request-timeout", "15s"),
            ("host", "gateway"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ]);
        let expected = map(&[
            ("accept", "*/*"),
            ("authorization", "Bearer token"),
            ("version", ghl::api::DEFAULT_VERSION),
            ("user-agent", ghl::api::USER_AGENT),
        ]);
        assert_eq!(to_ghl(&headers), expected);
    }

    #[test]
    fn the_callers_version_and_agent_pass() {
        let headers = map(&[("version", "v3"), ("user-agent", "curl/8")]);
        let mut expected = headers.clone();
        expected.insert(AUTHORIZATION, BEARER);
        assert_eq!(to_ghl(&headers), expected);
    }
}
