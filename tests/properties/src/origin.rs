//! Requests of foreign web pages: `service::origin`.
//!
//! Input: a line with the method and the target, then headers.

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Request};
use service::origin::{OwnHosts, is_direct_and_local, is_loopback};

use crate::input;

const OWN: &str = "tokens.example.com";

/// A request passes only if it names this host and comes from no other page.
pub fn check(bytes: &[u8]) {
    let ([request], head) = input::lines(bytes);
    let request = input::text(request);
    let (method, target) = request.split_once(' ').unwrap_or(("GET", &request));
    let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET);
    let Ok(request) = Request::builder().method(method).uri(target).body(()) else {
        return;
    };
    let (mut parts, ()) = request.into_parts();
    parts.headers = input::headers(head);

    let listen = "127.0.0.1:9080".parse().expect("an address");
    let own = OwnHosts::new(listen, [OWN.to_owned()]);
    let is_strict = own.check(&parts).is_ok();
    let is_link = own.check_link(&parts).is_ok();
    assert!(!is_strict || is_link, "a link may do more");
    if is_link {
        passes(&parts);
    }
    if is_strict {
        let site = parts.headers.get("sec-fetch-site");
        assert!(site.is_none_or(|site| site != "cross-site"));
    }
    if is_link && !is_strict {
        assert_eq!(parts.method, Method::GET, "only links are followed");
    }
    // A name also makes an origin own, so only requests without one are compared.
    if !parts.headers.contains_key(ORIGIN) && OwnHosts::any().check(&parts).is_err() {
        assert!(!is_strict, "every name lets more pass");
    }
    if is_direct_and_local(&parts) {
        assert!(named(&parts).is_some_and(|host| is_loopback(host.host())));
        for header in ["origin", "x-forwarded-for", "forwarded", "via"] {
            assert!(!parts.headers.contains_key(header));
        }
    }
}

fn named(parts: &Parts) -> Option<Authority> {
    let header = parts.headers.get(HOST);
    let header = header.and_then(|it| Authority::try_from(it.as_bytes()).ok());
    parts.uri.authority().cloned().or(header)
}

fn passes(parts: &Parts) {
    let is_own = |host: &str| {
        let is_address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        is_address.is_ok() || is_loopback(host) || host.eq_ignore_ascii_case(OWN)
    };
    let host = named(parts);
    match &host {
        Some(host) => assert!(is_own(host.host()), "{host}"),
        None => {
            let header = parts.headers.get(HOST).map(|host| host.as_bytes());
            assert!(header.is_none_or(<[u8]>::is_empty), "{header:?}");
        }
    }
    if let Some(origin) = parts.headers.get(ORIGIN) {
        let origin = origin.to_str().expect("an origin that can be read");
        let (_, authority) = origin.split_once("://").expect("an origin with a scheme");
        let authority: Authority = authority.parse().expect("an origin with a host");
        let is_same = host.is_some_and(|host| host == authority);
        let is_named = authority.host().eq_ignore_ascii_case(OWN);
        assert!(is_same || is_named, "{origin}");
    }
}
