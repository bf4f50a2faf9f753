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

/// The addresses in `deploy/alertmanager.yml` that an operator replaces begin with this.
const SHIPPED: &str = "http://127.0.0.1:9099/";
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
            Self::Page => "/page",
            Self::Ticket => "/ticket",
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
        assert!(shipped.contains(SHIPPED), "the addresses are others");
        let config = shipped.replace(SHIPPED, &receiver.url().replace("/hooks", "/"));
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
