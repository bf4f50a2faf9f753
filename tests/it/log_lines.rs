//! Log lines as JSON, and the log filter of a running process.

use std::time::Duration;

use serde_json::{Value, json};
use tests::client::{self, send};
use tests::fleet::{Fleet, FleetConfig};
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// The lines of the log. Other output of the process is no JSON.
fn lines(up: &Up) -> Vec<Value> {
    let log = up.program.log().into_iter();
    log.filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_name_the_process_and_have_errors_as_objects() {
    let up = Up::start(&[
        ("EVERGREEN_LOG_FORMAT", "json"),
        ("EVERGREEN_LOG", "debug"),
        ("EVERGREEN_INSTANCE", "shop-1"),
    ])
    .await;
    let id = up.install("locA").await;
    let fault = json!([{ "on": "token", "kind": "status", "status": 502, "next": 1 }]);
    up.sandbox.faults(fault).await;
    up.command(&["installations", "refresh", &id]).run().await;
    let words = ["[REFRESH-RETRY]"];
    let line = up.program.wait_for_line(&words, PATIENCE).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["kind"], "transient", "{line}");
    assert_eq!(line["level"], "WARN", "{line}");
    assert_eq!(line["installation"], json!(id), "{line}");
    assert!(line["error"]["message"].is_string(), "{line}");
    assert!(line["error"]["attempt"].is_number(), "{line}");
    let all = lines(&up);
    assert!(all.len() > 10, "{} lines", all.len());
    for line in all {
        assert_eq!(line["instance"], "shop-1", "{line}");
        for name in ["timestamp", "level", "target", "version"] {
            assert!(line[name].is_string(), "{name} of {line}");
        }
        let error = &line["error"];
        assert!(error.is_null() || error.is_object(), "{line}");
        let is_own = |name: &&str| line["target"].as_str().unwrap().starts_with(name);
        if !["broker", "gateway", "service", "store", "evergreen"]
            .iter()
            .any(is_own)
        {
            continue;
        }
        let fields = line.as_object().unwrap().iter();
        for (name, value) in fields.filter(|(name, _)| *name != "message") {
            let text = value.as_str().unwrap_or_default();
            assert!(!text.starts_with("Some("), "{name} of {line}");
        }
    }
}

/// The output of `evergreen log-level`.
async fn log_level(up: &Up, args: &[&str]) -> String {
    let ran = up.command(&[&["log-level"], args].concat()).run().await;
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

fn debug_lines(up: &Up) -> usize {
    let log = up.program.log();
    log.iter().filter(|line| line.contains(" DEBUG ")).count()
}

/// Refreshes the installation. Returns the number of the line that says so.
async fn refresh(up: &Up, id: &str) -> usize {
    let last = || {
        let log = up.program.log();
        log.iter().rposition(|line| line.contains("[REFRESH]"))
    };
    let before = last();
    let ran = up.command(&["installations", "refresh", id]).run().await;
    assert!(ran.status.success(), "{ran:?}");
    until("the line of the refresh", PATIENCE, || async {
        let seen = last();
        seen.filter(|_| seen != before)
            .ok_or_else(|| format!("{seen:?}"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn log_level_changes_while_the_process_runs() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    assert_eq!(log_level(&up, &[]).await, "info");
    assert_eq!(debug_lines(&up), 0);
    let shown = log_level(&up, &["debug", "--for", "10m"]).await;
    assert!(
        shown.starts_with("debug (for ") && shown.ends_with(", then info)"),
        "{shown}"
    );
    until("debug lines", PATIENCE, || async {
        refresh(&up, &id).await;
        let seen = debug_lines(&up);
        holds(seen > 0, seen)
    })
    .await;
    let wrong = up.command(&["log-level", "broker=loud"]).run().await;
    assert!(!wrong.status.success(), "{wrong:?}");
    // The configured filter comes back by itself.
    log_level(&up, &["debug", "--for", "1s"]).await;
    until("the configured filter", PATIENCE, || async {
        let shown = log_level(&up, &[]).await;
        holds(shown == "info", shown)
    })
    .await;
    // Lines from before that may still be read come before the first of these.
    let (first, second) = (refresh(&up, &id).await, refresh(&up, &id).await);
    let between = &up.program.log()[first..second];
    let is_debug = |line: &String| line.contains(" DEBUG ");
    assert!(!between.iter().any(is_debug), "{between:?}");

    let audit = up.command(&["audit", "--action", "log_level_changed"]);
    let audit = String::from_utf8(audit.run().await.stdout).unwrap();
    assert_eq!(audit.matches("log_level_changed").count(), 2, "{audit}");
    assert!(audit.contains("debug for 10m"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_changes_its_log_level_for_administrators_alone() {
    let fleet = Fleet::start(&FleetConfig {
        brokers: 1,
        lock_nodes: 1,
        sandbox: &[],
        settings: &[],
    })
    .await;
    let url = format!("{}/v1/log-level", fleet.gateways[0].internal);
    let keys = format!("{}/v1/keys", fleet.brokers[0].internal);
    let proxy = json!({ "name": "shop", "scopes": ["proxy"] });
    let (_, made) = send(fleet.client.post(keys).json(&proxy)).await;
    let stranger = client::anonymous();
    let with_key = || {
        stranger
            .get(&url)
            .bearer_auth(made["key"].as_str().unwrap())
    };
    assert_eq!(send(stranger.get(&url)).await.0, 401);
    assert_eq!(send(with_key()).await.0, 403);
    let foreign = fleet
        .client
        .get(&url)
        .header("origin", "https://evil.example");
    assert_eq!(send(foreign).await.0, 403);

    let change = |body: Value| send(fleet.client.put(&url).json(&body));
    let (status, body) = change(json!({ "filter": "=[" })).await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("request_invalid")),
        "{body}"
    );
    assert_eq!(
        change(json!({ "filter": "debug", "for": "soon" })).await.0,
        400
    );
    let (status, body) = change(json!({ "filter": "debug" })).await;
    let expected = json!({ "filter": "debug", "configured": "info" });
    assert_eq!((status, body), (200, expected.clone()));
    assert_eq!(client::get(&fleet.client, &url).await, (200, expected));
    let audit = format!(
        "{}/v1/audit?action=log_level_changed",
        fleet.brokers[0].internal
    );
    until("the entry of the audit log", PATIENCE, || async {
        let (_, listed) = client::get(&fleet.client, &audit).await;
        let entries = listed["entries"].as_array().cloned().unwrap_or_default();
        holds(entries.len() == 1, listed)
    })
    .await;
}
