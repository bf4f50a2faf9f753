//! `evergreen-tests bench overload`: what a gateway still serves when it is asked for three times what
//! it can, next to nginx.
//!
//! Each has a quarter of a core: the rest goes to a program that never waits. With a whole one it could
//! not be asked for too much, since wrk and the upstream share the other.
//!
//! wrk cannot tell the latencies of what was served from those of refusals, so a few callers of our own
//! go along with it.

use std::time::Duration;

use clap::Args as Flags;
use reqwest::header::RETRY_AFTER;
use reqwest::{RequestBuilder, Response};
use secrecy::ExposeSecret;
use tests::client;
use tests::program::Start;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::gateway::proxy::{Kind, Proxy};
use super::gateway::sample::megabytes;
use super::gateway::scene::Way;
use super::gateway::yard::Yard;
use super::gateway::{PROXY_CORE, stay_on_other_core};
use super::wrk::{Callers, Load, Seen};

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
/// Callers of our own, and how long each waits between an answer and its next call.
const OWN_CALLERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Flags)]
pub(crate) struct Args {
    /// How long each load lasts, in whole seconds
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
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
    let under = [PROXY_CORE, GATEWAY_SHARE].concat();
    for kind in [Kind::Nginx, Kind::Gateway] {
        let bench = Bench {
            proxy: Proxy::start(kind, &yard, Way::Plain, &under).await,
            yard: &yard,
            length: args.length,
        };
        bench.run().await;
    }
    Ok(())
}

struct Bench<'y> {
    proxy: Proxy,
    yard: &'y Yard,
    length: Duration,
}

/// One load, and what became of it.
struct Loaded {
    connections: usize,
    seen: Seen,
    own: Own,
    /// What the proxy used of its core.
    cpu: f64,
    /// The most there was.
    resident_kb: u64,
}

/// What callers of our own saw.
#[derive(Default)]
struct Own {
    /// Of what was served, in order.
    served: Vec<Duration>,
    refused: usize,
    /// Neither served nor refused as it should be.
    strange: Vec<String>,
}

impl Bench<'_> {
    async fn run(&self) {
        // Every installation's token is in memory.
        self.load(UP_TO_THE_PEAK[0], Duration::ZERO).await;
        let mut peak = self.load(UP_TO_THE_PEAK[0], Duration::ZERO).await;
        for connections in UP_TO_THE_PEAK.into_iter().skip(1) {
            let loaded = self.load(connections, Duration::ZERO).await;
            if loaded.rate() > peak.rate() {
                peak = loaded;
            }
        }
        let name = self.proxy.kind.name();
        println!("{name}, its peak: {peak}");
        let mut overloads = vec![self.load(TIMES * peak.connections, Duration::ZERO).await];
        for connections in CROWDS {
            let pause = connections as f64 / (TIMES as f64 * peak.rate());
            let pause = Duration::from_secs_f64(pause);
            overloads.push(self.load(connections, pause).await);
        }
        for overload in overloads {
            let percent = 100.0 * overload.rate() / peak.rate();
            println!("{name}, {percent:.0} % of that: {overload}");
        }
    }

    async fn load(&self, connections: usize, pause: Duration) -> Loaded {
        let url = format!("http://{}/ghl/contacts/small.json", self.proxy.address);
        let load = Load {
            callers: &self.yard.callers,
            url: url.clone(),
            body_bytes: 0,
            connections,
            pause,
            under: YIELDING,
            length: self.length,
        };
        let program = &self.proxy.program;
        let before = program.cpu();
        let (seen, own, resident_kb) =
            tokio::join!(load.run(), self.call(&url), self.most_resident());
        let used = program.cpu() - before;
        Loaded {
            connections,
            seen,
            own,
            cpu: used.as_secs_f64() / seen.seconds,
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

    async fn call(&self, url: &str) -> Own {
        let (client, until) = (client::new(), Instant::now() + self.length);
        let Callers { key, ids, .. } = &self.yard.callers;
        let get = client.get(url).bearer_auth(key.expose_secret());
        let mut calling = JoinSet::new();
        for some in ids.chunks(ids.len().div_ceil(OWN_CALLERS)) {
            let (get, some) = (get.try_clone().expect("no body"), some.to_vec());
            calling.spawn(async move {
                let mut own = Own::default();
                for id in some.iter().cycle().take_while(|_| Instant::now() < until) {
                    let get = get.try_clone().expect("no body");
                    own.call(get.header("X-Installation-Id", id.as_str())).await;
                    sleep(PAUSE).await;
                }
                own
            });
        }
        let mut all = Own::default();
        for own in calling.join_all().await {
            all.served.extend(own.served);
            all.refused += own.refused;
            all.strange.extend(own.strange);
        }
        all.served.sort_unstable();
        all
    }
}

impl Own {
    async fn call(&mut self, request: RequestBuilder) {
        let began = Instant::now();
        let answered = async {
            let answer = request.send().await?;
            let (status, is_refusal) = (answer.status(), is_refusal(&answer));
            answer.bytes().await?;
            reqwest::Result::Ok((status, is_refusal))
        };
        match answered.await {
            Ok((status, _)) if status.is_success() => self.served.push(began.elapsed()),
            Ok((_, true)) => self.refused += 1,
            Ok((status, false)) => self.strange.push(status.to_string()),
            Err(error) => self.strange.push(error.to_string()),
        }
    }

    fn percentile(&self, percent: usize) -> Duration {
        let last = self.served.len().saturating_sub(1);
        self.served
            .get(last * percent / 100)
            .copied()
            .unwrap_or_default()
    }
}

/// As the gateway says that it has no place.
fn is_refusal(answer: &Response) -> bool {
    answer.status() == 503 && answer.headers().contains_key(RETRY_AFTER)
}

impl Loaded {
    /// Served in a second.
    fn rate(&self) -> f64 {
        self.seen.served_per_second()
    }
}

impl std::fmt::Display for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            connections,
            seen,
            own,
            cpu,
            resident_kb,
        } = self;
        write!(
            f,
            "{connections} connections, served {:.0}/s, refused {:.0}/s, without an answer {:.0}; \
             own callers: {} served with p50 {:.1?} and p99 {:.1?}, {} refused, otherwise {:?}; \
             {:.0} % of the core, {:.1} MB",
            self.rate(),
            seen.refused / seen.seconds,
            seen.broken,
            own.served.len(),
            own.percentile(50),
            own.percentile(99),
            own.refused,
            own.strange.iter().take(3).collect::<Vec<_>>(),
            100.0 * cpu,
            megabytes(*resident_kb)
        )
    }
}
