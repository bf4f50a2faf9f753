//! A broker's disk: full, failing, or with a file removed. No token is spent if the response could not be stored.

use std::time::Duration;

use tests::client::{self, get};
use tests::port;
use tests::program::{Program, Start, wait_for_port, write_admin_key};
use tests::sandbox::Sandbox;
use tests::small_disk::SmallDisk;
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(40);

/// `evergreen up` on a small disk, with a sandbox of its own.
struct OnSmallDisk {
    disk: SmallDisk,
    sandbox: Sandbox,
    start: Start,
    public: String,
    internal: String,
    program: Program,
}

impl OnSmallDisk {
    async fn start(lifetime: &str) -> Self {
        let disk = SmallDisk::start(8).await;
        let sandbox = Sandbox::start(&[("TOKEN_LIFETIME", lifetime)]).await;
        let (public, internal) = (port::free(), port::free());
        let at = |port| format!("127.0.0.1:{port}");
        let start = Start::evergreen(&["up"])
            .args(&["--listen", &at(public), "--internal-listen", &at(internal)])
            .args(&["--data-dir", &disk.join("data")]);
        let start = disk.run(sandbox.as_ghl_of(start));
        write_admin_key(&disk.outside("data")).unwrap();
        let program = start.spawn();
        for port in [public, internal] {
            wait_for_port(port).await;
        }
        Self {
            disk,
            sandbox,
            start,
            public: format!("http://{}", at(public)),
            internal: format!("http://{}", at(internal)),
            program,
        }
    }

    /// Fills the disk and removes the reserve files, as after a write that did not fit.
    fn fill(&self) {
        let data = self.disk.outside("data");
        let reserves = ["journal.redb.reserve", "store.redb.reserve"].map(|name| data.join(name));
        // The process may have created them again before the disk was full.
        while reserves.iter().any(|path| path.exists()) {
            for path in &reserves {
                let _ = std::fs::remove_file(path);
            }
            self.disk.fill();
        }
    }

    async fn until_ready(&self, code: u16, word: &str) {
        until_ready(&self.internal, code, word).await;
    }
}

/// Waits until `/readyz` has this status and contains this text.
async fn until_ready(internal: &str, code: u16, word: &str) {
    let client = client::new();
    let url = format!("{internal}/readyz");
    until("the expected readiness", PATIENCE, || async {
        let (found, body) = get(&client, &url).await;
        let body = body.to_string();
        holds(found == code && body.contains(word), (found, body))
    })
    .await;
}

async fn until_spent_past(sandbox: &Sandbox, count: u64) {
    until("refreshes to continue", PATIENCE, || async {
        let spent = sandbox.count("refresh_tokens_spent").await;
        holds(spent > count, spent)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_pause_while_disk_is_full_and_resume() {
    let mut up = OnSmallDisk::start("16s").await;
    let client = client::new();
    for number in 0..5 {
        client::install(&client, &up.public, &format!("loc{number:03}")).await;
    }
    up.until_ready(200, "").await;
    // No refresh is due yet. Its response would find neither space nor a reserve.
    up.fill();
    assert_eq!(up.sandbox.count("refresh_tokens_spent").await, 0);
    up.until_ready(503, "no space is left").await;
    let consent = client::try_install(&client, &up.public, "loc999").await;
    assert!(consent.is_err(), "{consent:?}");
    let exchanged = up.sandbox.chain("loc999").await;
    assert!(exchanged["installations"].is_null(), "{exchanged}");
    let words = ["no refresh token is spent"];
    up.program.wait_for_line(&words, PATIENCE).await;
    assert_eq!(up.sandbox.count("refresh_tokens_spent").await, 0);
    up.disk.empty();
    up.until_ready(200, "").await;
    until_spent_past(&up.sandbox, 5).await;
    assert!(!up.program.has_ended());
    let ledger = up.sandbox.ledger().await;
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
    let listed = get(&client, &format!("{}/v1/installations", up.internal))
        .await
        .1;
    let listed = listed["installations"].as_array().unwrap();
    assert_eq!(listed.len(), 5);
    assert!(
        listed.iter().all(|one| one["tokenStatus"] == "valid"),
        "{listed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_disk_write_ends_the_process_and_a_restart_recovers() {
    let up = OnSmallDisk::start("1h").await;
    let client = client::new();
    let id = client::install(&client, &up.public, "loc000").await;
    up.until_ready(200, "").await;
    up.fill();
    // Creating an API key does not check for space first. So the store's file grows until a write fails.
    let keys = format!("{}/v1/keys", up.internal);
    let name = "n".repeat(100);
    let filling = tokio::spawn({
        let client = client.clone();
        async move {
            loop {
                let body = serde_json::json!({ "name": name, "scopes": ["proxy"] });
                if client.post(&keys).json(&body).send().await.is_err() {
                    return;
                }
            }
        }
    });
    let (code, log) = up.program.wait_for_exit(PATIENCE).await;
    assert_eq!(
        code,
        Some(74),
        "{:#?}",
        &log[log.len().saturating_sub(10)..]
    );
    filling.await.unwrap();
    up.disk.empty();
    let _next = up.start.spawn();
    until_ready(&up.internal, 200, "").await;
    let url = format!("{}/v1/installations/{id}/refresh", up.internal);
    let refreshed = client::send(client.post(url)).await;
    assert_eq!(refreshed.0, 200, "{refreshed:?}");
    assert_eq!(up.sandbox.count("refresh_tokens_spent").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_journal_stops_refreshes() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    until_ready(&up.internal, 200, "").await;
    std::fs::remove_file(format!("{}/journal.redb", up.data_dir())).unwrap();
    until_ready(&up.internal, 503, "was removed or replaced").await;
    let refreshed = up.command(&["installations", "refresh", &id]).run().await;
    assert!(!refreshed.status.success(), "{refreshed:?}");
    assert_eq!(up.sandbox.count("refresh_tokens_spent").await, 0);
    let metrics = get(&up.client, &format!("{}/metrics", up.internal)).await.1;
    let series = r#"evergreen_file_ready{file="journal"} 0"#;
    assert!(metrics.as_str().unwrap().contains(series), "{metrics}");
}
