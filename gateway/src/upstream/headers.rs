//! Decides which headers the gateway forwards.

use http::header::{AUTHORIZATION, CONNECTION, COOKIE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::cookies;

/// GHL's API version.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("version");

const DEFAULT_VERSION: HeaderValue = HeaderValue::from_static(ghl::api::DEFAULT_VERSION);
const DEFAULT_AGENT: HeaderValue = HeaderValue::from_static(ghl::api::USER_AGENT);

/// Headers about one connection and not about the message (RFC 9110, 7.6.1).
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

/// Headers for the gateway that GHL must not see: API keys, selectors, the queue timeout, and `Expect`, which was
/// answered when the gateway began to read the body.
fn is_ours(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization"
            | "expect"
            | "x-api-key"
            | "x-evergreen-app"
            | "x-installation-id"
            | "x-request-timeout"
    )
}

/// Headers of load balancers about the caller. They stay private.
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

/// Headers that are set anew for each connection.
fn is_about_body_or_host(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "content-length" | "host" | "transfer-encoding"
    )
}

/// The headers of a request as the upstream gets them, without those about its body and its host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OutboundHeaders<'h> {
    /// The caller's headers and the token.
    ToGhl {
        callers: &'h HeaderMap,
        bearer: &'h HeaderValue,
    },
    ToBroker(&'h HeaderMap),
}

impl<'h> OutboundHeaders<'h> {
    /// The headers before they are filtered.
    pub(crate) fn unfiltered(self) -> &'h HeaderMap {
        match self {
            Self::ToGhl { callers, .. } => callers,
            Self::ToBroker(headers) => headers,
        }
    }

    /// With other headers in the place of the unfiltered ones.
    pub(crate) fn replaced<'n>(self, headers: &'n HeaderMap) -> OutboundHeaders<'n>
    where
        'h: 'n,
    {
        match self {
            Self::ToGhl { bearer, .. } => OutboundHeaders::ToGhl {
                callers: headers,
                bearer,
            },
            Self::ToBroker(_) => OutboundHeaders::ToBroker(headers),
        }
    }

    /// Filters the headers in one pass, without copying the map.
    pub(crate) fn for_each(self, mut send: impl FnMut(&HeaderName, &HeaderValue)) {
        let (headers, bearer) = match self {
            Self::ToBroker(headers) => (headers, None),
            Self::ToGhl { callers, bearer } => (callers, Some(bearer)),
        };
        let private: Vec<HeaderName> = named_by_connection(headers).collect();
        let (mut has_version, mut has_agent) = (false, false);
        for (name, value) in headers {
            let is_per_connection = is_hop_by_hop(name) || is_about_body_or_host(name);
            let is_private = bearer.is_some() && (is_ours(name) || is_behind_us(name));
            if is_per_connection || is_private || private.contains(name) {
                continue;
            }
            if bearer.is_some() && *name == COOKIE {
                if let Some(cookies) = cookies::for_ghl(value) {
                    send(name, &cookies);
                }
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

/// Removes the headers about the connection that the message arrived on.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let hop_by_hop = headers.keys().filter(|name| is_hop_by_hop(name));
    let mut hop_by_hop: Vec<HeaderName> = hop_by_hop.cloned().collect();
    hop_by_hop.extend(named_by_connection(headers));
    for name in hop_by_hop {
        headers.remove(name);
    }
}

/// Removes the trace that the message is a part of.
pub(crate) fn remove_trace(headers: &mut HeaderMap) {
    for name in &service::trace::HEADERS {
        headers.remove(name);
    }
}

/// Whether the header is forwarded to GHL. Headers that `Connection` names are not.
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
        OutboundHeaders::ToGhl { callers, bearer }.for_each(|name, value| {
            sent.append(name, value.clone());
        });
        sent
    }

    #[test]
    fn hop_by_hop_headers_are_removed() {
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
    fn gateway_keys_and_selectors_are_not_forwarded() {
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
    fn version_and_user_agent_of_the_caller_are_kept() {
        let headers = map(&[("version", "v3"), ("user-agent", "curl/8")]);
        let mut expected = headers.clone();
        expected.insert(AUTHORIZATION, BEARER);
        assert_eq!(to_ghl(&headers), expected);
    }
}
