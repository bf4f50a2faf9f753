//! `evergreen-tools bench overload`: what a gateway still serves when it is asked for three times what
//! it can, next to nginx.
//!
//! Each has a quarter of a core: the rest goes to a program that never waits. With a whole one it could
//! not be asked for too much, since wrk and the upstream share the other.

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

/// A quarter of the core: the kernel gives nice 0 three times what it gives this. And fewer places
/// than there are callers, for the gateway.
const GATEWAY_SHARE: &[&str] = &["nice", "-n", "5", "env", "EVERGREEN_MAX_REQUESTS=64"];
const NEVER_WAITING: &[&str] = &["-c", "while :; do :; done"];
/// Or the upstream, on the same core, would be what has too much to do.
const YIELDING: &[&str] = &["nice", "-n", "10"];
const CONNECTIONS_UP_TO_PEAK: [usize; 3] = [16, 32, 64];
/// How many times the callers of its peak, or what was served then, is asked for.
const TIMES: usize = 3;
/// Callers who pause for so long that they ask for that much together. The last are so many that not
/// all of them can have their turn in time.
const MANY_CONNECTIONS: [usize; 2] = [2048, 8192];
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Flags)]
pub(crate) struct Args {
    /// Rounds, each of both proxies under all loads
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
    let _other = Start::new("sh")
        .args(NEVER_WAITING)
        .under(PROXY_CORE)
        .spawn();
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
        let loads = rounds.flat_map(|it| [&it.up_to_the_peak, &it.beyond, &it.many_connections]);
        for unexpected in loads.flatten().flat_map(|it| &it.probe.unexpected) {
            println!(
                "{}, neither served nor refused: {unexpected}",
                bench.proxy.kind.name()
            );
        }
    }
    Ok(())
}

/// A proxy, and what became of it.
struct Bench<'y> {
    proxy: Proxy,
    setup: &'y BenchSetup,
    length: Duration,
    rounds: Vec<Round>,
}

struct Round {
    up_to_the_peak: Vec<LoadMeasurement>,
    /// With so many times the callers of each.
    beyond: Vec<LoadMeasurement>,
    many_connections: Vec<LoadMeasurement>,
}

/// One load, and what became of it.
struct LoadMeasurement {
    connections: usize,
    seen: Seen,
    probe: LatencyProbe,
    /// What the proxy used of its core.
    cpu: f64,
    /// The most there was.
    resident_kb: u64,
}

impl<'y> Bench<'y> {
    async fn of(kind: Kind, setup: &'y BenchSetup, length: Duration) -> Self {
        let under = [PROXY_CORE, GATEWAY_SHARE].concat();
        Self {
            proxy: Proxy::start(kind, setup, UpstreamTransport::Plain, &under).await,
            setup,
            length,
            rounds: Vec::new(),
        }
    }

    async fn round(&mut self) {
        // Every installation's token is in memory, and the many_connections of the round before are seen out.
        self.load(CONNECTIONS_UP_TO_PEAK[0], Duration::ZERO).await;
        let mut up_to_the_peak = Vec::new();
        for connections in CONNECTIONS_UP_TO_PEAK {
            up_to_the_peak.push(self.load(connections, Duration::ZERO).await);
        }
        let peak = up_to_the_peak
            .iter()
            .map(LoadMeasurement::rate)
            .fold(0.0, f64::max);
        let mut beyond = Vec::new();
        for connections in CONNECTIONS_UP_TO_PEAK {
            beyond.push(self.load(TIMES * connections, Duration::ZERO).await);
        }
        let mut many_connections = Vec::new();
        for connections in MANY_CONNECTIONS {
            let pause = connections as f64 / (TIMES as f64 * peak);
            let pause = Duration::from_secs_f64(pause);
            many_connections.push(self.load(connections, pause).await);
        }
        self.rounds.push(Round {
            up_to_the_peak,
            beyond,
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
            under: YIELDING,
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
        let served = |at: usize| median(self.rounds.iter().map(|it| it.up_to_the_peak[at].rate()));
        let most = (0..CONNECTIONS_UP_TO_PEAK.len())
            .max_by(|one, other| served(*one).total_cmp(&served(*other)));
        let at = most.unwrap_or_default();
        let all = |of: &dyn Fn(&Round) -> &LoadMeasurement| {
            self.rounds.iter().map(of).collect::<Vec<_>>()
        };
        let peaks = all(&|it| &it.up_to_the_peak[at]);
        let mut rows = vec![
            self.row(&peaks, &peaks),
            self.row(&all(&|it| &it.beyond[at]), &peaks),
        ];
        rows.extend(
            (0..MANY_CONNECTIONS.len())
                .map(|at| self.row(&all(&|it| &it.many_connections[at]), &peaks)),
        );
        rows
    }

    /// One load in all rounds.
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

/// Markdown. What is served, of the peak in the same round, and the latencies are medians of all rounds;
/// what was refused or not answered is the sum of them, and the memory the most of them.
fn table(benches: &[Bench<'_>]) -> String {
    let head = [
        "",
        "connections",
        "served/s",
        "of its core, %",
        "p50 ms",
        "p99 ms",
        "refused",
        "without an answer",
        "memory, MB",
    ];
    let rows: Vec<Vec<String>> = benches.iter().flat_map(Bench::rows).collect();
    markdown(&head.map(str::to_owned), &rows)
}

impl LoadMeasurement {
    /// Served in a second.
    fn rate(&self) -> f64 {
        self.seen.served_per_second()
    }
}
