//! `evergreen healthcheck`: asks the process of this container whether it is ready. For images without a shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use service::config::Layered;

use crate::exit::{Failure, chain};
use crate::operate::{array, text};
use crate::output::Output;
use crate::process::read;
use crate::settings::internal_listen;

/// The ports of the internal listener of `up` and gateways, and of brokers, if no setting names one.
const DEFAULT_PORTS: [u16; 2] = [9080, 9081];

/// Below the 5 s that the image gives this command.
const TIMEOUT: Duration = Duration::from_secs(4);

/// An address to ask, and with which scheme.
struct Probe {
    addresses: Vec<SocketAddr>,
    scheme: &'static str,
}

/// Succeeds if `/readyz` of the internal listener is 200.
pub(crate) async fn check(source: &Layered, output: Output) -> Result<(), Failure> {
    let probe = read(source, |settings| Probe {
        addresses: addresses(internal_listen(settings)),
        scheme: match settings.text("EVERGREEN_TLS_CERT") {
            Some(_) => "https",
            None => "http",
        },
    })?;
    let http = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        // The process asks itself, by an address that no certificate names. Nothing secret is sent, and nothing but
        // the state of a container follows from the answer.
        .tls_danger_accept_invalid_certs(true);
    let http = http.build().map_err(Failure::unavailable)?;
    let mut failure = Failure::Refused(String::new());
    for address in probe.addresses {
        let url = format!("{}://{address}/readyz", probe.scheme);
        match http.get(&url).send().await {
            Ok(response) if response.status().is_success() => {
                return output.report(&json!({ "ready": true, "asked": url }), "", || {
                    format!("ready: {url}")
                });
            }
            Ok(response) => {
                let status = response.status();
                let body = response.text().await.unwrap_or_default();
                let why = match reasons(&body) {
                    lines if lines.is_empty() => {
                        format!(
                            "{url} is not the internal listener of evergreen (EVERGREEN_INTERNAL_LISTEN)"
                        )
                    }
                    lines => lines,
                };
                return Err(Failure::Refused(format!("not ready ({status}): {why}")));
            }
            Err(error) => {
                let why = chain(&error.without_url());
                failure = Failure::Refused(format!(
                    "{url} does not answer: {why}. EVERGREEN_INTERNAL_LISTEN says where the process listens. Without it \
                     the ports 9080 and 9081 of this machine are asked"
                ));
            }
        }
    }
    Err(failure)
}

/// The addresses at which the listener can be reached from here.
pub(crate) fn addresses(listen: Option<SocketAddr>) -> Vec<SocketAddr> {
    match listen {
        Some(mut address) => {
            match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
                IpAddr::V4(_) | IpAddr::V6(_) => {}
            }
            vec![address]
        }
        None => DEFAULT_PORTS
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .to_vec(),
    }
}

/// One line for each reason in the body of `/readyz`.
fn reasons(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let reasons = array(&body, "reasons");
    let lines: Vec<String> = reasons
        .map(|reason| format!("{}: {}", text(reason, "name"), text(reason, "message")))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_on_all_addresses_is_asked_over_loopback() {
        let asked = |listen: &str| addresses(Some(listen.parse().unwrap()))[0].to_string();
        assert_eq!(asked("0.0.0.0:9081"), "127.0.0.1:9081");
        assert_eq!(asked("[::]:9081"), "[::1]:9081");
        assert_eq!(asked("10.0.0.1:9081"), "10.0.0.1:9081");
        assert_eq!(addresses(None).len(), 2);
    }

    #[test]
    fn every_reason_is_shown() {
        let body =
            r#"{"reasons":[{"name":"store","message":"away"},{"name":"locks","message":"lost"}]}"#;
        assert_eq!(reasons(body), "store: away\nlocks: lost");
        assert_eq!(reasons("<html>"), "");
    }
}
