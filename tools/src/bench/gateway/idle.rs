//! The memory of open idle connections.

use super::PROXY_CORE;
use super::caller::Caller;
use super::proxy::{Kind, Proxy};
use super::sample::megabytes;
use super::setup::BenchSetup;
use super::workload::UpstreamTransport;

const CONNECTIONS: u32 = 1000;

/// The memory of a proxy just after its start, and with connections that have each made one call.
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

pub(super) async fn measure(setup: &BenchSetup, kinds: &[Kind]) -> Vec<Idle> {
    let mut measured = Vec::new();
    for kind in kinds {
        let proxy = Proxy::start(*kind, setup, UpstreamTransport::Plain, PROXY_CORE).await;
        let before_mb = megabytes(proxy.program.resident_kb());
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut caller = Caller::connect(setup, &proxy.address).await;
            caller.call().await;
            connections.push(caller);
        }
        measured.push(Idle {
            kind: *kind,
            before_mb,
            after_mb: megabytes(proxy.program.resident_kb()),
        });
    }
    measured
}
