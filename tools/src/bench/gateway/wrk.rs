//! Runs a workload with wrk.

use std::time::Duration;

use super::setup::BenchSetup;
use super::workload::Workload;
use crate::bench::wrk::{Load, Seen};

/// Sends the workload to this `host:port` and path prefix, for whole seconds.
pub(super) async fn run(
    setup: &BenchSetup,
    workload: &Workload,
    target: &str,
    length: Duration,
) -> Seen {
    let load = Load {
        callers: &setup.callers,
        url: format!("http://{target}{}", workload.path),
        body_bytes: workload.body_bytes,
        connections: workload.connections,
        pause: Duration::ZERO,
        under: &[],
        length,
    };
    let seen = load.run().await;
    let failed = seen.refused + seen.broken;
    assert!(
        failed < 1.0,
        "failed requests make the result invalid: {seen:?}"
    );
    seen
}
