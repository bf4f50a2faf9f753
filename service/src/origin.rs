//! Refuses requests that a web page of somebody else makes through the browser of a person who can reach this process:
//! DNS rebinding, and forged requests across sites.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::header::{HOST, HeaderName, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The headers that load balancers and proxies add to the requests of others.
const FORWARDING: [&str; 8] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
];

/// The names under which a listener is addressed. Clones are cheap.
#[derive(Debug, Clone)]
pub struct OwnHosts {
    names: Arc<[String]>,
    /// A listener that other machines reach has names that it cannot know, such as that of a Kubernetes service.
    allows_any_name: bool,
}

/// Why a request is taken for one of a foreign page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForeignRequest {
    /// `Host` names another host (DNS rebinding).
    #[error("The Host header names a host that is not this one")]
    Host,
    /// `Origin` names another site.
    #[error("The request comes from a web page of another origin")]
    Origin,
    /// `Sec-Fetch-Site` is `cross-site`.
    #[error("The request comes from a web page of another site")]
    CrossSite,
}

impl OwnHosts {
    /// The names of a listener. `names`: host names without a port, such as `tokens.example.com`. Addresses and the
    /// names of loopback are always own. If there are no names, a listener beyond loopback takes every name.
    #[must_use]
    pub fn new(listen: SocketAddr, names: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<String> = names
            .into_iter()
            .map(|it| it.to_ascii_lowercase())
            .collect();
        Self {
            allows_any_name: names.is_empty() && !listen.ip().is_loopback(),
            names: names.into(),
        }
    }

    /// With one more own name. It closes the listener to no other name.
    #[must_use]
    pub fn with(self, name: Option<String>) -> Self {
        let names = self.names.iter().cloned();
        let names = names.chain(name.map(|it| it.to_ascii_lowercase()));
        Self {
            names: names.collect(),
            ..self
        }
    }

    /// Of a listener that others address by names that it cannot know.
    #[must_use]
    pub fn any() -> Self {
        Self {
            names: Arc::default(),
            allows_any_name: true,
        }
    }

    /// Refuses a request of a foreign page.
    ///
    /// # Errors
    /// By its `Host`, its `Origin` or its `Sec-Fetch-Site`.
    pub fn check(&self, parts: &Parts) -> Result<(), ForeignRequest> {
        self.check_page(parts)?;
        match parts.headers.get(SEC_FETCH_SITE) {
            Some(site) if site == "cross-site" => Err(ForeignRequest::CrossSite),
            Some(_) | None => Ok(()),
        }
    }

    /// As [`OwnHosts::check`], but a person may follow a link here from anywhere.
    ///
    /// # Errors
    /// As [`OwnHosts::check`].
    pub fn check_link(&self, parts: &Parts) -> Result<(), ForeignRequest> {
        let mode = parts.headers.get(SEC_FETCH_MODE);
        if parts.method == Method::GET && mode.is_some_and(|mode| mode == "navigate") {
            self.check_page(parts)
        } else {
            self.check(parts)
        }
    }

    /// Checks only the name of the host, for pages whose origin was checked elsewhere.
    ///
    /// # Errors
    /// By its `Host`.
    pub fn check_host(&self, parts: &Parts) -> Result<(), ForeignRequest> {
        let is_named = parts.headers.get(HOST).is_some_and(|host| !host.is_empty());
        match authority(parts) {
            Some(host) if !self.is_own(host.host()) => Err(ForeignRequest::Host),
            // The name of a host that cannot be read is no own one. Browsers take `{` in a name, this parser does not.
            None if is_named => Err(ForeignRequest::Host),
            Some(_) | None => Ok(()),
        }
    }

    fn check_page(&self, parts: &Parts) -> Result<(), ForeignRequest> {
        self.check_host(parts)?;
        let host = authority(parts);
        let Some(origin) = parts.headers.get(ORIGIN) else {
            return Ok(());
        };
        let origin = origin.to_str().ok().and_then(|it| it.split_once("://"));
        let origin = origin.and_then(|(_, authority)| authority.parse::<Authority>().ok());
        let is_own = origin.is_some_and(|origin| {
            let is_named = self.names.contains(&origin.host().to_ascii_lowercase());
            is_named || host.is_some_and(|host| host == origin)
        });
        is_own.then_some(()).ok_or(ForeignRequest::Origin)
    }

    fn is_own(&self, host: &str) -> bool {
        // A page cannot have its name rebound to an address: its own name is the address.
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        is_address
            || self.allows_any_name
            || is_loopback(host)
            || self.names.contains(&host.to_ascii_lowercase())
    }
}

/// Whether a program on this machine made the request itself: neither a web page nor a proxy shows in its headers, and
/// it names loopback.
#[must_use]
pub fn is_direct_and_local(parts: &Parts) -> bool {
    let is_forwarded = FORWARDING
        .iter()
        .any(|name| parts.headers.contains_key(*name));
    let is_of_a_page =
        parts.headers.contains_key(ORIGIN) || parts.headers.contains_key(SEC_FETCH_SITE);
    let names_loopback = authority(parts).is_some_and(|host| is_loopback(host.host()));
    names_loopback && !is_forwarded && !is_of_a_page
}

/// Whether the host of a URL is this machine by its name or address.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.is_ok_and(|it| it.is_loopback()) || host.eq_ignore_ascii_case("localhost")
}

/// `Host`, or `:authority` of HTTP/2.
fn authority(parts: &Parts) -> Option<Authority> {
    let of_uri = parts.uri.authority().cloned();
    of_uri.or_else(|| host_header(&parts.headers))
}

fn host_header(headers: &HeaderMap) -> Option<Authority> {
    headers.get(HOST)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const LOCAL: &str = "127.0.0.1:9080";

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let request = Request::builder().method(method).uri("/v1/keys");
        let request = headers
            .iter()
            .fold(request, |it, (name, value)| it.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn hosts(listen: &str, names: &[&str]) -> OwnHosts {
        OwnHosts::new(
            listen.parse().unwrap(),
            names.iter().map(|it| (*it).to_owned()),
        )
    }

    #[test]
    fn hosts_origins_and_cross_site_requests_of_foreign_pages_are_refused() {
        use ForeignRequest::{CrossSite, Host, Origin};
        type Headers = &'static [(&'static str, &'static str)];
        let cases: &[(Headers, Result<(), ForeignRequest>)] = &[
            (&[("host", LOCAL)], Ok(())),
            (&[("host", "localhost:9080")], Ok(())),
            (&[("host", "[::1]:9080")], Ok(())),
            (&[("host", "tokens.example.com")], Ok(())),
            (&[("host", "TOKENS.example.com:443")], Ok(())),
            (&[("host", "evil.example:9080")], Err(Host)),
            (&[("host", "localhost.evil.example")], Err(Host)),
            (&[("host", "a{b.evil.example:9080")], Err(Host)),
            (
                &[("host", LOCAL), ("origin", "http://127.0.0.1:9080")],
                Ok(()),
            ),
            (
                &[("host", LOCAL), ("origin", "http://127.0.0.1:3000")],
                Err(Origin),
            ),
            (
                &[("host", LOCAL), ("origin", "http://evil.example")],
                Err(Origin),
            ),
            (&[("host", LOCAL), ("origin", "null")], Err(Origin)),
            (
                &[("host", LOCAL), ("origin", "https://tokens.example.com")],
                Ok(()),
            ),
            (
                &[("host", LOCAL), ("sec-fetch-site", "cross-site")],
                Err(CrossSite),
            ),
            (
                &[("host", LOCAL), ("sec-fetch-site", "same-origin")],
                Ok(()),
            ),
        ];
        let own = hosts(LOCAL, &["tokens.example.com"]);
        for (headers, expected) in cases {
            assert_eq!(own.check(&parts("POST", headers)), *expected, "{headers:?}");
        }
    }

    #[test]
    fn listener_beyond_loopback_takes_every_name_unless_some_are_listed() {
        let request = parts("GET", &[("host", "evergreen.default.svc:9080")]);
        assert_eq!(hosts("0.0.0.0:9080", &[]).check(&request), Ok(()));
        let listed = hosts("0.0.0.0:9080", &["evergreen.example.com"]);
        assert_eq!(listed.check(&request), Err(ForeignRequest::Host));
        assert_eq!(hosts(LOCAL, &[]).check(&request), Err(ForeignRequest::Host));
    }

    #[test]
    fn link_from_another_site_may_be_followed_but_not_posted_or_fetched() {
        let own = hosts(LOCAL, &[]);
        let with = |method, mode| {
            let headers = [
                ("host", LOCAL),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", mode),
            ];
            own.check_link(&parts(method, &headers))
        };
        assert_eq!(with("GET", "navigate"), Ok(()));
        assert_eq!(with("GET", "no-cors"), Err(ForeignRequest::CrossSite));
        assert_eq!(with("POST", "navigate"), Err(ForeignRequest::CrossSite));
    }

    #[test]
    fn requests_of_pages_and_through_proxies_are_not_local() {
        assert!(is_direct_and_local(&parts(
            "GET",
            &[("host", "localhost:8080")]
        )));
        for header in FORWARDING.iter().chain(&["origin", "sec-fetch-site"]) {
            let request = parts("GET", &[("host", LOCAL), (header, "x")]);
            assert!(!is_direct_and_local(&request), "{header}");
        }
        for host in ["tokens.example.com", "10.0.0.1"] {
            assert!(
                !is_direct_and_local(&parts("GET", &[("host", host)])),
                "{host}"
            );
        }
        assert!(!is_direct_and_local(&parts("GET", &[])));
    }
}
