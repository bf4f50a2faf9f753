//! A broker dies after each step of a refresh. The tables of `docs/refresh-protocol.md` state the outcome for the
//! installation. Every cell of them is a case here.

mod repeated_crashes;

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
use tests::wait::{Found, holds, until};

const PATIENCE: Duration = Duration::from_secs(90);
/// A refused token is retried for a minute. A busy machine takes longer.
const UNTIL_LOST: Duration = Duration::from_secs(240);
/// The longest token call. A lease lasts 1.5 times as long. On a busy machine an attempt needs more than a second.
const CALL: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(3);
/// Concurrent cases. Each of them mostly waits for a lease to expire.
const AT_ONCE: usize = 8;
const LOCATION: &str = "locA";

#[tokio::test(flavor = "multi_thread")]
async fn kill_after_each_step_has_the_documented_outcome() {
    run_cases("Killed (`kill -9`)", Fault::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_after_each_step_has_the_documented_outcome() {
    run_cases("Stopped (`SIGSTOP`)", Fault::Stop).await;
}

async fn run_cases(heading: &str, fault: Fault) {
    let cases = read_table(heading, fault);
    assert_eq!(
        cases.len(),
        9 * 6,
        "nine steps, three kinds of other brokers, two graces"
    );
    let servers = Servers::start().await;
    let failed: Vec<String> = stream::iter(cases.into_iter().enumerate())
        .map(|(database, case)| {
            let servers = servers.clone();
            async move {
                let name = case.to_string();
                // In a task of its own, so that a failed case does not stop the others.
                let ran = tokio::spawn(run(servers, database, case)).await;
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
enum Fault {
    Kill,
    Stop,
}

/// The other broker, besides the faulted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OtherBroker {
    None,
    Running,
    SameRestarted,
}

/// The outcomes, in the words of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpectedOutcome {
    NotSent,
    ResponseLost,
    InEscrow,
    Refreshed,
    Replayed,
    Lost,
    SuspectThenRecovered,
}

#[derive(Debug, Clone)]
struct Case {
    fault: Fault,
    step: String,
    other_broker: OtherBroker,
    grace: &'static str,
    expected: ExpectedOutcome,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fault,
            step,
            other_broker,
            grace,
            expected,
        } = self;
        write!(
            f,
            "{fault:?} after {step}, {other_broker:?}, grace {grace}: {expected:?}"
        )
    }
}

fn read_table(heading: &str, fault: Fault) -> Vec<Case> {
    let page = include_str!("../../docs/refresh-protocol.md");
    let table = page.split(heading).nth(1).expect("the table is there");
    let rows = table.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let columns = [
        (OtherBroker::None, "30s"),
        (OtherBroker::None, "0s"),
        (OtherBroker::Running, "30s"),
        (OtherBroker::Running, "0s"),
        (OtherBroker::SameRestarted, "30s"),
        (OtherBroker::SameRestarted, "0s"),
    ];
    rows.flat_map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let step = cells.next().expect("a step").to_owned();
        let outcomes: Vec<&str> = cells.collect();
        assert_eq!(outcomes.len(), columns.len(), "{row}");
        columns
            .into_iter()
            .zip(outcomes)
            .map(move |((other_broker, grace), expected)| Case {
                fault,
                step: step.clone(),
                other_broker,
                grace,
                expected: ExpectedOutcome::read(expected),
            })
    })
    .collect()
}

impl ExpectedOutcome {
    fn read(word: &str) -> Self {
        match word {
            "waits" => Self::NotSent,
            "in doubt" => Self::ResponseLost,
            "kept" => Self::InEscrow,
            "refreshed" => Self::Refreshed,
            "repeated" => Self::Replayed,
            "lost" => Self::Lost,
            "suspect, then saved" => Self::SuspectThenRecovered,
            other => panic!("unknown outcome `{other}`"),
        }
    }

    /// The sandbox's ledger for the token: spent, replayed, refused.
    fn ledger(self) -> [(&'static str, u64); 3] {
        let [spent, repeated, refused] = match self {
            Self::NotSent => [0, 0, 0],
            Self::ResponseLost | Self::InEscrow | Self::Refreshed => [1, 0, 0],
            Self::Replayed => [1, 1, 0],
            Self::SuspectThenRecovered => [1, 0, 1],
            // It is retried twice before it is lost.
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
            Self::NotSent | Self::ResponseLost | Self::InEscrow => {
                (Status::Active, Generation::FIRST)
            }
            Self::Refreshed | Self::Replayed | Self::SuspectThenRecovered => {
                (Status::Active, second)
            }
            Self::Lost => (Status::Invalid, Generation::FIRST),
        }
    }
}

/// The servers and keys that all cases share. Each case has a Redis database of its own.
#[derive(Debug)]
struct Servers {
    store: Redis,
    locks: Vec<Redis>,
    access_keys: SecretString,
    refresh_keys: SecretString,
}

impl Servers {
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

/// The status and the generation in the store, or the reason why it does not answer now.
async fn record_of(reader: &TokenReader, id: &InstallationId) -> Found<(Status, Generation)> {
    let access = reader.access(id).await.map_err(|error| error.to_string())?;
    let access = access.ok_or("no record")?;
    Ok((access.status, access.generation))
}

async fn until_killed(member: &mut Member) {
    until("the kill", PATIENCE, || {
        let has_ended = member.program.as_mut().unwrap().has_ended();
        async move { holds(has_ended, "running") }
    })
    .await;
}

async fn until_stopped(member: &Member) {
    until("the stop", PATIENCE, || {
        let is_stopped = member.program.as_ref().unwrap().is_stopped();
        async move { holds(is_stopped, "running") }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_response_in_escrow_revives_invalid_installation() {
    let servers = Servers::start().await;
    let sandbox = Sandbox::start(&[("FIRST_TOKEN_LIFETIME", "3s"), ("REPLAY_GRACE", "0s")]).await;
    let scratch = Scratch::new();
    let with_crash_point = servers
        .broker(0, &sandbox, scratch.join("faulted"))
        .env("TEST_CRASH_POINT", "answered stop, answer-journaled kill");
    let mut faulted = Member::start(with_crash_point).await;
    let public = format!("http://{}", faulted.address);
    let id = client::install(&client::new(), &public, LOCATION).await;
    until_stopped(&faulted).await;
    let start = servers.broker(0, &sandbox, scratch.join("another"));
    let _another = Member::start(start).await;
    let (reader, id) = (servers.reader(0), id.parse::<InstallationId>().unwrap());
    let is = |expected: ExpectedOutcome| async move {
        let record = record_of(&reader, &id).await?;
        holds(record == expected.record(), record)
    };
    until("the installation to become invalid", UNTIL_LOST, || {
        is.clone()(ExpectedOutcome::Lost)
    })
    .await;

    // The host is lost with its disk just after the response was stored in escrow.
    faulted.program.as_ref().unwrap().signal(18);
    until_killed(&mut faulted).await;
    until("the installation to recover", PATIENCE, || {
        is.clone()(ExpectedOutcome::SuspectThenRecovered)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn journaled_response_survives_start_on_wrong_store() {
    let servers = Servers::start().await;
    let sandbox = Sandbox::start(&[("FIRST_TOKEN_LIFETIME", "3s"), ("REPLAY_GRACE", "0s")]).await;
    let scratch = Scratch::new();
    // Without separate lock nodes there is no escrow, so the response is only in the journal.
    let mut start = servers.broker(0, &sandbox, scratch.join("faulted"));
    start.env.remove("EVERGREEN_LOCK_URLS");
    let with_crash_point = start.env("TEST_CRASH_POINT", "answer-journaled kill");
    let mut faulted = Member::start(with_crash_point).await;
    let public = format!("http://{}", faulted.address);
    let id = client::install(&client::new(), &public, LOCATION).await;
    until_killed(&mut faulted).await;

    faulted.unset("TEST_CRASH_POINT");
    faulted.set([("EVERGREEN_REDIS_URL", servers.store_url(1))]);
    faulted.spawn();
    // It refuses to start.
    until_killed(&mut faulted).await;
    let log = faulted.kill().await;
    let is_said = |line: &String| line.contains("this journal holds answers of GHL for the store");
    assert!(log.iter().any(is_said), "{log:#?}");

    faulted.set([("EVERGREEN_REDIS_URL", servers.store_url(0))]);
    faulted.launch().await;
    let (reader, id) = (servers.reader(0), id.parse::<InstallationId>().unwrap());
    until("the response to be in the store", PATIENCE, || async {
        let record = record_of(&reader, &id).await?;
        holds(record == ExpectedOutcome::Refreshed.record(), record)
    })
    .await;
    assert_eq!(sandbox.count("spent_outside_grace").await, 0);
}

async fn run(servers: Arc<Servers>, database: usize, case: Case) {
    // The first token falls due immediately. Its successor does not fall due during the test.
    let settings = [("FIRST_TOKEN_LIFETIME", "3s"), ("REPLAY_GRACE", case.grace)];
    let sandbox = Sandbox::start(&settings).await;
    let scratch = Scratch::new();
    let crash_action = match case.fault {
        Fault::Kill => "kill",
        Fault::Stop => "stop",
    };
    let with_crash_point = servers
        .broker(database, &sandbox, scratch.join("faulted"))
        .env("TEST_CRASH_POINT", format!("{} {crash_action}", case.step));
    let mut faulted = Member::start(with_crash_point).await;
    let another = match case.other_broker {
        OtherBroker::Running => {
            let start = servers.broker(database, &sandbox, scratch.join("another"));
            let member = Member::start(start).await;
            // Paused, so that the other broker refreshes first and is faulted.
            member.program.as_ref().unwrap().signal(19);
            Some(member)
        }
        OtherBroker::None | OtherBroker::SameRestarted => None,
    };
    // Before the consent, because its token is refreshed at once.
    if case.step == "sent" {
        let slow = json!([{
            "on": "token", "grant": "refresh_token", "kind": "slow_body", "ms": 1500, "next": 1,
        }]);
        sandbox.faults(slow).await;
    }
    let public = format!("http://{}", faulted.address);
    let id = client::install(&client::new(), &public, LOCATION).await;

    until("the fault", PATIENCE, || {
        let program = faulted.program.as_mut().unwrap();
        let has_faulted = match case.fault {
            Fault::Kill => program.has_ended(),
            Fault::Stop => program.is_stopped(),
        };
        let log = program.log();
        async move { holds(has_faulted, log) }
    })
    .await;
    let is_sent = !matches!(
        case.step.as_str(),
        "claimed" | "leased" | "begun" | "intent-journaled"
    );
    // A request that was just sent may still be on its way to the sandbox.
    until(
        "the token to be spent before the fault",
        PATIENCE,
        || async {
            let spent = sandbox.count("refresh_tokens_spent").await;
            holds(spent == u64::from(is_sent), spent)
        },
    )
    .await;

    if let Some(another) = &another {
        another.program.as_ref().unwrap().signal(18);
    }
    let reader = servers.reader(database);
    let id: InstallationId = id.parse().unwrap();
    if case.fault == Fault::Stop {
        // The pause must outlast the lease.
        tokio::time::sleep(LEASE + Duration::from_millis(200)).await;
        if case.other_broker == OtherBroker::Running {
            until("the other broker to act", PATIENCE, || async {
                let record = record_of(&reader, &id).await?;
                let refused = sandbox.count("spent_outside_grace").await;
                holds(
                    record != ExpectedOutcome::NotSent.record() || refused > 0,
                    record,
                )
            })
            .await;
        }
    }
    let mut earlier_log = Vec::new();
    match (case.fault, case.other_broker) {
        (_, OtherBroker::SameRestarted) => {
            earlier_log = faulted.kill().await;
            faulted.unset("TEST_CRASH_POINT");
            faulted.launch().await;
        }
        (Fault::Stop, OtherBroker::None | OtherBroker::Running) => {
            faulted.program.as_ref().unwrap().signal(18);
        }
        (Fault::Kill, OtherBroker::None | OtherBroker::Running) => {}
    }

    until("the expected outcome", UNTIL_LOST, || async {
        let record = record_of(&reader, &id).await?;
        let ledger = sandbox.ledger().await;
        let is_right = case
            .expected
            .ledger()
            .iter()
            .all(|(name, count)| ledger[name] == *count);
        holds(
            is_right && record == case.expected.record(),
            (record, ledger),
        )
    })
    .await;
    if case.expected == ExpectedOutcome::InEscrow {
        assert!(
            servers.is_in_escrow(&id).await,
            "the response is not in escrow"
        );
    }
    // A broker logs shortly after it acts.
    until("the expected log lines", PATIENCE, || async {
        let mut log = earlier_log.clone();
        log.extend(faulted.log());
        log.extend(another.iter().flat_map(Member::log));
        holds(is_reported(&log, &case), log)
    })
    .await;
    // The outcome is final: all running brokers have checked the installation again by now.
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["calls_with_expired_token"], 0, "{ledger}");
}

/// A lost installation is logged as lost, and a suspect one as suspect. No other failure is logged.
fn is_reported(log: &[String], case: &Case) -> bool {
    let mut failures = log.iter().filter(|line| line.contains("[REFRESH-FAIL]"));
    match case.expected {
        ExpectedOutcome::Lost => failures.any(|line| line.contains(r#""kind":"lost""#)),
        ExpectedOutcome::SuspectThenRecovered => {
            let is_suspect = |line: &String| line.contains(r#""kind":"suspect""#);
            log.iter().any(is_suspect) && failures.next().is_none()
        }
        ExpectedOutcome::NotSent
        | ExpectedOutcome::ResponseLost
        | ExpectedOutcome::InEscrow
        | ExpectedOutcome::Refreshed
        | ExpectedOutcome::Replayed => failures.next().is_none(),
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
