//! Whether the addresses of the listeners are free, or evergreen's already; and the brokers of a gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use service::listen;
use service::tls;

use super::finding::Finding;
use super::redirect::is_healthy;
use crate::exit::chain;
use crate::healthcheck;
use crate::run::Checked;

/// Short, since it is this machine.
const LIMIT: Duration = Duration::from_secs(2);

/// The program behind an address of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Evergreen,
    Other,
    Nobody,
}

pub(super) async fn listener(
    checked: Arc<Checked>,
    name: &'static str,
    address: SocketAddr,
) -> Vec<Finding> {
    let error = match listen::bind(address).await {
        Ok(_) => return vec![Finding::ok(name, format!("{address} is free"))],
        Err(error) => error,
    };
    let finding = match ask(&checked, address).await {
        Asked::Evergreen => Finding::ok(name, format!("evergreen serves at {address} already")),
        Asked::Other => Finding::problem(
            name,
            format!("another program serves at {address}"),
            "end it, or choose another address",
        ),
        Asked::Nobody => Finding::problem(
            name,
            chain(&error),
            "choose an address of this machine and a port that this user may open",
        ),
    };
    vec![finding]
}

/// Asks for `/livez` and `/health`, of which each listener has one. The certificate names another host than the address.
pub(super) async fn ask(checked: &Checked, address: SocketAddr) -> Asked {
    let http = Client::builder()
        .timeout(LIMIT)
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .build();
    let Ok(http) = http else {
        return Asked::Nobody;
    };
    let addresses = healthcheck::addresses(Some(address));
    let mut asked = Asked::Nobody;
    for (address, path) in addresses
        .iter()
        .flat_map(|address| ["/health", "/livez"].map(|path| (address, path)))
    {
        let url = format!("{}://{address}{path}", checked.scheme);
        let Ok(response) = http.get(url).send().await else {
            continue;
        };
        asked = Asked::Other;
        let body = response.bytes().await.unwrap_or_default();
        if is_healthy(&body) || body.as_ref() == b"ok\n" {
            return Asked::Evergreen;
        }
    }
    asked
}

/// Whether a gateway reaches its brokers.
pub(super) async fn brokers(checked: Arc<Checked>) -> Vec<Finding> {
    const NAME: &str = "brokers";
    let Some(base) = &checked.broker_url else {
        return Vec::new();
    };
    let url = format!("{}/health", base.as_str().trim_end_matches('/'));
    let http = Client::builder().timeout(LIMIT).no_proxy();
    let http = match base.scheme() {
        "https" => match tls::connections(&checked.authorities, checked.identity.as_ref()) {
            Ok(tls) => http.tls_backend_preconfigured(tls),
            Err(error) => {
                let todo = "see EVERGREEN_CA_FILE and EVERGREEN_CLIENT_CERT";
                return vec![Finding::problem(NAME, error.to_string(), todo)];
            }
        },
        _ => http,
    };
    let answer = match http.build() {
        Ok(http) => http.get(&url).send().await,
        Err(error) => Err(error),
    };
    let finding = match answer {
        Ok(response) => {
            let status = response.status();
            match is_healthy(&response.bytes().await.unwrap_or_default()) {
                true => Finding::ok(NAME, format!("one answers at {base}")),
                false => Finding::problem(
                    NAME,
                    format!("{url} is answered with {status}, and not by a broker"),
                    "EVERGREEN_BROKER_URL must name the public listener of brokers, port 8081 by default",
                ),
            }
        }
        Err(error) => Finding::warning(
            NAME,
            format!("none answers at {base}: {}", chain(&error.without_url())),
            "start a broker, or correct EVERGREEN_BROKER_URL: without one, no token is refreshed",
        ),
    };
    vec![finding]
}
