//! The proxies, each configured as its own documentation recommends.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use tests::client;
use tests::fleet::Member;
use tests::port;
use tests::program::{Program, Start, wait_for_port};
use tests::tls_fault_proxy::TlsFaultProxy;

use super::setup::BenchSetup;
use super::upstream::fill;
use super::workload::UpstreamTransport;

const NGINX: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/nginx.conf"));
const HAPROXY: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/haproxy.cfg"));

/// The length of the token that the other proxies send, like GHL's.
const TOKEN_BYTES: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Gateway,
    Express,
}

#[derive(Debug)]
pub(in crate::bench) struct Proxy {
    pub(in crate::bench) kind: Kind,
    /// `host:port`.
    pub(in crate::bench) address: String,
    pub(in crate::bench) program: Program,
    /// The protocol between the proxy and the upstream.
    pub(super) protocol: String,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Nginx, Self::Haproxy, Self::Gateway, Self::Express];

    pub(in crate::bench) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Gateway => "evergreen gateway",
            Self::Express => "Express + axios",
        }
    }

    /// Whether it is installed. If not, prints how to install it.
    pub(super) fn is_installed(self) -> bool {
        let is_here = self != Self::Express || express().join("node_modules").is_dir();
        if !is_here {
            eprintln!(
                "{} is left out: `npm install` in {} first",
                self.name(),
                express().display()
            );
        }
        is_here
    }
}

impl Proxy {
    /// Starts a proxy through a program such as `taskset`, and checks that it works.
    pub(in crate::bench) async fn start(
        kind: Kind,
        setup: &BenchSetup,
        transport: UpstreamTransport,
        under: &[&str],
    ) -> Self {
        let (address, program) = match kind {
            Kind::Nginx => nginx(setup, transport, under).await,
            Kind::Haproxy => haproxy(setup, transport, under).await,
            Kind::Gateway => gateway(setup, transport, under).await,
            Kind::Express => node(setup, transport, under).await,
        };
        let protocol = probe(setup, &address).await;
        Self {
            kind,
            address,
            program,
            protocol,
        }
    }
}

async fn nginx(
    setup: &BenchSetup,
    transport: UpstreamTransport,
    under: &[&str],
) -> (String, Program) {
    let scheme = match transport {
        UpstreamTransport::Plain => "http",
        UpstreamTransport::Tls => "https",
    };
    let values = [("SCHEME", scheme)];
    let (port, file) = configured(NGINX, "nginx", setup, transport, &values);
    let start = Start::new("nginx").args(&["-c", &file, "-e", "stderr"]);
    launched(start, port, under).await
}

async fn haproxy(
    setup: &BenchSetup,
    transport: UpstreamTransport,
    under: &[&str],
) -> (String, Program) {
    let options = match transport {
        UpstreamTransport::Plain => String::new(),
        UpstreamTransport::Tls => format!(
            "ssl verify required ca-file {} alpn h2",
            TlsFaultProxy::certificate()
        ),
    };
    let values = [("OPTIONS", options.as_str())];
    let (port, file) = configured(HAPROXY, "haproxy", setup, transport, &values);
    launched(Start::new("haproxy").args(&["-f", &file]), port, under).await
}

/// With its default settings, on the store.
async fn gateway(
    setup: &BenchSetup,
    transport: UpstreamTransport,
    under: &[&str],
) -> (String, Program) {
    let start = setup
        .testbed
        .gateway()
        .env("GHL_API_URL", url(setup, transport));
    let start = start.env("SSL_CERT_FILE", TlsFaultProxy::certificate());
    let mut member = Member::start(start.under(under)).await;
    let program = member.program.take().expect("it runs");
    (member.address, program)
}

async fn node(
    setup: &BenchSetup,
    transport: UpstreamTransport,
    under: &[&str],
) -> (String, Program) {
    let port = port::free();
    let server = express().join("server.js");
    let start = Start::new("node")
        .args(&[server.display().to_string()])
        .env("NODE_ENV", "production")
        .env("NODE_EXTRA_CA_CERTS", TlsFaultProxy::certificate())
        .env("PORT", port)
        .env("UPSTREAM", url(setup, transport))
        .env("TOKEN", token());
    launched(start, port, under).await
}

/// The port and the file of a configuration template.
fn configured(
    template: &str,
    name: &str,
    setup: &BenchSetup,
    transport: UpstreamTransport,
    more: &[(&str, &str)],
) -> (u16, String) {
    let port = port::free();
    let values = [
        ("DIR", setup.scratch.path().display().to_string()),
        ("PORT", port.to_string()),
        ("UPSTREAM", setup.upstream.address(transport).to_owned()),
        ("TOKEN", token()),
    ];
    let common = values
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let file = setup.scratch.join(&format!("{name}-{port}.conf"));
    std::fs::write(&file, fill(&fill(template, &common), more)).expect("a file of our own");
    (port, file)
}

async fn launched(start: Start, port: u16, under: &[&str]) -> (String, Program) {
    let program = start.under(under).spawn();
    wait_for_port(port).await;
    (format!("127.0.0.1:{port}"), program)
}

/// Makes one call. Returns the protocol between the proxy and the upstream.
async fn probe(setup: &BenchSetup, address: &str) -> String {
    let request = setup.request("close");
    let (status, response) = client::raw(&format!("http://{address}"), request).await;
    assert_eq!(status, 200, "{response}");
    let mut headers = response.lines().filter_map(|line| line.split_once(": "));
    let protocol = headers.find(|(name, _)| name.eq_ignore_ascii_case("x-upstream-protocol"));
    protocol
        .map(|(_, value)| value.to_owned())
        .expect(&response)
}

fn url(setup: &BenchSetup, transport: UpstreamTransport) -> String {
    let address = setup.upstream.address(transport);
    match transport {
        UpstreamTransport::Plain => format!("http://{address}"),
        UpstreamTransport::Tls => format!("https://{address}"),
    }
}

fn token() -> String {
    "t".repeat(TOKEN_BYTES)
}

fn express() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/express")
}
