//! `evergreen-tests bench overload`: what a gateway still serves when it is asked for three times what
//! it can.
//!
//! wrk cannot tell the latencies of what was served from those of refusals, so a few callers of our own
//! go along with it.

use std::time::Duration;

use clap::Args as Flags;
use reqwest::header::RETRY_AFTER;
use reqwest::{RequestBuilder, Response};
use secrecy::ExposeSecret;
use tests::client;
use tests::fleet::Member;
use tests::program::Program;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::gateway::sample::megabytes;
use super::gateway::yard::Yard;
use super::gateway::{PROXY_CORE, stay_on_other_core};
use super::wrk::{Callers, Load, Seen};

/// What is served at once [EVERGREEN_MAX_REQUESTS].
const PLACES: usize = 256;
/// Each of them finds a place.
const UP_TO_THE_PEAK: [usize; 5] = [8, 16, 32, 64, 128];
/// So many that those who wait for an answer hardly keep the others from asking.
const BEYOND: usize = PLACES * 8;
/// How many times what was served at the peak they ask for together.
const TIMES: f64 = 3.0;
/// Or the upstream, on the same core, would be what has too much to do.
const YIELDING: &[&str] = &["nice", "-n", "10"];
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
    let start = yard.bed.gateway().under(PROXY_CORE);
    let gateway = start
        .env("GHL_API_URL", format!("http://{}", yard.upstream.plain))
        .env("EVERGREEN_MAX_REQUESTS", PLACES);
    let bench = Bench {
        gateway: Member::start(gateway).await,
        yard,
        length: args.length,
    };
    let before_kb = bench.program().resident_kb();
    // Every installation's token is in memory.
    bench.load(UP_TO_THE_PEAK[0], Duration::ZERO).await;

    let peak = bench.peak().await;
    println!("peak: {peak}");
    let overload = bench.overload(peak.seen.served_per_second()).await;
    println!("overload: {overload}");
    let (peak_rate, rate) = (peak.seen.served_per_second(), overload.seen.per_second());
    println!(
        "of {TIMES} times the peak {:.1} times were answered, and {:.0} % of the peak was served",
        rate / peak_rate,
        100.0 * overload.seen.served_per_second() / peak_rate,
    );
    println!(
        "resident memory: {:.1} MB before, {:.1} MB at the peak, {:.1} MB under overload",
        megabytes(before_kb),
        megabytes(peak.resident_kb),
        megabytes(overload.resident_kb),
    );
    Ok(())
}

struct Bench {
    gateway: Member,
    yard: Yard,
    length: Duration,
}

/// One load, and what became of it.
struct Loaded {
    connections: usize,
    seen: Seen,
    own: Own,
    /// What the gateway used of its core; 1: all of it.
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

impl Bench {
    fn program(&self) -> &Program {
        self.gateway.program.as_ref().expect("it runs")
    }

    /// The load of the most that is served per second.
    async fn peak(&self) -> Loaded {
        let mut best: Option<Loaded> = None;
        for connections in UP_TO_THE_PEAK {
            let loaded = self.load(connections, Duration::ZERO).await;
            eprintln!("{loaded}");
            let served = |loaded: &Loaded| loaded.seen.served_per_second();
            if best
                .as_ref()
                .is_none_or(|best| served(&loaded) > served(best))
            {
                best = Some(loaded);
            }
        }
        best.expect("some loads")
    }

    /// Callers who pause for a while, whatever they are answered.
    async fn overload(&self, peak: f64) -> Loaded {
        let pause = Duration::from_secs_f64(BEYOND as f64 / (TIMES * peak));
        self.load(BEYOND, pause).await
    }

    async fn load(&self, connections: usize, pause: Duration) -> Loaded {
        let url = format!("http://{}/ghl/contacts/small.json", self.gateway.address);
        let load = Load {
            callers: &self.yard.callers,
            url: url.clone(),
            body_bytes: 0,
            connections,
            pause,
            under: YIELDING,
            length: self.length,
        };
        let before = self.program().cpu();
        let (seen, own, resident_kb) =
            tokio::join!(load.run(), self.call(&url), self.most_resident());
        let used = self.program().cpu() - before;
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
            most = most.max(self.program().resident_kb());
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
             {:.0} % of its core, {:.1} MB",
            seen.served_per_second(),
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
