//! Whether GHL can be reached, and whether this machine's clock is right.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use service::config::is_loopback;
use service::tls::{self, Authorities};
use url::Url;

use super::clock::{compare, now};
use super::finding::Finding;
use crate::exit::chain;
use crate::run::Checked;

const NAME: &str = "GHL";

/// Less than a check may take, so that the error of the connection is seen.
const LIMIT: Duration = Duration::from_secs(4);

/// Asks the token endpoint without any credentials, which costs nothing.
pub(super) async fn ghl(checked: Arc<Checked>) -> Vec<Finding> {
    if checked.is_sandboxed {
        let text = "no GHL_CLIENT_ID is set here, so the sandbox in `up` would stand in for GHL: no app of yours was checked";
        return vec![Finding::ok(NAME, text)];
    }
    let base = checked.api_url.as_str().trim_end_matches('/');
    let url = format!("{base}/oauth/token");
    let http = match client(&checked.authorities, &checked.api_url) {
        Ok(http) => http,
        Err(error) => return vec![Finding::problem(NAME, error, "see EVERGREEN_CA_FILE")],
    };
    match http.get(&url).send().await {
        Err(error) => vec![Finding::problem(
            NAME,
            format!(
                "GET {url} without credentials failed: {}",
                chain(&error.without_url())
            ),
            "is there a firewall or a proxy (HTTPS_PROXY) in between, or a CA of your own (EVERGREEN_CA_FILE)?",
        )],
        Ok(response) => {
            let (status, headers) = (response.status(), response.headers().clone());
            let mut findings = vec![answered(&url, status)];
            findings.extend(clock(&headers, now()));
            if !checked.apps.is_empty() {
                findings.push(Finding::ok(
                    "client credentials",
                    "they are set. GHL checks them only with a code or a refresh token: at the first consent",
                ));
            }
            findings
        }
    }
}

fn answered(url: &str, status: StatusCode) -> Finding {
    let text = format!("GET {url} without credentials was answered: {status}");
    if status.is_server_error() {
        return Finding::warning(
            NAME,
            text,
            "GHL has a fault, or a proxy on the way: try again",
        );
    }
    if [
        StatusCode::FORBIDDEN,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    ]
    .contains(&status)
    {
        let todo = "GHL's edge or a proxy refuses this machine's address: try another network";
        return Finding::warning(NAME, text, todo);
    }
    Finding::ok(NAME, text)
}

fn clock(headers: &HeaderMap, now: SystemTime) -> Option<Finding> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let date = httpdate::parse_http_date(date).ok()?;
    Some(compare("clock", "GHL", now, date))
}

/// A client as the process would have it: with the system's CAs and the further ones, and through the proxies of the
/// environment, but never to this machine.
pub(super) fn client(authorities: &Authorities, peer: &Url) -> Result<Client, String> {
    let builder = Client::builder()
        .timeout(LIMIT)
        .user_agent(::ghl::api::USER_AGENT)
        .redirect(Policy::none());
    let builder = match peer.scheme() {
        "https" => {
            let tls = tls::connections(authorities, None);
            builder.tls_backend_preconfigured(tls.map_err(|error| error.to_string())?)
        }
        _ => builder,
    };
    let builder = match is_loopback(peer) {
        true => builder.no_proxy(),
        false => builder,
    };
    builder.build().map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn any_answer_but_a_fault_shows_that_ghl_is_reached() {
        for (status, expected) in [
            (404, State::Ok),
            (405, State::Ok),
            (200, State::Ok),
            (403, State::Warning),
            (503, State::Warning),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(answered("u", status).state, expected, "{status}");
        }
    }

    #[test]
    fn clock_is_compared_with_the_date_of_the_answer() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
        let there = httpdate::parse_http_date(date).unwrap();
        assert_eq!(clock(&headers, there).unwrap().state, State::Ok);
        let found = clock(&headers, now()).unwrap();
        assert_eq!(found.state, State::Problem);
        assert!(clock(&HeaderMap::new(), there).is_none());
    }
}
