//! `evergreen-tests bench overload`: what a gateway still serves when it is asked for three times what
//! it can, next to nginx.
//!
//! Each has a quarter of a core: the rest goes to a program that never waits. With a whole one it could
//! not be asked for too much, since wrk and the upstream share the other.

mod own;

use std::time::Duration;

use clap::Args as Flags;
use tests::program::Start;
use tokio::time::{Instant, interval};

use super::gateway::proxy::{Kind, Proxy};
use super::gateway::report::markdown;
use super::gateway::sample::{median, megabytes};
use super::gateway::scene::Way;
use super::gateway::yard::Yard;
use super::gateway::{PROXY_CORE, stay_on_other_core};
use super::wrk::{Load, Seen};
use own::Own;

/// A quarter of the core: the kernel gives nice 0 three times what it gives this. And fewer places
/// than there are callers, for the gateway.
const GATEWAY_SHARE: &[&str] = &["nice", "-n", "5", "env", "EVERGREEN_MAX_REQUESTS=64"];
const NEVER_WAITING: &[&str] = &["-c", "while :; do :; done"];
/// Or the upstream, on the same core, would be what has too much to do.
const YIELDING: &[&str] = &["nice", "-n", "10"];
const UP_TO_THE_PEAK: [usize; 4] = [16, 24, 32, 64];
/// How many times what was served at the peak is asked for.
const TIMES: usize = 3;
/// Callers who pause for so long that they ask for that much together. The last are so many that not
/// all of them can have their turn in time.
const CROWDS: [usize; 2] = [2048, 8192];
const LOOK_EVERY: Duration = Duration::from_millis(200);

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
    let yard = Yard::start(args.installations).await;
    let _other = Start::new("sh")
        .args(NEVER_WAITING)
        .under(PROXY_CORE)
        .spawn();
    let mut benches = Vec::new();
    for kind in [Kind::Nginx, Kind::Gateway] {
        benches.push(Bench::of(kind, &yard, args.length).await);
    }
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        for bench in &mut benches {
            bench.round().await;
        }
    }
    println!("{}", table(&benches));
    for bench in &benches {
        for strange in bench.rounds.iter().flatten().flat_map(|it| &it.own.strange) {
            println!(
                "{}, neither served nor refused: {strange}",
                bench.proxy.kind.name()
            );
        }
    }
    Ok(())
}

/// A proxy, and what became of it.
struct Bench<'y> {
    proxy: Proxy,
    yard: &'y Yard,
    length: Duration,
    /// With so many callers, who never pause, it serves most.
    best: usize,
    /// In each, its peak and then the overloads.
    rounds: Vec<[Loaded; LOADS]>,
}

const LOADS: usize = 2 + CROWDS.len();

/// One load, and what became of it.
struct Loaded {
    connections: usize,
    seen: Seen,
    own: Own,
    /// The most there was.
    resident_kb: u64,
}

impl<'y> Bench<'y> {
    async fn of(kind: Kind, yard: &'y Yard, length: Duration) -> Self {
        let under = [PROXY_CORE, GATEWAY_SHARE].concat();
        let mut bench = Self {
            proxy: Proxy::start(kind, yard, Way::Plain, &under).await,
            yard,
            length,
            best: UP_TO_THE_PEAK[0],
            rounds: Vec::new(),
        };
        // Every installation's token is in memory.
        bench.load(bench.best, Duration::ZERO).await;
        let mut most = 0.0;
        for connections in UP_TO_THE_PEAK {
            let rate = bench.load(connections, Duration::ZERO).await.rate();
            if rate > most {
                (bench.best, most) = (connections, rate);
            }
        }
        bench
    }

    async fn round(&mut self) {
        let peak = self.load(self.best, Duration::ZERO).await;
        let overload = self.load(TIMES * self.best, Duration::ZERO).await;
        let mut crowds = Vec::new();
        for connections in CROWDS {
            let pause = connections as f64 / (TIMES as f64 * peak.rate());
            crowds.push(self.load(connections, Duration::from_secs_f64(pause)).await);
        }
        let loads = [peak, overload].into_iter().chain(crowds);
        let loads: Vec<Loaded> = loads.collect();
        self.rounds.push(loads.try_into().ok().expect("so many"));
    }

    async fn load(&self, connections: usize, pause: Duration) -> Loaded {
        let url = format!("http://{}/ghl/contacts/small.json", self.proxy.address);
        let callers = &self.yard.callers;
        let load = Load {
            callers,
            url: url.clone(),
            body_bytes: 0,
            connections,
            pause,
            under: YIELDING,
            length: self.length,
        };
        let own = Own::call_for(self.length, &url, callers);
        let (seen, own, resident_kb) = tokio::join!(load.run(), own, self.most_resident());
        Loaded {
            connections,
            seen,
            own,
            resident_kb,
        }
    }

    async fn most_resident(&self) -> u64 {
        let mut looks = interval(LOOK_EVERY);
        let (began, mut most) = (Instant::now(), 0);
        while began.elapsed() < self.length {
            looks.tick().await;
            most = most.max(self.proxy.program.resident_kb());
        }
        most
    }

    /// Of all rounds.
    fn median(&self, of: impl Fn(&[Loaded; LOADS]) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
    }

    fn row(&self, load: usize) -> Vec<String> {
        let of_peak = self.median(|round| round[load].rate() / round[0].rate());
        let millis =
            |percent| self.median(|round| round[load].own.percentile(percent).as_secs_f64() * 1e3);
        let count = |of: &dyn Fn(&Loaded) -> f64| -> f64 {
            self.rounds.iter().map(|round| of(&round[load])).sum()
        };
        let resident = self
            .rounds
            .iter()
            .map(|round| round[load].resident_kb)
            .max();
        vec![
            self.proxy.kind.name().to_owned(),
            self.rounds
                .first()
                .map_or(0, |round| round[load].connections)
                .to_string(),
            format!(
                "{:.0} ({:.0} %)",
                self.median(|round| round[load].rate()),
                100.0 * of_peak
            ),
            format!("{:.1}", millis(50)),
            format!("{:.0}", millis(99)),
            format!(
                "{:.0}",
                count(&|loaded| loaded.seen.refused + loaded.own.refused as f64)
            ),
            format!("{:.0}", count(&|loaded| loaded.seen.broken)),
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
        "p50 ms",
        "p99 ms",
        "refused",
        "without an answer",
        "memory, MB",
    ];
    let rows = benches
        .iter()
        .flat_map(|bench| (0..LOADS).map(|load| bench.row(load)));
    let rows: Vec<Vec<String>> = rows.collect();
    markdown(&head.map(str::to_owned), &rows)
}

impl Loaded {
    /// Served in a second.
    fn rate(&self) -> f64 {
        self.seen.served_per_second()
    }
}
