//! Redirect URIs that GHL would refuse, or that no route takes.

use service::config::is_loopback;
use store::AppName;
use url::Url;

/// The route of consents. A proxy may strip what is before it, and evergreen itself also serves it below `/api`.
const CALLBACK: &str = "/oauth/callback";

/// The peers of a redirect URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peers {
    /// Whether consents are at the real GHL.
    pub(super) is_ghl: bool,
    /// Whether the operator accepts `http://` beyond this machine (`EVERGREEN_ALLOW_CLEARTEXT`).
    pub(super) allows_cleartext: bool,
}

/// Why a consent that returns to `uri` would fail. Completes "KEY …". `app`: the app that it is of.
pub(super) fn problem(uri: &Url, app: &AppName, peers: Peers) -> Option<String> {
    cleartext_problem(uri, peers).or_else(|| path_problem(uri.path(), app))
}

/// As [`problem`], of the scheme alone.
pub(super) fn cleartext_problem(uri: &Url, peers: Peers) -> Option<String> {
    if uri.scheme() != "http" || is_loopback(uri) {
        return None;
    }
    match (peers.is_ghl, peers.allows_cleartext) {
        (true, _) => Some(
            "is http://, and GHL takes that for this machine alone: use https://, such as \
             https://tokens.example.com/oauth/callback, and write the same URL on the app's page at GHL"
                .to_owned(),
        ),
        (false, false) => Some(
            "is http://, and leads beyond this machine: everyone on the way could read the codes of consents. Use \
             https://, or set EVERGREEN_ALLOW_CLEARTEXT=true where the network is private"
                .to_owned(),
        ),
        (false, true) => None,
    }
}

fn path_problem(path: &str, app: &AppName) -> Option<String> {
    let own = format!("{CALLBACK}/{app}");
    let is_callback = path.ends_with(CALLBACK) || path.ends_with(&own);
    let named = path.rsplit_once(&format!("{CALLBACK}/"));
    match named {
        _ if is_callback => None,
        Some((_, other)) if !other.is_empty() => Some(format!(
            "ends with the name of another app, {other:?}: it must end with {CALLBACK} or {own}"
        )),
        Some(_) | None => Some(format!(
            "has a path that evergreen does not serve: it must end with {CALLBACK} or {own}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GHL: Peers = Peers {
        is_ghl: true,
        allows_cleartext: true,
    };
    const OTHER: Peers = Peers {
        is_ghl: false,
        allows_cleartext: false,
    };

    fn found(uri: &str, app: &str, peers: Peers) -> Option<String> {
        problem(&Url::parse(uri).unwrap(), &app.parse().unwrap(), peers)
    }

    #[test]
    fn cleartext_is_for_this_machine_alone() {
        for uri in [
            "http://127.0.0.1:8080/oauth/callback",
            "http://localhost:8080/oauth/callback",
            "http://[::1]:8080/oauth/callback",
            "https://tokens.example.com/oauth/callback",
        ] {
            for peers in [GHL, OTHER] {
                assert_eq!(found(uri, "default", peers), None, "{uri}");
            }
        }
        let public = "http://tokens.example.com/oauth/callback";
        assert!(found(public, "default", GHL).unwrap().contains("GHL takes"));
        let refused = found(public, "default", OTHER).unwrap();
        assert!(refused.contains("EVERGREEN_ALLOW_CLEARTEXT"), "{refused}");
        let allowed = Peers {
            allows_cleartext: true,
            ..OTHER
        };
        assert_eq!(found(public, "default", allowed), None);
    }

    #[test]
    fn path_is_one_that_a_route_or_a_proxy_serves() {
        let at = |path: &str, app| found(&format!("https://us.example{path}"), app, GHL);
        for path in [
            "/oauth/callback",
            "/oauth/callback?tenant=1",
            "/oauth/callback/staging",
            "/api/oauth/callback",
            "/evergreen/oauth/callback",
        ] {
            assert_eq!(at(path, "staging"), None, "{path}");
        }
        for path in [
            "/",
            "/callback",
            "/oauth/callback/",
            "/oauth",
            "/oauth/callbacks",
        ] {
            let problem = at(path, "staging").unwrap();
            assert!(problem.contains("does not serve"), "{path}: {problem}");
        }
        let other = at("/oauth/callback/staging", "default").unwrap();
        assert!(other.contains("another app, \"staging\""), "{other}");
    }
}
