//! Refresh counts and resource usage of the processes.

use std::time::Duration;

use tests::client;
use tests::fleet::Member;
use tests::program::Program;
use tests::testbed::Testbed;
use tokio::time::Instant;

/// All counters at one time.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    at: Instant,
    cpu: Cpu,
    /// Refreshes by broker.
    refreshed: Vec<u64>,
}

/// CPU time by role.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    pub(super) brokers: Duration,
    pub(super) sandbox: Duration,
    pub(super) store: Duration,
    pub(super) locks: Duration,
}

/// The differences between two snapshots.
#[derive(Debug)]
pub(super) struct Cost {
    pub(super) took: Duration,
    pub(super) cpu: Cpu,
    /// Refreshes by broker.
    pub(super) refreshed: Vec<u64>,
}

impl Snapshot {
    pub(super) async fn take(testbed: &Testbed, brokers: &[Member]) -> Self {
        let mut refreshed = Vec::new();
        for broker in brokers {
            refreshed.push(refreshes(broker).await);
        }
        Self {
            at: Instant::now(),
            cpu: Cpu {
                brokers: programs(brokers).map(Program::cpu).sum(),
                sandbox: testbed
                    .sandbox
                    .program()
                    .map(Program::cpu)
                    .unwrap_or_default(),
                store: testbed.store.program().cpu(),
                locks: testbed.locks.iter().map(|node| node.program().cpu()).sum(),
            },
            refreshed,
        }
    }

    /// The refreshes of all brokers.
    pub(super) fn refreshed(&self) -> u64 {
        self.refreshed.iter().sum()
    }

    pub(super) fn since(&self, earlier: &Self) -> Cost {
        let counts = self.refreshed.iter().zip(&earlier.refreshed);
        Cost {
            took: self.at - earlier.at,
            cpu: Cpu {
                brokers: self.cpu.brokers - earlier.cpu.brokers,
                sandbox: self.cpu.sandbox - earlier.cpu.sandbox,
                store: self.cpu.store - earlier.cpu.store,
                locks: self.cpu.locks - earlier.cpu.locks,
            },
            refreshed: counts.map(|(now, then)| now - then).collect(),
        }
    }
}

/// Resident memory of the largest broker, in kB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resident {
    /// With an empty store.
    pub(super) idle_kb: u64,
    pub(super) peak_kb: u64,
    pub(super) last_kb: u64,
}

impl Resident {
    pub(super) fn idle(brokers: &[Member]) -> Self {
        let idle_kb = largest_kb(brokers);
        Self {
            idle_kb,
            peak_kb: idle_kb,
            last_kb: idle_kb,
        }
    }

    pub(super) fn sample(&mut self, brokers: &[Member]) {
        self.last_kb = largest_kb(brokers);
        self.peak_kb = self.peak_kb.max(self.last_kb);
    }
}

fn largest_kb(brokers: &[Member]) -> u64 {
    let sizes = programs(brokers).map(Program::resident_kb);
    sizes.max().unwrap_or_default()
}

fn programs(brokers: &[Member]) -> impl Iterator<Item = &Program> {
    brokers.iter().filter_map(|broker| broker.program.as_ref())
}

async fn refreshes(broker: &Member) -> u64 {
    metric(broker, r#"evergreen_refresh_total{outcome="refreshed"}"#).await
}

/// How many refreshes the broker may have in flight.
pub(super) async fn window(broker: &Member) -> u64 {
    metric(broker, "evergreen_refresh_window").await
}

/// 0 until the broker exports the series.
async fn metric(broker: &Member, series: &str) -> u64 {
    let url = format!("{}/metrics", broker.internal);
    let (_, metrics) = client::get(&client::new(), &url).await;
    let metrics = metrics.as_str().unwrap_or_default();
    let of_series = |line: &str| line.strip_prefix(series)?.trim().parse().ok();
    metrics.lines().find_map(of_series).unwrap_or(0)
}
