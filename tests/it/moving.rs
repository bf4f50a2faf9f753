//! `evergreen move`: from the file of `up` to Redis.

mod stores;

use std::process::Output;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tests::client::{self, get, send};
use tests::deployed::Deployed;
use tests::fleet::Member;
use tests::program::Start;
use tests::sandbox::{AGENCY, Sandbox};
use tests::scratch::Scratch;
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);
/// A location of [`AGENCY`].
const DERIVED: &str = "sandboxHarborDental1";

/// An `up` over a sandbox that outlives it, and a Redis of `deploy/` to move to.
struct Case {
    up: Up,
    sandbox: Sandbox,
    deployed: Deployed,
    scratch: Scratch,
}

impl Case {
    async fn start() -> Self {
        let sandbox = Sandbox::start(&[("TOKEN_LIFETIME", "1h")]).await;
        Self {
            up: Up::start(&[]).await.against(&sandbox).await,
            sandbox,
            deployed: Deployed::start(1).await,
            scratch: Scratch::new(),
        }
    }

    /// `evergreen move` with the user of brokers.
    fn moving(&self, more: &[&str]) -> Start {
        self.up.command(&[&["move"], more].concat()).env(
            "EVERGREEN_REDIS_URL_FILE",
            self.deployed.file("broker-redis-url"),
        )
    }

    fn data(&self, file: &str) -> String {
        format!("{}/{file}", self.up.data_dir())
    }

    /// A broker over the moved store, with this data directory.
    fn broker(&self, data_dir: &str) -> Start {
        let start = self.sandbox.as_ghl_of(Start::evergreen(&["broker"]));
        start
            .env(
                "EVERGREEN_REDIS_URL_FILE",
                self.deployed.file("broker-redis-url"),
            )
            .env("EVERGREEN_LOCK_URLS_FILE", self.deployed.file("lock-urls"))
            .env("EVERGREEN_ACCESS_KEYS_FILE", self.data("access.keys"))
            .env("EVERGREEN_REFRESH_KEYS_FILE", self.data("refresh.keys"))
            .env("EVERGREEN_DATA_DIR", data_dir)
    }

    fn gateway(&self, broker: &Member) -> Start {
        Start::evergreen(&["gateway"])
            .env("GHL_API_URL", &self.sandbox.url)
            .env(
                "EVERGREEN_REDIS_URL_FILE",
                self.deployed.file("gateway-redis-url"),
            )
            .env("EVERGREEN_ACCESS_KEYS_FILE", self.data("access.keys"))
            .env("EVERGREEN_BROKER_URL", format!("http://{}", broker.address))
    }

    async fn stop_up(&mut self) {
        let stopped = Start::new("true").spawn();
        let former = std::mem::replace(&mut self.up.program, stopped);
        let (code, log) = former.terminate(PATIENCE).await;
        assert_eq!(code, Some(0), "{log:#?}");
    }

    /// The start of `up` on its directory is refused. Returns its message.
    async fn refused_up(&self) -> String {
        let start = self.sandbox.as_ghl_of(Start::evergreen(&["up"]));
        let start = start
            .args(&[
                "--listen",
                "127.0.0.1:0",
                "--internal-listen",
                "127.0.0.1:0",
            ])
            .args(&["--data-dir", &self.up.data_dir()]);
        let output = start.run().await;
        assert_eq!(output.status.code(), Some(69), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(text).unwrap()
}

async fn succeeds(start: &Start) -> String {
    let output = start.run().await;
    assert!(output.status.success(), "{output:?}");
    said(&output)
}

/// Runs it, expecting that it is refused.
async fn refused(start: &Start) -> String {
    let output = start.run().await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    said(&output)
}

async fn call(url: &str, location: &str, key: &str) -> (u16, Value) {
    let url = format!("{url}/ghl/contacts/?locationId={location}&limit=5");
    let request = client::anonymous().get(url);
    send(request.header("x-api-key", key)).await
}

async fn new_key(up: &Up, name: &str) -> String {
    let url = format!("{}/v1/keys", up.internal);
    let body = json!({ "name": name, "scopes": ["proxy"] });
    let (status, made) = send(up.client.post(url).json(&body)).await;
    assert_eq!(status, 201, "{made}");
    made["key"].as_str().unwrap().to_owned()
}

async fn audit(client: &reqwest::Client, internal: &str) -> Vec<Value> {
    let url = format!("{internal}/v1/audit?limit=1000");
    let (status, mut audit) = get(client, &url).await;
    assert_eq!(status, 200, "{audit}");
    match audit["entries"].take() {
        Value::Array(entries) => entries,
        other => panic!("{other}: {audit}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_notice_nothing_of_a_move() {
    let mut case = Case::start().await;
    let up = &case.up;
    let key = new_key(up, "shop").await;
    let location = up.install("L1").await;
    let agency = client::install_agency(&up.client, &up.public, AGENCY).await;
    let url = format!("{}/v1/installations/{agency}", up.internal);
    until("the list of locations", PATIENCE, async || {
        let seen = get(&up.client, &url).await.1;
        holds(seen["locations"]["listedAt"].is_string(), seen)
    })
    .await;
    let url = format!("{}/v1/private-tokens", up.internal);
    let token = json!({ "location_id": "L2", "token": "pit-0123456789abcdef" });
    let (status, body) = send(up.client.post(url).json(&token)).await;
    assert!(status < 300, "{body}");
    for location in ["L1", DERIVED] {
        let (status, body) = call(&up.public, location, &key).await;
        assert_eq!(status, 200, "{location}: {body}");
    }
    let running = refused(&case.moving(&[])).await;
    assert!(running.contains("stop `evergreen up` first"), "{running}");
    let before = audit(&case.up.client, &case.up.internal).await;
    assert!(
        before.iter().any(|it| it["action"] == "key_created"),
        "{before:?}"
    );
    case.stop_up().await;

    let tried = succeeds(&case.moving(&["--dry-run"])).await;
    assert!(tried.contains("which is empty: 6 installations"), "{tried}");
    let moved = succeeds(&case.moving(&[])).await;
    assert!(moved.contains(": 6 installations"), "{moved}");
    for file in ["access.keys", "refresh.keys", "journal.redb"] {
        assert!(moved.contains(&case.data(file)), "{file}: {moved}");
    }
    for file in ["access.keys", "refresh.keys"] {
        let keys = std::fs::read_to_string(case.data(file)).unwrap();
        let (_, secret) = keys.trim().split_once(':').unwrap();
        assert!(!moved.contains(secret), "{file} is shown");
    }
    let again = succeeds(&case.moving(&[])).await;
    assert!(again.contains("nothing was changed"), "{again}");
    let refusal = case.refused_up().await;
    assert!(
        refusal.contains("was moved to redis://127.0.0.1:"),
        "{refusal}"
    );
    assert!(!refusal.contains('@'), "a login: {refusal}");

    // This broker has the journal of `up`, and its administrator's key. The other one has neither.
    let first = Member::start(case.broker(&case.up.data_dir())).await;
    let mut brokers = vec![first];
    brokers.push(Member::start(case.broker(&case.scratch.join("second"))).await);
    let gateway = Member::start(case.gateway(&brokers[1])).await;
    let public = format!("http://{}", gateway.address);
    for location in ["L1", DERIVED] {
        let (status, body) = call(&public, location, &key).await;
        assert_eq!(status, 200, "{location}: {body}");
    }
    let client = client::new();
    for (broker, id) in [
        (&brokers[0], &location),
        (&brokers[1], &agency),
        (&brokers[1], &location),
    ] {
        let url = format!("{}/v1/installations/{id}/refresh", broker.internal);
        let (status, body) = send(client.post(url)).await;
        assert_eq!(status, 200, "{body} {:#?}", broker.log());
    }
    for location in ["L1", DERIVED] {
        let (status, body) = call(&public, location, &key).await;
        assert_eq!(status, 200, "{location}: {body}");
    }
    let ledger = case.sandbox.ledger().await;
    for never in ["spent_outside_grace", "calls_with_unknown_token"] {
        assert_eq!(ledger[never], 0, "{ledger}");
    }
    let chain = case.sandbox.chain("L1").await;
    assert_eq!(
        chain["installations"][0]["spent_outside_grace"], 0,
        "{chain}"
    );

    let after = audit(&client, &brokers[1].internal).await;
    for entry in &before {
        let is_there = after
            .iter()
            .any(|it| it["at"] == entry["at"] && it["action"] == entry["action"]);
        assert!(is_there, "{entry} is missing in {after:?}");
    }
    let url = format!("{}/v1/installations?limit=100", brokers[1].internal);
    let (_, listed) = get(&client, &url).await;
    assert_eq!(
        listed["installations"].as_array().map(Vec::len),
        Some(6),
        "{listed}"
    );

    // Now a return would send tokens again that are spent.
    let used = refused(&case.moving(&["--undo"])).await;
    assert!(used.contains("was used since"), "{used}");
    let again = succeeds(&case.moving(&[])).await;
    assert!(again.contains("nothing was changed"), "{again}");
    let (status, body) = call(&public, "L1", &key).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn move_is_taken_back_while_nobody_has_used_it() {
    let mut case = Case::start().await;
    let key = new_key(&case.up, "shop").await;
    case.up.install("L1").await;
    case.stop_up().await;
    for _ in 0..2 {
        succeeds(&case.moving(&[])).await;
        let back = succeeds(&case.moving(&["--undo"])).await;
        assert!(back.contains("is empty"), "{back}");
    }
    let nothing = refused(&case.moving(&["--undo"])).await;
    assert!(nothing.contains("was not moved"), "{nothing}");
    let operator = case.deployed.operator();
    let left = case.deployed.store.cli(&operator, &["KEYS", "*"]).await;
    assert_eq!(left, "");
    case.up.start_again().await;
    let (status, body) = call(&case.up.public, "L1", &key).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_of_somebody_else_is_refused() {
    let mut case = Case::start().await;
    case.up.install("L1").await;
    case.stop_up().await;
    // A broker that began with the empty store has made it its own.
    let keys = Scratch::new();
    let other = case
        .broker(&keys.join("other"))
        .env(
            "EVERGREEN_ACCESS_KEYS_FILE",
            case.deployed.file("access-keys"),
        )
        .env(
            "EVERGREEN_REFRESH_KEYS_FILE",
            case.deployed.file("refresh-keys"),
        );
    let mut other = Member::start(other).await;
    other.kill().await;
    for more in [&["--dry-run"][..], &[]] {
        let foreign = refused(&case.moving(more)).await;
        assert!(
            foreign.contains("is not empty: it holds the store store_"),
            "{foreign}"
        );
    }
    case.up.start_again().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_and_unreachable_stores_are_refused() {
    let mut case = Case::start().await;
    case.up.install("L1").await;
    case.stop_up().await;
    let evicting = tests::redis::Redis::start_with(&[
        "--maxmemory",
        "50mb",
        "--maxmemory-policy",
        "allkeys-lru",
    ])
    .await;
    let to_evicting = case.up.command(&["move", "--to", &evicting.url()]);
    let why = refused(&to_evicting).await;
    assert!(why.contains("evicts keys"), "{why}");
    let nowhere = format!("redis://127.0.0.1:{}", tests::port::free());
    let why = refused(&case.up.command(&["move", "--to", &nowhere])).await;
    assert!(why.contains("the store did not answer"), "{why}");
    let output = case.up.command(&["move"]).run().await;
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    assert!(
        said(&output).contains("EVERGREEN_REDIS_URL is missing"),
        "{output:?}"
    );
    let url = case.deployed.broker_url.expose_secret();
    let elsewhere = Scratch::new();
    let nothing = case
        .up
        .command(&["move", "--to", url])
        .env("EVERGREEN_DATA_DIR", elsewhere.path().display());
    let why = refused(&nothing).await;
    assert!(why.contains("there is no store.redb"), "{why}");
    case.up.start_again().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_of_ghl_in_the_journal_is_not_left_behind() {
    let sandbox = Sandbox::start(&[("TOKEN_LIFETIME", "1h")]).await;
    let up = Up::with_crash_points().await.against(&sandbox).await;
    let deployed = Deployed::start(1).await;
    let scratch = Scratch::new();
    let id = up.install("L1").await;
    let mut up = up.with("TEST_CRASH_POINT", "answer-journaled kill");
    up.restart().await;
    let url = format!("{}/v1/installations/{id}/refresh", up.internal);
    let _ = up.client.post(url).send().await;
    let former = std::mem::replace(&mut up.program, Start::new("true").spawn());
    let (code, log) = former.wait_for_exit(PATIENCE).await;
    assert_eq!(code, None, "it was not killed: {log:#?}");
    let mut case = Case {
        up,
        sandbox,
        deployed,
        scratch,
    };
    let why = refused(&case.moving(&[])).await;
    assert!(why.contains("Start `evergreen up` once"), "{why}");
    case.up = case.up.with("TEST_CRASH_POINT", "");
    case.up.start_again().await;
    let finished = ["interrupted attempt is finished"];
    case.up.program.wait_for_line(&finished, PATIENCE).await;
    case.stop_up().await;
    succeeds(&case.moving(&[])).await;
    let broker = Member::start(case.broker(&case.scratch.join("broker"))).await;
    let url = format!("{}/v1/installations/{id}/refresh", broker.internal);
    let (status, body) = send(client::new().post(url)).await;
    assert_eq!(status, 200, "{body}");
    let ledger = case.sandbox.ledger().await;
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
}

/// Kills a move at each of its steps, and repeats it.
#[tokio::test(flavor = "multi_thread")]
async fn move_that_was_killed_is_repeated() {
    let mut case = Case::start().await;
    let key = new_key(&case.up, "shop").await;
    let id = case.up.install("L1").await;
    case.stop_up().await;
    let killed = async |step: &str, more: &[&str]| {
        let mut start = case.moving(more).env("TEST_MOVE_CRASH_POINT", step);
        start.program = Start::evergreen_with_crash_points(&[]).program;
        let output = start.run().await;
        assert_eq!(output.status.code(), None, "{step}: {output:?}");
    };
    for step in ["copied", "counted"] {
        killed(step, &[]).await;
        let refusal = case.refused_up().await;
        assert!(
            refusal.contains("has begun and not ended"),
            "{step}: {refusal}"
        );
        // No broker works with half a store.
        let broker = case.broker(&case.scratch.join(step));
        let mut broker = Member::new(broker);
        broker.spawn();
        let program = broker.program.take().unwrap();
        let (code, log) = program.wait_for_exit(PATIENCE).await;
        assert_eq!(code, Some(74), "{log:#?}");
        let says_why = |line: &String| line.contains("`evergreen move` has begun");
        assert!(log.iter().any(says_why), "{log:#?}");
    }
    killed("file-marked", &[]).await;
    let refusal = case.refused_up().await;
    assert!(refusal.contains("was moved to"), "{refusal}");
    let dry = succeeds(&case.moving(&["--dry-run"])).await;
    assert!(dry.contains("Would go on"), "{dry}");
    let moved = succeeds(&case.moving(&[])).await;
    assert!(moved.contains("Moved to"), "{moved}");

    // Also on the way back.
    killed("removed-some", &["--undo"]).await;
    let refusal = case.refused_up().await;
    assert!(refusal.contains("was moved to"), "{refusal}");
    let moved = succeeds(&case.moving(&[])).await;
    assert!(moved.contains("Moved to"), "{moved}");

    let broker = Member::start(case.broker(&case.up.data_dir())).await;
    let gateway = Member::start(case.gateway(&broker)).await;
    let public = format!("http://{}", gateway.address);
    let url = format!("{}/v1/installations/{id}/refresh", broker.internal);
    let (status, body) = send(client::new().post(url)).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = call(&public, "L1", &key).await;
    assert_eq!(status, 200, "{body}");
    let ledger = case.sandbox.ledger().await;
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
}
