//! `evergreen check`: whether the settings, and all that they name, will work. Before the first start, and at any time
//! beside a running process.

mod access;
mod clock;
mod files;
mod finding;
mod ghl;
mod listeners;
mod redirect;
mod store;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use service::config::{Layered, Origin, Read};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::args::Check;
use crate::exit::Failure;
use crate::output::Output;
use crate::role::Role;
use crate::run::{self, Checked, Place};
use crate::settings;
use finding::{Finding, State, worst};

/// How long each check may take.
const LIMIT: Duration = Duration::from_secs(5);

/// `evergreen check`.
pub(crate) async fn act(source: &Layered, output: Output, wanted: &Check) -> Result<(), Failure> {
    let role = wanted.role.unwrap_or_else(|| Role::guess(source));
    let inspected = run::inspect(role, source);
    let mut findings = of_settings(source, &inspected.reads);
    match inspected.settings {
        Ok(checked) => {
            let checked = Arc::new(checked);
            findings.extend(files::check(&inspected.reads));
            findings.extend(check_all(&checked).await);
        }
        Err(mistakes) => {
            let mistakes = mistakes.to_string();
            let each = mistakes.lines().map(|line| {
                Finding::problem("settings", line, "correct this setting, then check again")
            });
            findings.splice(0..0, each);
        }
    }
    print(role, output, &findings)?;
    match findings
        .iter()
        .filter(|it| it.state == State::Problem)
        .count()
    {
        0 => Ok(()),
        1 => Err(Failure::Refused("1 problem: see above".to_owned())),
        problems => Err(Failure::Refused(format!("{problems} problems: see above"))),
    }
}

/// The mistakes that names and values alone show.
fn of_settings(source: &Layered, reads: &[Read]) -> Vec<Finding> {
    let is_set = |read: &&Read| !matches!(&read.origin, None | Some(Origin::Program));
    let set = reads.iter().filter(is_set).count();
    let doubts = settings::doubts(source).into_iter();
    let doubts: Vec<Finding> = doubts
        .map(|doubt| Finding::warning("settings", doubt, "check this setting"))
        .collect();
    if doubts.is_empty() {
        let text = format!("{set} are set (`evergreen config print` shows them)");
        return vec![Finding::ok("settings", text)];
    }
    doubts
}

/// Runs all checks at once, each within the limit. The order of the results is always the same.
async fn check_all(checked: &Arc<Checked>) -> Vec<Finding> {
    let mut running: Vec<JoinHandle<Vec<Finding>>> = Vec::new();
    match &checked.place {
        Place::File { .. } => {
            running.push(start(
                "data directory",
                access::data_directory(checked.clone()),
            ));
        }
        Place::Redis(redis) => {
            running.push(start("store", store::store(checked.clone())));
            for number in 0..redis.locks.as_ref().map_or(0, Vec::len) {
                running.push(start(
                    "lock nodes",
                    store::lock_node(checked.clone(), number),
                ));
            }
            running.push(start("sealing keys", store::sealing_keys(checked.clone())));
            running.push(start("clock of the store", store::clock(checked.clone())));
            if checked.journal_max.is_some() {
                running.push(start(
                    "data directory",
                    access::data_directory(checked.clone()),
                ));
            }
        }
    }
    running.push(start("GHL", ghl::ghl(checked.clone())));
    for number in 0..checked.apps.len() {
        running.push(start(
            "redirect URI",
            redirect::redirect_uri(checked.clone(), number),
        ));
    }
    for (name, address) in [
        ("listener", checked.common.listen),
        ("internal listener", checked.common.internal_listen),
    ] {
        running.push(start(
            name,
            listeners::listener(checked.clone(), name, address),
        ));
    }
    if checked.broker_url.is_some() {
        running.push(start("brokers", listeners::brokers(checked.clone())));
    }
    for number in 0..checked.endpoints.len() {
        running.push(start("events", access::endpoint(checked.clone(), number)));
    }
    let mut findings = Vec::new();
    for check in running {
        findings.extend(check.await.unwrap_or_else(|_| {
            let todo = "this is a fault of evergreen: report it with the lines above";
            vec![Finding::problem("check", "a check has failed", todo)]
        }));
    }
    findings
}

fn start(
    name: &'static str,
    check: impl Future<Output = Vec<Finding>> + Send + 'static,
) -> JoinHandle<Vec<Finding>> {
    tokio::spawn(async move {
        timeout(LIMIT, check).await.unwrap_or_else(|_| {
            let text = format!("no result within {} s", LIMIT.as_secs());
            let todo = "is a firewall, a DNS server or a slow network in between?";
            vec![Finding::problem(name, text, todo)]
        })
    })
}

fn print(role: Role, output: Output, findings: &[Finding]) -> Result<(), Failure> {
    let checks: Vec<_> = findings.iter().map(Finding::to_json).collect();
    let result = worst(findings).word();
    let value = json!({ "command": role.command(), "result": result, "checks": checks });
    output.report(&value, result, || {
        let lines: Vec<String> = findings.iter().map(Finding::coloured).collect();
        format!(
            "checked as `evergreen {}`\n{}",
            role.command(),
            lines.join("\n")
        )
    })
}
