//! What connections cost that are open and have nothing to do.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PROXY_CORE;
use super::proxy::{Kind, Proxy};
use super::sample::megabytes;
use super::scene::Way;
use super::upstream::END;
use super::yard::Yard;

const CONNECTIONS: u32 = 1000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Memory of a proxy that was just started, and with connections that have each made one call.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) kind: Kind,
    pub(super) before_mb: f64,
    pub(super) after_mb: f64,
}

impl Idle {
    pub(super) fn kb_each(&self) -> f64 {
        (self.after_mb - self.before_mb) * 1024.0 / f64::from(CONNECTIONS)
    }
}

pub(super) async fn measure(yard: &Yard, kinds: &[Kind]) -> Vec<Idle> {
    let mut measured = Vec::new();
    for kind in kinds {
        let proxy = Proxy::start(*kind, yard, Way::Plain, PROXY_CORE).await;
        let before_mb = megabytes(proxy.program.resident_kb());
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(called(yard, &proxy.address).await);
        }
        measured.push(Idle {
            kind: *kind,
            before_mb,
            after_mb: megabytes(proxy.program.resident_kb()),
        });
    }
    measured
}

/// A connection that has made a call and stays open.
async fn called(yard: &Yard, address: &str) -> TcpStream {
    let call = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = yard.request("/ghl/contacts/small.json", "keep-alive");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.trim_ascii_end().ends_with(END.as_bytes()) {
            assert!(stream.read_buf(&mut answer).await? > 0, "it stays open");
        }
        std::io::Result::Ok(stream)
    };
    tokio::time::timeout(PATIENCE, call)
        .await
        .expect("an answer in time")
        .unwrap_or_else(|error| panic!("{address}: {error}"))
}
