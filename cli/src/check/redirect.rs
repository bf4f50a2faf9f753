//! Whether GHL's customers come back to evergreen after a consent.

use std::sync::Arc;

use serde_json::Value;
use service::config::is_loopback;
use tokio::net::lookup_host;
use url::Url;

use super::finding::Finding;
use super::ghl::client;
use super::listeners::{Asked, ask};
use crate::exit::chain;
use crate::run::Checked;

const NAME: &str = "redirect URI";
/// The route of consents, and that of health beside it.
const CALLBACK: &str = "/oauth/callback";
const HEALTH: &str = "/health";

pub(super) async fn redirect_uri(checked: Arc<Checked>, number: usize) -> Vec<Finding> {
    let Some((app, uri)) = checked.apps.get(number) else {
        return Vec::new();
    };
    if is_loopback(uri) {
        let text = format!("{uri} of the app {app} leads to this machine");
        let is_real = ::ghl::api::is_ghl(&checked.api_url);
        let todo = "customers cannot come back: set GHL_REDIRECT_URI to the public URL";
        return vec![match is_real {
            true => Finding::warning(NAME, text, todo),
            false => Finding::ok(NAME, text),
        }];
    }
    if let Some(problem) = resolve(uri).await {
        return vec![problem];
    }
    let health = health_of(uri);
    let http = match client(&checked.authorities, &health) {
        Ok(http) => http,
        Err(error) => return vec![Finding::problem(NAME, error, "see EVERGREEN_CA_FILE")],
    };
    let answer = match http.get(health.clone()).send().await {
        Ok(response) => {
            let status = response.status();
            let body = response.bytes().await.unwrap_or_default();
            Ok((status.as_u16(), is_healthy(&body)))
        }
        Err(error) => Err(chain(&error.without_url())),
    };
    let is_running = ask(&checked, checked.common.listen).await == Asked::Evergreen;
    vec![judge(&health, answer, is_running)]
}

async fn resolve(uri: &Url) -> Option<Finding> {
    let host = uri.host_str().unwrap_or_default();
    let port = uri.port_or_known_default().unwrap_or(443);
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let error = lookup_host((name, port)).await.err()?;
    let todo = "make the DNS record of the host, or correct GHL_REDIRECT_URI";
    let text = format!("{host} does not resolve: {error}");
    Some(Finding::problem(NAME, text, todo))
}

/// `answer`: the status, and whether it is evergreen's; or the error. `is_running`: whether evergreen listens here.
fn judge(health: &Url, answer: Result<(u16, bool), String>, is_running: bool) -> Finding {
    match (answer, is_running) {
        (Ok((200, true)), _) => Finding::ok(NAME, format!("{health} is evergreen's")),
        (Ok((status @ 502..=504, _)), false) => Finding::warning(
            NAME,
            format!("{health} is answered with {status}, as a proxy does before evergreen runs"),
            "start evergreen, then check again",
        ),
        (Ok((status, _)), _) => Finding::problem(
            NAME,
            format!("{health} is answered with {status}, and not by evergreen"),
            "let the proxy pass all paths to EVERGREEN_LISTEN, and compare the URL with that on the app's page at GHL",
        ),
        (Err(error), true) => Finding::problem(
            NAME,
            format!("{health} does not answer: {error}"),
            "evergreen runs here: check the proxy, its certificate, and the firewall",
        ),
        (Err(error), false) => Finding::warning(
            NAME,
            format!("{health} does not answer yet: {error}"),
            "start evergreen and its proxy, then check again",
        ),
    }
}

/// The health of what serves the redirect URI. A proxy may serve it below a prefix.
fn health_of(uri: &Url) -> Url {
    let path = uri.path();
    let prefix = path.rfind(CALLBACK).map_or("", |at| &path[..at]);
    let prefix = if prefix == "/api" { "" } else { prefix };
    let mut health = uri.clone();
    health.set_path(&format!("{prefix}{HEALTH}"));
    health.set_query(None);
    health
}

/// Whether a body is that of evergreen's `/health`.
pub(super) fn is_healthy(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["status"] == "ok"
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn health_is_beside_the_callback() {
        for (uri, expected) in [
            (
                "https://a.example/oauth/callback",
                "https://a.example/health",
            ),
            (
                "https://a.example/api/oauth/callback",
                "https://a.example/health",
            ),
            (
                "https://a.example/x/oauth/callback/b?y=1",
                "https://a.example/x/health",
            ),
        ] {
            assert_eq!(health_of(&Url::parse(uri).unwrap()).as_str(), expected);
        }
    }

    #[test]
    fn answer_is_judged_by_whether_evergreen_runs() {
        let url = Url::parse("https://a.example/health").unwrap();
        let away = || Err("refused".to_owned());
        for (answer, is_running, expected) in [
            (Ok((200, true)), false, State::Ok),
            (Ok((200, false)), true, State::Problem),
            (Ok((404, false)), false, State::Problem),
            (Ok((502, false)), false, State::Warning),
            (Ok((502, false)), true, State::Problem),
            (away(), false, State::Warning),
            (away(), true, State::Problem),
        ] {
            let found = judge(&url, answer.clone(), is_running);
            assert_eq!(found.state, expected, "{answer:?} {is_running}: {found}");
        }
    }
}
