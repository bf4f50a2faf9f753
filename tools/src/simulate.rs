//! Runs seeds of the simulation on all cores, and prints the log of a failed one.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use simulation::{Plan, Report, Rules, run};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many seeds to check
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Run one seed, and print its log
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
}

pub(crate) fn act(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    match args.seed {
        Some(seed) => show(seed),
        None => check(args.first, args.seeds),
    }
}

fn show(seed: u64) -> Result<(), Box<dyn std::error::Error>> {
    let report = run(&Plan::of(seed), Rules::ALL, true);
    for line in &report.log {
        println!("{line}");
    }
    verdict(&report)
}

fn verdict(report: &Report) -> Result<(), Box<dyn std::error::Error>> {
    let Report {
        seed,
        hash,
        lost,
        violations,
        ..
    } = report;
    println!("seed {seed}: {lost} lost, log {hash:016x}");
    if violations.is_empty() {
        return Ok(());
    }
    for violation in violations {
        println!("seed {seed}: {violation}");
    }
    Err(format!("seed {seed} fails: evergreen-tools simulate --seed {seed} prints its log").into())
}

fn check(first: u64, seeds: u64) -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let (next, end) = (AtomicU64::new(first), first.saturating_add(seeds));
    let failed = Mutex::new(Vec::new());
    let (lost, most) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = run(&Plan::of(seed), Rules::ALL, false);
                    lost.fetch_add(report.lost as u64, Ordering::Relaxed);
                    most.fetch_max(report.lost as u64, Ordering::Relaxed);
                    if !report.violations.is_empty() {
                        failed
                            .lock()
                            .expect("no thread panics with it")
                            .push(report);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner()?;
    failed.sort_unstable_by_key(|report| report.seed);
    println!(
        "simulate: {seeds} seeds from {first} in {:.0} s: {} installations lost where they may be, at \
         most {} in a run, {} seeds failed",
        started.elapsed().as_secs_f64(),
        lost.into_inner(),
        most.into_inner(),
        failed.len()
    );
    for report in &failed {
        let first = report.violations.first().map_or("", String::as_str);
        println!("  seed {}: {first}", report.seed);
    }
    match failed.first() {
        None => Ok(()),
        Some(report) => show(report.seed),
    }
}
