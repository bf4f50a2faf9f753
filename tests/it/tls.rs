//! TLS of listeners, and of connections to brokers, GHL and Redis.

mod broker;
mod client_certificates;
mod ghl;
mod listeners;
mod redis;
mod settings;

use std::time::Duration;

use reqwest::Client;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tests::certificates::{Authority, Issued};
use tests::client::KEY;
use tests::port;
use tests::program::{Program, Start, wait_for_port};
use tests::scratch::Scratch;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);

/// A process with TLS on both listeners.
struct Served {
    program: Program,
    public: String,
    internal: String,
    start: Start,
    _scratch: Scratch,
}

impl Served {
    /// Starts a process and waits until it listens.
    async fn start(start: Start, tls: &Issued) -> Self {
        let scratch = Scratch::new();
        let (public, internal) = (port::free(), port::free());
        let at = |port| format!("127.0.0.1:{port}");
        let start = start
            .env("EVERGREEN_LISTEN", at(public))
            .env("EVERGREEN_INTERNAL_LISTEN", at(internal))
            .env("EVERGREEN_SANDBOX_LISTEN", at(port::free()))
            .env("EVERGREEN_SANDBOX_RATE_LIMIT", 0)
            .env("EVERGREEN_DATA_DIR", scratch.join("data"))
            .env("EVERGREEN_TLS_CERT", &tls.certificate)
            .env("EVERGREEN_TLS_KEY", &tls.key);
        let program = start.spawn();
        for port in [public, internal] {
            wait_for_port(port).await;
        }
        Self {
            program,
            public: format!("https://{}", at(public)),
            internal: format!("https://{}", at(internal)),
            start,
            _scratch: scratch,
        }
    }

    /// Restarts it with SIGTERM, which ends its connections.
    async fn restart(&mut self) {
        let former = std::mem::replace(&mut self.program, Start::new("true").spawn());
        former.terminate(PATIENCE).await;
        self.program = self.start.spawn();
    }

    /// Waits until `/readyz` says so.
    async fn wait_until_ready(&self, client: &Client) {
        let url = format!("{}/readyz", self.internal);
        until("readiness", PATIENCE, || async {
            let status = client.get(&url).send().await.map(|it| it.status());
            let is_ready = status.as_ref().is_ok_and(|status| status.is_success());
            holds(is_ready, (status, self.program.log()))
        })
        .await;
    }
}

/// A client that trusts this CA, and has the administrator's key.
fn client(authority: &Authority, identity: Option<&Issued>) -> Client {
    let key = HeaderValue::from_str(&format!("Bearer {KEY}")).unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, key)]);
    let builder = authority.client().default_headers(headers);
    let builder = match identity {
        Some(issued) => builder.identity(issued.identity()),
        None => builder,
    };
    builder.build().unwrap()
}
