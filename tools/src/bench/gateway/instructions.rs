//! The instructions that a proxy executes for a request, as counted by valgrind. The count does not depend on the
//! machine or its load. It excludes the kernel.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::caller::Caller;
use super::proxy::{Kind, Proxy};
use super::setup::BenchSetup;
use super::workload::UpstreamTransport;

/// Both counts include the start of the proxy, so the difference excludes it.
const FEW: u32 = 500;
const MANY: u32 = 10_500;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Counted {
    pub(super) kind: Kind,
    pub(super) per_request: f64,
}

/// Counts for all proxies except Express, since valgrind cannot count code from a JIT compiler reliably.
pub(super) async fn count(setup: &BenchSetup, kinds: &[Kind]) -> Vec<Counted> {
    let mut counted = Vec::new();
    if !is_valgrind_installed() {
        eprintln!("left out: valgrind is not installed");
        return counted;
    }
    for kind in kinds.iter().filter(|kind| **kind != Kind::Express) {
        let (few, many) = (
            executed(setup, *kind, FEW).await,
            executed(setup, *kind, MANY).await,
        );
        counted.push(Counted {
            kind: *kind,
            per_request: (many - few) / f64::from(MANY - FEW),
        });
    }
    counted
}

/// All instructions of a proxy from its start to its end, with this many requests over one connection.
async fn executed(setup: &BenchSetup, kind: Kind, requests: u32) -> f64 {
    let file = setup
        .scratch
        .join(&format!("callgrind-{}-{requests}", kind.name()));
    let out = format!("--callgrind-out-file={file}");
    let under = ["valgrind", "--tool=callgrind", &out];
    let proxy = Proxy::start(kind, setup, UpstreamTransport::Plain, &under).await;
    let mut caller = Caller::connect(setup, &proxy.address).await;
    for _ in 0..requests {
        caller.call().await;
    }
    drop(caller);
    proxy.program.terminate(PATIENCE).await;
    let counts = std::fs::read_to_string(&file).expect("what callgrind counted");
    let total = counts
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    total
        .and_then(|total| total.trim().parse().ok())
        .expect("a number")
}

fn is_valgrind_installed() -> bool {
    let status = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
