//! The results, as a table and as JSON.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::Scenario;
use super::order::Order;
use super::usage::{Cost, Resident};

/// One run.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) scenario: Scenario,
    pub(super) installations: u64,
    pub(super) lock_nodes: usize,
    pub(super) cost: Cost,
    pub(super) resident: Resident,
    pub(super) store_bytes_each: u64,
    pub(super) order: Order,
    /// How many fall due per second, for all brokers.
    pub(super) falling_due_per_second: f64,
    /// The number of warnings and errors in the brokers' logs.
    pub(super) warnings: usize,
    pub(super) spent_outside_grace: u64,
    /// The summary of the seeding.
    pub(super) seeded: String,
}

impl Measured {
    fn brokers(&self) -> usize {
        self.cost.refreshed.len()
    }

    fn refreshed(&self) -> u64 {
        self.cost.refreshed.iter().sum()
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn per_second(&self) -> f64 {
        self.refreshed() as f64 / self.cost.took.as_secs_f64()
    }

    fn micros_each(&self, cpu: Duration) -> u128 {
        cpu.as_micros() / u128::from(self.refreshed().max(1))
    }

    /// Each broker's share of the refreshes, in per cent.
    fn shares(&self) -> Vec<u64> {
        let all = self.refreshed().max(1);
        let counts = self.cost.refreshed.iter();
        counts.map(|count| count * 100 / all).collect()
    }
}

/// One column for each run.
pub(super) fn table(runs: &[Measured]) -> String {
    type Row = (&'static str, fn(&Measured) -> String);
    let rows: [Row; 22] = [
        ("scenario", |run| format!("{:?}", run.scenario)),
        ("installations", |run| run.installations.to_string()),
        ("brokers", |run| run.brokers().to_string()),
        ("lock nodes", |run| run.lock_nodes.to_string()),
        ("refreshes", |run| run.refreshed().to_string()),
        ("  in seconds", |run| {
            format!("{:.1}", run.cost.took.as_secs_f64())
        }),
        ("  per second", |run| format!("{:.1}", run.per_second())),
        ("  in the busiest second", |run| {
            run.order.busiest_second.to_string()
        }),
        ("  falling due per second", |run| {
            format!("{:.1}", run.falling_due_per_second)
        }),
        ("  each broker's share, %", |run| {
            format!("{:?}", run.shares())
        }),
        ("CPU per refresh, µs: brokers", |run| {
            run.micros_each(run.cost.cpu.brokers).to_string()
        }),
        ("  sandbox", |run| {
            run.micros_each(run.cost.cpu.sandbox).to_string()
        }),
        ("  store", |run| {
            run.micros_each(run.cost.cpu.store).to_string()
        }),
        ("  lock nodes", |run| {
            run.micros_each(run.cost.cpu.locks).to_string()
        }),
        ("broker's memory, MB: idle", |run| mb(run.resident.idle_kb)),
        ("  at most", |run| mb(run.resident.peak_kb)),
        ("  at the end", |run| mb(run.resident.last_kb)),
        ("store's bytes per installation", |run| {
            run.store_bytes_each.to_string()
        }),
        ("pairs in order of expiry, %", |run| {
            format!("{:.3}", run.order.pairs_in_order * 100.0)
        }),
        ("  worst overtaken, s of expiry", |run| {
            format!("{:.0}", run.order.worst_overtaken_s)
        }),
        ("warnings of the brokers", |run| run.warnings.to_string()),
        ("spent outside the grace", |run| {
            run.spent_outside_grace.to_string()
        }),
    ];
    let mut table = String::new();
    for (name, figure) in rows {
        let _ = write!(table, "{name:<32}");
        for run in runs {
            let _ = write!(table, "{:>16}", figure(run));
        }
        table.push('\n');
    }
    table
}

fn mb(kb: u64) -> String {
    format!("{}.{}", kb / 1024, kb % 1024 * 10 / 1024)
}

pub(super) fn json(runs: &[Measured]) -> Value {
    runs.iter().map(one_as_json).collect()
}

fn one_as_json(run: &Measured) -> Value {
    let cpu = run.cost.cpu;
    json!({
        "scenario": format!("{:?}", run.scenario),
        "installations": run.installations,
        "brokers": run.brokers(),
        "lock_nodes": run.lock_nodes,
        "refreshes": run.refreshed(),
        "seconds": run.cost.took.as_secs_f64(),
        "refreshes_per_second": run.per_second(),
        "refreshes_by_broker": run.cost.refreshed,
        "cpu_us_per_refresh": {
            "brokers": run.micros_each(cpu.brokers),
            "sandbox": run.micros_each(cpu.sandbox),
            "store": run.micros_each(cpu.store),
            "lock_nodes": run.micros_each(cpu.locks),
        },
        "broker_resident_kb": {
            "idle": run.resident.idle_kb,
            "peak": run.resident.peak_kb,
            "end": run.resident.last_kb,
        },
        "store_bytes_per_installation": run.store_bytes_each,
        "busiest_second": run.order.busiest_second,
        "falling_due_per_second": run.falling_due_per_second,
        "order": {
            "refreshes": run.order.refreshed,
            "pairs_in_order": run.order.pairs_in_order,
            "worst_overtaken_seconds_of_expiry": run.order.worst_overtaken_s,
        },
        "warnings": run.warnings,
        "spent_outside_grace": run.spent_outside_grace,
        "seeding": run.seeded,
    })
}
