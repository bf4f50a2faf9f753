//! Runs wrk with each request for another installation.

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use store::InstallationId;
use tests::program::Start;
use tests::scratch::Scratch;
use tests::testbed::Testbed;

/// Longer than any response takes, so that slow responses are not counted as failed.
const TIMEOUT: &str = "20s";
const PATIENCE: Duration = Duration::from_secs(60);

/// The installations that calls use, and their API key.
#[derive(Debug)]
pub(super) struct Callers {
    pub(super) key: SecretString,
    pub(super) ids: Vec<InstallationId>,
    /// A file with the ids, one per line.
    file: String,
}

/// A load for wrk.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub(super) callers: &'a Callers,
    pub(super) url: String,
    /// The size of each request's body. 0 means a GET.
    pub(super) body_bytes: usize,
    pub(super) connections: usize,
    /// The average pause of a connection between a response and its next request, in whole milliseconds.
    pub(super) pause: Duration,
    /// A command that starts wrk, such as `nice`.
    pub(super) under: &'a [&'a str],
    /// The length in whole seconds.
    pub(super) length: Duration,
}

/// The results of wrk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// All responses.
    pub(super) requests: f64,
    pub(super) seconds: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// Unsuccessful responses.
    pub(super) refused: f64,
    /// Requests without a response.
    pub(super) broken: f64,
}

impl Callers {
    /// For the installations of a testbed.
    pub(super) async fn of(testbed: &Testbed, scratch: &Scratch, installations: usize) -> Self {
        let ids = testbed.installations(installations).await;
        let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let file = scratch.join("ids");
        std::fs::write(&file, lines).expect("a file of our own");
        Self {
            key: key(testbed).await,
            ids,
            file,
        }
    }
}

impl Load<'_> {
    pub(super) async fn run(&self) -> Seen {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/load.lua");
        let output = Start::new("wrk")
            .args(&["--threads", "1", "--latency", "--timeout", TIMEOUT])
            .args(&["--connections", &self.connections.to_string()])
            .args(&["--duration", &format!("{}s", self.length.as_secs().max(1))])
            .args(&["--script", &script.display().to_string()])
            .args(&[&self.url])
            .env("KEY", self.callers.key.expose_secret())
            .env("IDS", &self.callers.file)
            .env("BODY", self.body_bytes)
            .env("PAUSE", self.pause.as_millis())
            .under(self.under)
            .run_within(self.length + PATIENCE)
            .await;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        let seen: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{output:?}"));
        let figure = |name: &str| seen[name].as_f64().expect(name);
        Seen {
            requests: figure("requests"),
            seconds: figure("seconds"),
            p50_us: figure("p50_us"),
            p99_us: figure("p99_us"),
            refused: figure("refused"),
            broken: figure("broken"),
        }
    }
}

impl Seen {
    pub(super) fn per_second(&self) -> f64 {
        self.requests / self.seconds
    }

    pub(super) fn served_per_second(&self) -> f64 {
        (self.requests - self.refused) / self.seconds
    }
}

/// A key for all installations, created as an operator does.
async fn key(testbed: &Testbed) -> SecretString {
    let create = testbed.evergreen(&["keys", "create", "--name", "bench"]);
    let made = create.run().await;
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let shown = String::from_utf8(made.stdout).expect("text");
    shown.trim_end().into()
}
