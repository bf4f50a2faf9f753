//! Measurements of one proxy under load, and their medians.

use std::time::Duration;

use super::proxy::{Kind, Proxy};
use super::setup::BenchSetup;
use super::workload::Workload;
use super::wrk;

/// The measurements of one round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// CPU time of the proxy alone, per request.
    pub(super) cpu_us: f64,
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) resident_mb: f64,
}

/// The rounds of one proxy.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) kind: Kind,
    pub(super) protocol: String,
    pub(super) samples: Vec<Sample>,
}

/// A figure with its name and its number of decimals in tables.
pub(super) struct Figure {
    pub(super) name: &'static str,
    /// The key in JSON.
    pub(super) key: &'static str,
    pub(super) decimals: usize,
    pub(super) of: fn(&Sample) -> f64,
}

pub(super) const FIGURES: [Figure; 5] = [
    Figure {
        name: "CPU µs per request",
        key: "cpu_us_per_request",
        decimals: 1,
        of: |sample| sample.cpu_us,
    },
    Figure {
        name: "requests/s",
        key: "requests_per_second",
        decimals: 0,
        of: |sample| sample.per_second,
    },
    Figure {
        name: "p50 µs",
        key: "p50_us",
        decimals: 0,
        of: |sample| sample.p50_us,
    },
    Figure {
        name: "p99 µs",
        key: "p99_us",
        decimals: 0,
        of: |sample| sample.p99_us,
    },
    Figure {
        name: "resident MB",
        key: "resident_mb",
        decimals: 1,
        of: |sample| sample.resident_mb,
    },
];

pub(super) async fn take(
    setup: &BenchSetup,
    workload: &Workload,
    proxy: &Proxy,
    length: Duration,
) -> Sample {
    let before = proxy.program.cpu();
    let target = format!("{}/ghl", proxy.address);
    let seen = wrk::run(setup, workload, &target, length).await;
    let used = proxy.program.cpu() - before;
    Sample {
        cpu_us: used.as_secs_f64() * 1e6 / seen.requests,
        per_second: seen.per_second(),
        p50_us: seen.p50_us,
        p99_us: seen.p99_us,
        resident_mb: megabytes(proxy.program.resident_kb()),
    }
}

impl Series {
    /// An empty series for a proxy.
    pub(super) fn of(proxy: &Proxy) -> Self {
        Self {
            kind: proxy.kind,
            protocol: proxy.protocol.clone(),
            samples: Vec::new(),
        }
    }

    pub(super) fn median(&self, figure: &Figure) -> f64 {
        median(self.samples.iter().map(figure.of))
    }

    /// The median of the ratios to `base` in the same round.
    pub(super) fn ratio(&self, base: &Self, figure: &Figure) -> f64 {
        let rounds = self.samples.iter().zip(&base.samples);
        median(rounds.map(|(own, base)| (figure.of)(own) / (figure.of)(base)))
    }
}

pub(in crate::bench) fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 kB")]
pub(in crate::bench) fn megabytes(kb: u64) -> f64 {
    kb as f64 / 1024.0
}
