//! `evergreen-tools bench overload`: throughput and latency of a gateway at three times its capacity, next to nginx.
//!
//! Each proxy gets a quarter of a core. A busy loop uses the rest. With a whole core a proxy could not be
//! overloaded, since wrk and the upstream share the other one.

mod latency_probe;

use std::time::Duration;

use clap::Args as Flags;
use tests::program::Start;
use tokio::time::{Instant, interval};

use super::gateway::proxy::{Kind, Proxy};
use super::gateway::report::markdown;
use super::gateway::sample::{median, megabytes};
use super::gateway::setup::BenchSetup;
use super::gateway::workload::UpstreamTransport;
use super::gateway::{PROXY_CORE, stay_on_other_core};
use super::wrk::{Load, Seen};
use latency_probe::LatencyProbe;

/// A quarter of the core, since the kernel gives a process at nice 0 three times the share of this one. The gateway
/// also has fewer permits than there are callers.
const QUARTER_OF_CORE: &[&str] = &["nice", "-n", "5", "env", "EVERGREEN_MAX_REQUESTS=64"];
const BUSY_LOOP: &[&str] = &["-c", "while :; do :; done"];
/// Runs wrk at a low priority. Otherwise the upstream, on the same core, would be overloaded instead.
const LOW_PRIORITY: &[&str] = &["nice", "-n", "10"];
const CONNECTIONS_UP_TO_PEAK: [usize; 3] = [16, 32, 64];
/// The load beyond the peak, as a multiple of its callers or its throughput.
const OVERLOAD_FACTOR: usize = 3;
/// Numbers of callers that pause between calls, so that together they ask for that load. With the largest number,
/// some calls time out.
const MANY_CONNECTIONS: [usize; 2] = [2048, 8192];
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Flags)]
pub(crate) struct Args {
    /// Rounds, each with both proxies under all loads
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// How long each load lasts, in whole seconds
    #[arg(long = "for", value_name = "DURATION", default_value = "4s", value_parser = humantime::parse_duration)]
    length: Duration,
    /// Installations that calls are made for, in rotation
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    installations: usize,
}

pub(crate) async fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    stay_on_other_core();
    let setup = BenchSetup::start(args.installations).await;
    let _other = Start::new("sh").args(BUSY_LOOP).under(PROXY_CORE).spawn();
    let mut benches = Vec::new();
    for kind in [Kind::Nginx, Kind::Gateway] {
        benches.push(Bench::of(kind, &setup, args.length).await);
    }
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        for bench in &mut benches {
            bench.round().await;
        }
    }
    println!("{}", table(&benches));
    for bench in &benches {
        let rounds = bench.rounds.iter();
        let loads = rounds.flat_map(|it| [&it.up_to_peak, &it.beyond_peak, &it.many_connections]);
        for unexpected in loads.flatten().flat_map(|it| &it.probe.unexpected) {
            println!(
                "{}, unexpected response: {unexpected}",
                bench.proxy.kind.name()
            );
        }
    }
    Ok(())
}

/// A proxy and its measurements.
struct Bench<'y> {
    proxy: Proxy,
    setup: &'y BenchSetup,
    length: Duration,
    rounds: Vec<Round>,
}

struct Round {
    up_to_peak: Vec<LoadMeasurement>,
    /// With a multiple of the callers of each.
    beyond_peak: Vec<LoadMeasurement>,
    many_connections: Vec<LoadMeasurement>,
}

/// The measurements under one load.
struct LoadMeasurement {
    connections: usize,
    seen: Seen,
    probe: LatencyProbe,
    /// The share of its core that the proxy used.
    cpu: f64,
    /// The highest resident memory.
    resident_kb: u64,
}

impl<'y> Bench<'y> {
    async fn of(kind: Kind, setup: &'y BenchSetup, length: Duration) -> Self {
        let under = [PROXY_CORE, QUARTER_OF_CORE].concat();
        Self {
            proxy: Proxy::start(kind, setup, UpstreamTransport::Plain, &under).await,
            setup,
            length,
            rounds: Vec::new(),
        }
    }

    async fn round(&mut self) {
        // Fills the token cache, and waits for remaining calls of the previous round.
        self.load(CONNECTIONS_UP_TO_PEAK[0], Duration::ZERO).await;
        let mut up_to_peak = Vec::new();
        for connections in CONNECTIONS_UP_TO_PEAK {
            up_to_peak.push(self.load(connections, Duration::ZERO).await);
        }
        let peak = up_to_peak
            .iter()
            .map(LoadMeasurement::rate)
            .fold(0.0, f64::max);
        let mut beyond_peak = Vec::new();
        for connections in CONNECTIONS_UP_TO_PEAK {
            beyond_peak.push(
                self.load(OVERLOAD_FACTOR * connections, Duration::ZERO)
                    .await,
            );
        }
        let mut many_connections = Vec::new();
        for connections in MANY_CONNECTIONS {
            let pause = connections as f64 / (OVERLOAD_FACTOR as f64 * peak);
            let pause = Duration::from_secs_f64(pause);
            many_connections.push(self.load(connections, pause).await);
        }
        self.rounds.push(Round {
            up_to_peak,
            beyond_peak,
            many_connections,
        });
    }

    async fn load(&self, connections: usize, pause: Duration) -> LoadMeasurement {
        let url = format!("http://{}/ghl/contacts/small.json", self.proxy.address);
        let callers = &self.setup.callers;
        let load = Load {
            callers,
            url: url.clone(),
            body_bytes: 0,
            connections,
            pause,
            under: LOW_PRIORITY,
            length: self.length,
        };
        let probe = LatencyProbe::call_for(self.length, &url, callers);
        let before = self.proxy.program.cpu();
        let (seen, probe, resident_kb) = tokio::join!(load.run(), probe, self.most_resident());
        let used = self.proxy.program.cpu() - before;
        LoadMeasurement {
            connections,
            seen,
            probe,
            cpu: used.as_secs_f64() / seen.seconds,
            resident_kb,
        }
    }

    async fn most_resident(&self) -> u64 {
        let mut ticks = interval(SAMPLE_INTERVAL);
        let (began, mut most) = (Instant::now(), 0);
        while began.elapsed() < self.length {
            ticks.tick().await;
            most = most.max(self.proxy.program.resident_kb());
        }
        most
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let served = |at: usize| median(self.rounds.iter().map(|it| it.up_to_peak[at].rate()));
        let most = (0..CONNECTIONS_UP_TO_PEAK.len())
            .max_by(|one, other| served(*one).total_cmp(&served(*other)));
        let at = most.unwrap_or_default();
        let all = |of: &dyn Fn(&Round) -> &LoadMeasurement| {
            self.rounds.iter().map(of).collect::<Vec<_>>()
        };
        let peaks = all(&|it| &it.up_to_peak[at]);
        let mut rows = vec![
            self.row(&peaks, &peaks),
            self.row(&all(&|it| &it.beyond_peak[at]), &peaks),
        ];
        rows.extend(
            (0..MANY_CONNECTIONS.len())
                .map(|at| self.row(&all(&|it| &it.many_connections[at]), &peaks)),
        );
        rows
    }

    /// A table row: one load over all rounds.
    fn row(&self, loads: &[&LoadMeasurement], peaks: &[&LoadMeasurement]) -> Vec<String> {
        let rounds = loads.iter().zip(peaks);
        let of_peak = median(rounds.map(|(load, peak)| load.rate() / peak.rate()));
        let served = median(loads.iter().map(|load| load.rate()));
        let millis = |percent| {
            median(
                loads
                    .iter()
                    .map(|load| load.probe.percentile(percent).as_secs_f64() * 1e3),
            )
        };
        let refused: f64 = loads
            .iter()
            .map(|load| load.seen.refused + load.probe.refused as f64)
            .sum();
        let broken: f64 = loads.iter().map(|load| load.seen.broken).sum();
        let resident = loads.iter().map(|load| load.resident_kb).max();
        vec![
            self.proxy.kind.name().to_owned(),
            loads.first().map_or(0, |load| load.connections).to_string(),
            format!("{served:.0} ({:.0} %)", 100.0 * of_peak),
            format!("{:.0}", 100.0 * median(loads.iter().map(|load| load.cpu))),
            format!("{:.1}", millis(50)),
            format!("{:.0}", millis(99)),
            format!("{refused:.0}"),
            format!("{broken:.0}"),
            format!("{:.1}", megabytes(resident.unwrap_or_default())),
        ]
    }
}

/// A Markdown table. Throughput, its ratio to the peak in the same round, and latencies are medians of all rounds.
/// Rejected calls and calls without a response are sums, and memory is the maximum.
fn table(benches: &[Bench<'_>]) -> String {
    let head = [
        "",
        "connections",
        "served/s",
        "of its core, %",
        "p50 ms",
        "p99 ms",
        "refused",
        "without a response",
        "memory, MB",
    ];
    let rows: Vec<Vec<String>> = benches.iter().flat_map(Bench::rows).collect();
    markdown(&head.map(str::to_owned), &rows)
}

impl LoadMeasurement {
    /// Successful responses per second.
    fn rate(&self) -> f64 {
        self.seen.served_per_second()
    }
}
