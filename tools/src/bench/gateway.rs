//! `evergreen-tools bench gateway`: the cost of a request in the gateway with all features on, next to proxies that
//! only add a header, and to a typical Express backend.
//!
//! The proxy runs on one core, the load and the upstream on another. All proxies run at the same time and get the
//! same load in turn, round after round. The result is the ratio of a figure to nginx's in the same round, because
//! the machine's speed drifts.

mod caller;
mod chart;
mod idle;
mod instructions;
pub(super) mod proxy;
pub(super) mod report;
pub(super) mod sample;
pub(super) mod setup;
mod upstream;
pub(super) mod workload;
mod wrk;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::Args as Flags;

use proxy::{Kind, Proxy};
use report::Measured;
use sample::Series;
use setup::BenchSetup;
use workload::{WORKLOADS, Workload};

/// Runs a proxy on a core of its own.
pub(super) const PROXY_CORE: &[&str] = &["taskset", "-c", "0"];
/// The core of this process, wrk, the upstream and the store.
const OTHER_CORE: &str = "1";

#[derive(Debug, Flags)]
pub(crate) struct Args {
    /// Rounds; in each, every proxy gets the load in turn
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// The length of the load on a proxy in each round, in whole seconds
    #[arg(long = "for", value_name = "DURATION", default_value = "4s", value_parser = humantime::parse_duration)]
    length: Duration,
    /// The installations that calls use in rotation
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    installations: usize,
    /// Measure only these proxies; nginx is always included
    #[arg(long, value_enum, value_name = "PROXY,…", value_delimiter = ',')]
    proxies: Vec<Kind>,
    /// Measure only these workloads
    #[arg(long, value_name = "WORKLOAD,…", value_delimiter = ',', value_parser = workload::named)]
    workloads: Vec<&'static Workload>,
    /// Measure no workloads, only the memory of idle connections and instructions per request
    #[arg(long, conflicts_with = "workloads")]
    counts: bool,
    /// A file for the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A file for a chart as SVG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
}

impl Args {
    fn kinds(&self) -> Vec<Kind> {
        let is_wanted = |kind: &Kind| {
            let is_named = self.proxies.is_empty() || self.proxies.contains(kind);
            *kind == Kind::Nginx || is_named
        };
        let wanted = Kind::ALL.into_iter().filter(is_wanted);
        wanted.filter(|kind| kind.is_installed()).collect()
    }

    fn workloads(&self) -> Vec<&'static Workload> {
        match self.workloads.as_slice() {
            _ if self.counts => Vec::new(),
            [] => WORKLOADS.iter().collect(),
            named => named.to_vec(),
        }
    }
}

pub(crate) async fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    stay_on_other_core();
    let setup = BenchSetup::start(args.installations).await;
    let kinds = args.kinds();
    let mut measured = Vec::new();
    for workload in args.workloads() {
        eprintln!("{}", workload.title);
        let one = measure(args, &setup, workload, &kinds).await;
        println!("{}", report::table(&one));
        measured.push(one);
    }
    let (mut idle, mut counted) = (Vec::new(), Vec::new());
    if args.workloads.is_empty() {
        eprintln!("idle connections");
        idle = idle::measure(&setup, &kinds).await;
        println!("{}", report::idle_table(&idle));
        eprintln!("instructions");
        counted = instructions::count(&setup, &kinds).await;
        println!("{}", report::instructions_table(&counted));
    }
    if let Some(path) = &args.json {
        let figures = report::json(&measured, &idle, &counted);
        std::fs::write(path, format!("{figures:#}\n"))?;
    }
    if let (Some(path), Some(first)) = (&args.chart, measured.first()) {
        std::fs::write(path, chart::bars(first))?;
    }
    Ok(())
}

async fn measure(
    args: &Args,
    setup: &BenchSetup,
    workload: &'static Workload,
    kinds: &[Kind],
) -> Measured {
    let under: &[&str] = if workload.is_on_one_core {
        &[]
    } else {
        PROXY_CORE
    };
    let mut proxies = Vec::new();
    for kind in kinds {
        proxies.push(Proxy::start(*kind, setup, workload.transport, under).await);
    }
    for proxy in &proxies {
        // Open the connections, and fill the gateway's token cache.
        sample::take(setup, workload, proxy, args.length).await;
    }
    let mut series: Vec<Series> = proxies.iter().map(Series::of).collect();
    let mut direct = Vec::new();
    for round in 1..=args.rounds {
        eprintln!("  round {round} of {}", args.rounds);
        if workload.is_on_one_core {
            direct.push(wrk::run(setup, workload, &setup.upstream.plain, args.length).await);
        }
        for (proxy, series) in proxies.iter().zip(&mut series) {
            let sample = sample::take(setup, workload, proxy, args.length).await;
            series.samples.push(sample);
        }
    }
    Measured {
        workload,
        series,
        direct,
    }
}

/// Moves this process to the other core. Child processes inherit this, unless they are started with `taskset`.
pub(super) fn stay_on_other_core() {
    let id = std::process::id().to_string();
    let moved = Command::new("taskset")
        .args(["-a", "-c", "-p", OTHER_CORE, &id])
        .output();
    assert!(
        moved.as_ref().is_ok_and(|it| it.status.success()),
        "this needs two cores and taskset: {moved:?}"
    );
}
