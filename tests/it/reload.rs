//! Settings that SIGHUP changes, under load and without a failed call.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tests::client::send;
use tests::load::steady_load;
use tests::scratch::Scratch;
use tests::up::Up;

const HANGUP: i32 = 1;
const PATIENCE: Duration = Duration::from_secs(30);

/// A settings file.
struct File(Scratch);

impl File {
    fn new(text: &str) -> Self {
        let file = Self(Scratch::new());
        file.write(text);
        file
    }

    fn path(&self) -> String {
        self.0.join("evergreen.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }
}

/// Changes the settings file, and returns the line that says so.
async fn reload(up: &Up, file: &File, text: &str, words: &[&str]) -> String {
    file.write(text);
    up.program.signal(HANGUP);
    up.program.wait_for_line(words, PATIENCE).await
}

/// A call with a body of 4 kB.
async fn large_call(up: &Up, id: &str) -> (u16, Value) {
    let url = format!("{}/ghl/contacts/?installation_id={id}", up.public);
    let body = serde_json::json!({ "locationId": "locA", "name": "n".repeat(4000) });
    send(up.client.post(url).json(&body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_changes_limits_under_load_and_names_what_changed() {
    let file = File::new("EVERGREEN_MAX_BODY = \"1KB\"\n");
    let up = Up::start(&[("EVERGREEN_CONFIG", &file.path())]).await;
    let id = up.install("locA").await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (client, public, stop) = (up.client.clone(), up.public.clone(), stop.clone());
        let ids = [id.clone()];
        async move {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                let part =
                    steady_load(&client, &public, &ids, 50, Duration::from_millis(500)).await;
                part.expect_success();
                calls += part.total();
            }
            calls
        }
    });
    assert_eq!(large_call(&up, &id).await.0, 413);

    // Every limit at once, and one setting that needs a restart.
    let limits = "\
        EVERGREEN_MAX_BODY = \"1MB\"\n\
        EVERGREEN_MAX_REQUESTS = 100\n\
        EVERGREEN_MAX_REQUESTS_PER_KEY = 50\n\
        EVERGREEN_MAX_CONNECTIONS = 1000\n\
        EVERGREEN_REFRESH_RATE = 7\n\
        EVERGREEN_REFRESH_CONCURRENCY = 3\n\
        EVERGREEN_ACCESS_LOG = \"all\"\n\
        EVERGREEN_LOG = \"info,broker=debug\"\n\
        EVERGREEN_SHUTDOWN_TIMEOUT = \"29s\"\n";
    let line = reload(
        &up,
        &file,
        limits,
        &["were read again", "EVERGREEN_MAX_BODY"],
    )
    .await;
    let (changed, restart) = line.split_once("needs_restart").unwrap();
    for name in limits.lines().filter_map(|line| line.split(" = ").next()) {
        let is_restart = name == "EVERGREEN_SHUTDOWN_TIMEOUT";
        assert_eq!(restart.contains(name), is_restart, "{name}: {line}");
        assert_eq!(changed.contains(name), !is_restart, "{name}: {line}");
    }
    let (status, answer) = large_call(&up, &id).await;
    assert!(status < 300, "{status} {answer}");
    let filter = up.command(&["log-level"]).run().await.stdout;
    assert_eq!(String::from_utf8_lossy(&filter), "info,broker=debug\n");
    up.program
        .wait_for_line(&["/ghl/contacts/", "status=201"], PATIENCE)
        .await;

    // All mistakes are named, and nothing changes, not even what has none.
    let mistakes = "\
        EVERGREEN_MAX_BODY = \"1KB\"\n\
        EVERGREEN_MAX_REQUESTS = \"many\"\n\
        EVERGREEN_REFRESH_RATE = 0\n";
    let words = [
        "everything stays as it is",
        "EVERGREEN_MAX_REQUESTS",
        "EVERGREEN_REFRESH_RATE",
    ];
    reload(&up, &file, mistakes, &words).await;
    let (status, answer) = large_call(&up, &id).await;
    assert!(status < 300, "{status} {answer}");

    let words = ["were read again", "nothing", "EVERGREEN_SHUTDOWN_TIMEOUT"];
    reload(&up, &file, limits, &words).await;
    stop.store(true, Ordering::Relaxed);
    let calls = load.await.unwrap();
    assert!(calls > 10, "{calls}");
}
