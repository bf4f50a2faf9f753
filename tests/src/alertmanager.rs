//! Alertmanager with the routes of `deploy/`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::port;
use crate::program::{Program, Start, wait_for_port};
use crate::receiver::Receiver;
use crate::scratch::Scratch;
use crate::wait::{holds, until};

/// The receivers of `deploy/alertmanager.yml` to which an operator adds addresses.
const RECEIVERS: [&str; 2] = ["on-call", "tickets"];
const PATIENCE: Duration = Duration::from_secs(60);

/// The receivers of `deploy/alertmanager.yml` that notify somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Page,
    Ticket,
}

/// The state of an alert in a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Firing,
    Resolved,
}

impl Severity {
    fn path(self) -> &'static str {
        match self {
            Self::Page => "/on-call",
            Self::Ticket => "/tickets",
        }
    }
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// A running Alertmanager, whose notifications are kept.
#[derive(Debug)]
pub struct Alertmanager {
    /// `host:port`, for Prometheus.
    pub address: String,
    receiver: Receiver,
    _program: Program,
    _scratch: Scratch,
}

impl Alertmanager {
    /// # Panics
    /// If it cannot be started.
    pub async fn start() -> Self {
        let receiver = Receiver::start().await;
        let scratch = Scratch::new();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alertmanager.yml");
        let shipped = std::fs::read_to_string(shipped).expect("deploy/alertmanager.yml");
        let config = with_addresses(shipped, &receiver);
        let file = scratch.join("alertmanager.yml");
        std::fs::write(&file, config).expect("a file of our own");
        let port = port::free();
        let address = format!("127.0.0.1:{port}");
        let program = Start::new("prometheus-alertmanager")
            .args(&[
                format!("--config.file={file}"),
                format!("--storage.path={}", scratch.join("data")),
                format!("--web.listen-address={address}"),
                // It has no peers.
                "--cluster.listen-address=".to_owned(),
            ])
            .spawn();
        wait_for_port(port).await;
        let loaded = ["Completed loading of configuration file"];
        program.wait_for_line(&loaded, PATIENCE).await;
        Self {
            address,
            receiver,
            _program: program,
            _scratch: scratch,
        }
    }

    /// The names of the alerts that were notified so.
    #[must_use]
    pub fn notified(&self, severity: Severity, status: Status) -> BTreeSet<String> {
        let all = self.receiver.all().into_iter();
        let of_path = all.filter(|one| one.path == severity.path());
        let alerts = of_path.flat_map(|one| match one.json()["alerts"].take() {
            Value::Array(alerts) => alerts,
            other => panic!("no alerts but {other}"),
        });
        let wanted = alerts.filter(|alert| alert["status"] == status.as_str());
        let names = wanted.map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned));
        names.map(|name| name.expect("a name")).collect()
    }

    /// Waits until the alert was notified so.
    pub async fn until_notified(
        &self,
        name: &str,
        (severity, status): (Severity, Status),
        patience: Duration,
    ) {
        let what = format!("{severity:?} {name}, {status:?}");
        until(&what, patience, || async {
            let notified = self.notified(severity, status);
            holds(notified.contains(name), notified)
        })
        .await;
    }
}

/// The shipped file, as an operator completes it.
fn with_addresses(shipped: String, receiver: &Receiver) -> String {
    RECEIVERS.into_iter().fold(shipped, |config, name| {
        let entry = format!("  - name: {name}\n");
        assert!(config.contains(&entry), "no receiver {name}");
        let url = receiver.url().replace("hooks", name);
        let webhook =
            format!("{entry}    webhook_configs: [{{ url: '{url}', send_resolved: true }}]\n");
        config.replace(&entry, &webhook)
    })
}
