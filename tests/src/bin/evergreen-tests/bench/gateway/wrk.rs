//! wrk, with each request for another installation.

use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::Value;
use tests::program::Start;

use super::scene::Scene;
use super::yard::Yard;

/// Longer than any answer takes, so that nothing is counted as failed for being slow.
const TIMEOUT: &str = "20s";
const PATIENCE: Duration = Duration::from_secs(60);

/// What wrk saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) requests: f64,
    pub(super) seconds: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// Loads whoever is at this `host:port`, and a path below it, for so many whole seconds.
pub(super) async fn run(yard: &Yard, scene: &Scene, target: &str, length: Duration) -> Seen {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/load.lua");
    let output = Start::new("wrk")
        .args(&["--threads", "1", "--latency", "--timeout", TIMEOUT])
        .args(&["--connections", &scene.connections.to_string()])
        .args(&["--duration", &format!("{}s", length.as_secs().max(1))])
        .args(&["--script", &script.display().to_string()])
        .args(&[format!("http://{target}{}", scene.path)])
        .env("KEY", yard.key.expose_secret())
        .env("IDS", &yard.ids)
        .env("BODY", scene.body_bytes)
        .run_within(length + PATIENCE)
        .await;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    let seen: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{output:?}"));
    let figure = |name: &str| seen[name].as_f64().expect(name);
    assert!(figure("failed") < 1.0, "who fails is not fast: {text}");
    Seen {
        requests: figure("requests"),
        seconds: figure("seconds"),
        p50_us: figure("p50_us"),
        p99_us: figure("p99_us"),
    }
}
