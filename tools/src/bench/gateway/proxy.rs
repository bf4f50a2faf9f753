//! The proxies, each started as its own documentation would have it.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use tests::client;
use tests::fleet::Member;
use tests::front::Front;
use tests::port;
use tests::program::{Program, Start, wait_for_port};

use super::scene::Way;
use super::upstream::fill;
use super::yard::Yard;

const NGINX: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/nginx.conf"));
const HAPROXY: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/haproxy.cfg"));

/// What the others send instead of a live token: as long as GHL's.
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
    /// Which protocol it speaks with the upstream.
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

    /// Whether all of it is here; says so where it is not.
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
    /// Starts one under `taskset` or the like, and makes sure that it works.
    pub(in crate::bench) async fn start(kind: Kind, yard: &Yard, way: Way, under: &[&str]) -> Self {
        let (address, program) = match kind {
            Kind::Nginx => nginx(yard, way, under).await,
            Kind::Haproxy => haproxy(yard, way, under).await,
            Kind::Gateway => gateway(yard, way, under).await,
            Kind::Express => node(yard, way, under).await,
        };
        let protocol = probe(yard, &address).await;
        Self {
            kind,
            address,
            program,
            protocol,
        }
    }
}

async fn nginx(yard: &Yard, way: Way, under: &[&str]) -> (String, Program) {
    let scheme = match way {
        Way::Plain => "http",
        Way::Tls => "https",
    };
    let values = [("SCHEME", scheme)];
    let (port, file) = configured(NGINX, "nginx", yard, way, &values);
    let start = Start::new("nginx").args(&["-c", &file, "-e", "stderr"]);
    launched(start, port, under).await
}

async fn haproxy(yard: &Yard, way: Way, under: &[&str]) -> (String, Program) {
    let options = match way {
        Way::Plain => String::new(),
        Way::Tls => format!(
            "ssl verify required ca-file {} alpn h2",
            Front::certificate()
        ),
    };
    let values = [("OPTIONS", options.as_str())];
    let (port, file) = configured(HAPROXY, "haproxy", yard, way, &values);
    launched(Start::new("haproxy").args(&["-f", &file]), port, under).await
}

/// With its defaults, over the store.
async fn gateway(yard: &Yard, way: Way, under: &[&str]) -> (String, Program) {
    let start = yard.bed.gateway().env("GHL_API_URL", url(yard, way));
    let start = start.env("SSL_CERT_FILE", Front::certificate());
    let mut member = Member::start(start.under(under)).await;
    let program = member.program.take().expect("it runs");
    (member.address, program)
}

async fn node(yard: &Yard, way: Way, under: &[&str]) -> (String, Program) {
    let port = port::free();
    let server = express().join("server.js");
    let start = Start::new("node")
        .args(&[server.display().to_string()])
        .env("NODE_ENV", "production")
        .env("NODE_EXTRA_CA_CERTS", Front::certificate())
        .env("PORT", port)
        .env("UPSTREAM", url(yard, way))
        .env("TOKEN", token());
    launched(start, port, under).await
}

/// The port and the file of a configuration that is filled in.
fn configured(
    template: &str,
    name: &str,
    yard: &Yard,
    way: Way,
    more: &[(&str, &str)],
) -> (u16, String) {
    let port = port::free();
    let values = [
        ("DIR", yard.scratch.path().display().to_string()),
        ("PORT", port.to_string()),
        ("UPSTREAM", yard.upstream.address(way).to_owned()),
        ("TOKEN", token()),
    ];
    let common = values
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let file = yard.scratch.join(&format!("{name}-{port}.conf"));
    std::fs::write(&file, fill(&fill(template, &common), more)).expect("a file of our own");
    (port, file)
}

async fn launched(start: Start, port: u16, under: &[&str]) -> (String, Program) {
    let program = start.under(under).spawn();
    wait_for_port(port).await;
    (format!("127.0.0.1:{port}"), program)
}

/// One call, as all that follow; returns the protocol that the upstream was spoken to with.
async fn probe(yard: &Yard, address: &str) -> String {
    let request = yard.request("close");
    let (status, answer) = client::raw(&format!("http://{address}"), request).await;
    assert_eq!(status, 200, "{answer}");
    let mut headers = answer.lines().filter_map(|line| line.split_once(": "));
    let protocol = headers.find(|(name, _)| name.eq_ignore_ascii_case("x-upstream-protocol"));
    protocol.map(|(_, value)| value.to_owned()).expect(&answer)
}

fn url(yard: &Yard, way: Way) -> String {
    let address = yard.upstream.address(way);
    match way {
        Way::Plain => format!("http://{address}"),
        Way::Tls => format!("https://{address}"),
    }
}

fn token() -> String {
    "t".repeat(TOKEN_BYTES)
}

fn express() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/express")
}
