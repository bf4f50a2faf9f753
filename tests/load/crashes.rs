//! A broker dies at every step of a refresh. The tables of `docs/refresh-protocol.md` say what becomes of the
//! installation; every cell of them is a case here.

mod one_grace;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use store::{Generation, InstallationId, KeyRing, Status, TokenReader};
use store_writer::{Escrow, LockNodes};
use tests::client;
use tests::fleet::Member;
use tests::program::Start;
use tests::redis::Redis;
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(30);
/// A refused token is tried again for a minute.
const UNTIL_LOST: Duration = Duration::from_secs(100);
/// The longest call; the lease is half as long again.
const CALL: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_millis(1500);
/// Cases at once: most of the time each of them waits for a lease to run out.
const AT_ONCE: usize = 8;
const LOCATION: &str = "locA";

#[tokio::test(flavor = "multi_thread")]
async fn kill_after_each_step_has_the_documented_outcome() {
    every_case("Killed (`kill -9`)", Strike::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_after_each_step_has_the_documented_outcome() {
    every_case("Stopped (`SIGSTOP`)", Strike::Stop).await;
}

async fn every_case(heading: &str, strike: Strike) {
    let cases = read_table(heading, strike);
    assert_eq!(
        cases.len(),
        9 * 6,
        "nine steps, three companies, two graces"
    );
    let world = World::start().await;
    let failed: Vec<String> = stream::iter(cases.into_iter().enumerate())
        .map(|(database, case)| {
            let world = world.clone();
            async move {
                let name = case.to_string();
                // In a task of its own: one that fails must not hide the others.
                let ran = tokio::spawn(run(world, database, case)).await;
                ran.err().map(|error| format!("{name}: {}", message(error)))
            }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|failed| async { failed })
        .collect()
        .await;
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    Kill,
    Stop,
}

/// Who is there besides the broker that is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Company {
    Alone,
    Another,
    Restarted,
}

/// The words of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waits,
    InDoubt,
    Kept,
    Refreshed,
    Repeated,
    Lost,
    SuspectThenSaved,
}

#[derive(Debug, Clone)]
struct Case {
    strike: Strike,
    step: String,
    company: Company,
    grace: &'static str,
    fate: Fate,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            strike,
            step,
            company,
            grace,
            fate,
        } = self;
        write!(
            f,
            "{strike:?} after {step}, {company:?}, grace {grace}: {fate:?}"
        )
    }
}

fn read_table(heading: &str, strike: Strike) -> Vec<Case> {
    let page = include_str!("../../docs/refresh-protocol.md");
    let table = page.split(heading).nth(1).expect("the table is there");
    let rows = table.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let columns = [
        (Company::Alone, "30s"),
        (Company::Alone, "0s"),
        (Company::Another, "30s"),
        (Company::Another, "0s"),
        (Company::Restarted, "30s"),
        (Company::Restarted, "0s"),
    ];
    rows.flat_map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let step = cells.next().expect("a step").to_owned();
        let fates: Vec<&str> = cells.collect();
        assert_eq!(fates.len(), columns.len(), "{row}");
        columns
            .into_iter()
            .zip(fates)
            .map(move |((company, grace), fate)| Case {
                strike,
                step: step.clone(),
                company,
                grace,
                fate: Fate::read(fate),
            })
    })
    .collect()
}

impl Fate {
    fn read(word: &str) -> Self {
        match word {
            "waits" => Self::Waits,
            "in doubt" => Self::InDoubt,
            "kept" => Self::Kept,
            "refreshed" => Self::Refreshed,
            "repeated" => Self::Repeated,
            "lost" => Self::Lost,
            "suspect, then saved" => Self::SuspectThenSaved,
            other => panic!("what does `{other}` mean?"),
        }
    }

    /// What the sandbox's ledger shows of the token: spent, repeated, refused.
    fn ledger(self) -> [(&'static str, u64); 3] {
        let [spent, repeated, refused] = match self {
            Self::Waits => [0, 0, 0],
            Self::InDoubt | Self::Kept | Self::Refreshed => [1, 0, 0],
            Self::Repeated => [1, 1, 0],
            Self::SuspectThenSaved => [1, 0, 1],
            // It is tried twice more before it is given up.
            Self::Lost => [1, 0, 3],
        };
        [
            ("refresh_tokens_spent", spent),
            ("replays_in_grace", repeated),
            ("spent_outside_grace", refused),
        ]
    }

    fn record(self) -> (Status, Generation) {
        let second = Generation::FIRST.next();
        match self {
            Self::Waits | Self::InDoubt | Self::Kept => (Status::Active, Generation::FIRST),
            Self::Refreshed | Self::Repeated | Self::SuspectThenSaved => (Status::Active, second),
            Self::Lost => (Status::Invalid, Generation::FIRST),
        }
    }
}

/// What all cases share: the servers and the keys. Each has a database of its own.
#[derive(Debug)]
struct World {
    store: Redis,
    locks: Vec<Redis>,
    access_keys: SecretString,
    refresh_keys: SecretString,
}

impl World {
    async fn start() -> Arc<Self> {
        let mut locks = Vec::new();
        for _ in 0..3 {
            locks.push(Redis::start().await);
        }
        Arc::new(Self {
            store: Redis::start_with(&["--databases", "64"]).await,
            locks,
            access_keys: KeyRing::generate_text("a"),
            refresh_keys: KeyRing::generate_text("r"),
        })
    }

    fn store_url(&self, database: usize) -> String {
        format!("{}/{database}", self.store.url())
    }

    fn lock_urls(&self) -> Vec<String> {
        self.locks.iter().map(Redis::url).collect()
    }

    fn broker(&self, database: usize, sandbox: &Sandbox, data: String) -> Start {
        Start::evergreen_with_crash_points(&["broker"])
            .env("EVERGREEN_REDIS_URL", self.store_url(database))
            .env("EVERGREEN_LOCK_URLS", self.lock_urls().join(","))
            .env("EVERGREEN_ACCESS_KEYS", self.access_keys.expose_secret())
            .env("EVERGREEN_REFRESH_KEYS", self.refresh_keys.expose_secret())
            .env("EVERGREEN_DATA_DIR", data)
            .env("EVERGREEN_TOKEN_TIMEOUT", humantime::format_duration(CALL))
            .env("GHL_API_URL", &sandbox.url)
            .env(
                "GHL_AUTHORIZE_URL",
                format!("{}/v2/oauth/chooselocation", sandbox.url),
            )
            .env("GHL_CLIENT_ID", "sandbox-client")
            .env("GHL_CLIENT_SECRET", "sandbox-secret")
    }

    fn reader(&self, database: usize) -> TokenReader {
        let ring = Arc::new(KeyRing::parse(&self.access_keys).unwrap());
        TokenReader::redis(&self.store_url(database).into(), ring).unwrap()
    }

    async fn is_in_escrow(&self, id: &InstallationId) -> bool {
        let urls: Vec<SecretString> = self.lock_urls().into_iter().map(Into::into).collect();
        let escrow = Escrow::over(LockNodes::start(&urls, "test", LEASE).unwrap());
        !escrow.find(id).await.unwrap().is_empty()
    }
}

async fn killed(member: &mut Member) {
    until("the kill", PATIENCE, || {
        let has_ended = member.program.as_mut().unwrap().has_ended();
        async move { holds(has_ended, "running") }
    })
    .await;
}

async fn stopped(member: &Member) {
    until("the stop", PATIENCE, || {
        let is_stopped = member.program.as_ref().unwrap().is_stopped();
        async move { holds(is_stopped, "running") }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_response_in_escrow_revives_invalid_installation() {
    let world = World::start().await;
    let sandbox = Sandbox::start(&[("TOKEN_LIFETIME", "3s"), ("REPLAY_GRACE", "0s")]).await;
    let scratch = Scratch::new();
    let armed = world
        .broker(0, &sandbox, scratch.join("struck"))
        .env("TEST_CRASH_POINT", "answered stop, answer-journaled kill");
    let mut struck = Member::start(armed).await;
    let public = format!("http://{}", struck.address);
    let id = client::install(&client::new(), &public, LOCATION).await;
    sandbox.set(json!({ "token_lifetime_ms": 3_600_000 })).await;
    stopped(&struck).await;
    let start = world.broker(0, &sandbox, scratch.join("another"));
    let _another = Member::start(start).await;
    let (reader, id) = (world.reader(0), id.parse::<InstallationId>().unwrap());
    let is = |fate: Fate| async move {
        let access = reader.access(&id).await.unwrap().unwrap();
        let record = (access.status, access.generation);
        holds(record == fate.record(), record)
    };
    until("it to be given up", UNTIL_LOST, || is.clone()(Fate::Lost)).await;

    // Its host dies with its disk, when the answer has just come into escrow.
    struck.program.as_ref().unwrap().signal(18);
    killed(&mut struck).await;
    until("it to be saved", PATIENCE, || {
        is.clone()(Fate::SuspectThenSaved)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn journaled_response_survives_start_on_wrong_store() {
    let world = World::start().await;
    let sandbox = Sandbox::start(&[("TOKEN_LIFETIME", "3s"), ("REPLAY_GRACE", "0s")]).await;
    let scratch = Scratch::new();
    // Without lock nodes of its own there is no escrow: the journal has it alone.
    let mut start = world.broker(0, &sandbox, scratch.join("struck"));
    start.env.remove("EVERGREEN_LOCK_URLS");
    let armed = start.env("TEST_CRASH_POINT", "answer-journaled kill");
    let mut struck = Member::start(armed).await;
    let public = format!("http://{}", struck.address);
    let id = client::install(&client::new(), &public, LOCATION).await;
    sandbox.set(json!({ "token_lifetime_ms": 3_600_000 })).await;
    killed(&mut struck).await;

    struck.unset("TEST_CRASH_POINT");
    struck.set([("EVERGREEN_REDIS_URL", world.store_url(1))]);
    struck.spawn();
    // It ends, and says why.
    killed(&mut struck).await;
    let log = struck.kill().await;
    let is_said = |line: &String| line.contains("this journal holds answers of GHL for the store");
    assert!(log.iter().any(is_said), "{log:#?}");

    struck.set([("EVERGREEN_REDIS_URL", world.store_url(0))]);
    struck.launch().await;
    let (reader, id) = (world.reader(0), id.parse::<InstallationId>().unwrap());
    until("the answer to be in the store", PATIENCE, || async {
        let access = reader.access(&id).await.unwrap().unwrap();
        let record = (access.status, access.generation);
        holds(record == Fate::Refreshed.record(), record)
    })
    .await;
    assert_eq!(sandbox.count("spent_outside_grace").await, 0);
}

async fn run(world: Arc<World>, database: usize, case: Case) {
    // The first token falls due at once, its successor not while this test lives.
    let sandbox = Sandbox::start(&[("TOKEN_LIFETIME", "3s"), ("REPLAY_GRACE", case.grace)]).await;
    let scratch = Scratch::new();
    let how = match case.strike {
        Strike::Kill => "kill",
        Strike::Stop => "stop",
    };
    let armed = world
        .broker(database, &sandbox, scratch.join("struck"))
        .env("TEST_CRASH_POINT", format!("{} {how}", case.step));
    let mut struck = Member::start(armed).await;
    let another = match case.company {
        Company::Another => {
            let start = world.broker(database, &sandbox, scratch.join("another"));
            let member = Member::start(start).await;
            // Held back, so that it is the other one who is struck.
            member.program.as_ref().unwrap().signal(19);
            Some(member)
        }
        Company::Alone | Company::Restarted => None,
    };
    let public = format!("http://{}", struck.address);
    let id = client::install(&client::new(), &public, LOCATION).await;
    sandbox.set(json!({ "token_lifetime_ms": 3_600_000 })).await;
    if case.step == "sent" {
        let slow = json!([{
            "on": "token", "grant": "refresh_token", "kind": "slow_body", "ms": 800, "next": 1,
        }]);
        sandbox.faults(slow).await;
    }

    until("the strike", PATIENCE, || {
        let program = struck.program.as_mut().unwrap();
        let is_struck = match case.strike {
            Strike::Kill => program.has_ended(),
            Strike::Stop => program.is_stopped(),
        };
        let log = program.log();
        async move { holds(is_struck, log) }
    })
    .await;
    let is_sent = !matches!(
        case.step.as_str(),
        "claimed" | "leased" | "begun" | "intent-journaled"
    );
    let spent = sandbox.count("refresh_tokens_spent").await;
    assert_eq!(spent, u64::from(is_sent), "when it was struck");

    if let Some(another) = &another {
        another.program.as_ref().unwrap().signal(18);
    }
    let reader = world.reader(database);
    let id: InstallationId = id.parse().unwrap();
    if case.strike == Strike::Stop {
        // For how long it is stopped is what is tested.
        tokio::time::sleep(LEASE + Duration::from_millis(200)).await;
        if case.company == Company::Another {
            until("the other to act", PATIENCE, || async {
                let access = reader.access(&id).await.unwrap().unwrap();
                let record = (access.status, access.generation);
                let refused = sandbox.count("spent_outside_grace").await;
                holds(record != Fate::Waits.record() || refused > 0, record)
            })
            .await;
        }
    }
    let mut former = Vec::new();
    match (case.strike, case.company) {
        (_, Company::Restarted) => {
            former = struck.kill().await;
            struck.unset("TEST_CRASH_POINT");
            struck.launch().await;
        }
        (Strike::Stop, Company::Alone | Company::Another) => {
            struck.program.as_ref().unwrap().signal(18);
        }
        (Strike::Kill, Company::Alone | Company::Another) => {}
    }

    until("its fate", UNTIL_LOST, || async {
        let access = reader.access(&id).await.unwrap().unwrap();
        let record = (access.status, access.generation);
        let ledger = sandbox.ledger().await;
        let is_right = case
            .fate
            .ledger()
            .iter()
            .all(|(name, count)| ledger[name] == *count);
        holds(is_right && record == case.fate.record(), (record, ledger))
    })
    .await;
    if case.fate == Fate::Kept {
        assert!(world.is_in_escrow(&id).await, "it is not in escrow");
    }
    // What a broker says comes a moment after what it does.
    until("its report", PATIENCE, || async {
        let mut log = former.clone();
        log.extend(struck.log());
        log.extend(another.iter().flat_map(Member::log));
        holds(is_reported(&log, &case), log)
    })
    .await;
    // What is settled stays so: whoever is alive has looked at it once more by then.
    let settled = sandbox.ledger().await;
    assert_eq!(settled["calls_with_expired_token"], 0, "{settled}");
}

/// An installation that cannot be saved is reported as lost, one that is only suspect as that, and no
/// other is reported.
fn is_reported(log: &[String], case: &Case) -> bool {
    let mut failures = log.iter().filter(|line| line.contains("[REFRESH-FAIL]"));
    match case.fate {
        Fate::Lost => failures.any(|line| line.contains(r#""kind":"lost""#)),
        Fate::SuspectThenSaved => {
            let is_suspect = |line: &String| line.contains(r#""kind":"suspect""#);
            log.iter().any(is_suspect) && failures.next().is_none()
        }
        Fate::Waits | Fate::InDoubt | Fate::Kept | Fate::Refreshed | Fate::Repeated => {
            failures.next().is_none()
        }
    }
}

fn message(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "cancelled".to_owned();
    };
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a panic with words")).to_owned(),
    }
}
