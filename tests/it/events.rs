//! Events: what endpoints get, in which order, and what operators and pollers see.

mod api;
mod changes;
mod dead_letters;
mod delivery;
mod filters;
mod forwarding;
mod libraries;

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tests::client::{self, get, send};
use tests::fleet::{Fleet, FleetConfig};
use tests::receiver::{Received, Receiver};
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;
use tests::up::Up;
use tests::wait::{holds, until};

use crate::webhooks::{new_key, pem};

/// Longer than the pauses after the first failures.
const PATIENCE: Duration = Duration::from_secs(180);

/// `evergreen up` that sends its events to this receiver.
async fn up_with(receiver: &Receiver, settings: &[(&str, &str)]) -> Up {
    let own = receiver.settings();
    let own = own.iter().map(|(key, value)| (*key, value.as_str()));
    let all: Vec<_> = own.chain(settings.iter().copied()).collect();
    Up::start(&all).await
}

/// Likewise, without the webhooks that the sandbox sends after a consent.
async fn quiet(receiver: &Receiver, settings: &[(&str, &str)]) -> Up {
    let key = pem(&new_key());
    let settings = [&[("GHL_WEBHOOK_ED25519_KEY", key.as_str())], settings].concat();
    up_with(receiver, &settings).await
}

/// Brokers over Redis that send their events to this receiver.
async fn fleet_with(receiver: &Receiver, brokers: usize, sandbox: &[(&str, &str)]) -> Fleet {
    let own = receiver.settings();
    let own: Vec<_> = own
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    Fleet::start(&FleetConfig {
        brokers,
        lock_nodes: 3,
        sandbox,
        settings: &own,
    })
    .await
}

/// A settings file with these endpoints, which may be on this machine.
struct Settings(Scratch);

impl Settings {
    fn new(sections: &[String]) -> Self {
        let settings = Self(Scratch::new());
        settings.write(sections);
        settings
    }

    fn write(&self, sections: &[String]) {
        let text = format!(
            "EVERGREEN_EVENTS_ALLOW_PRIVATE = true\n{}",
            sections.join("\n")
        );
        std::fs::write(self.path(), text).unwrap();
    }

    fn path(&self) -> String {
        self.0.join("evergreen.toml")
    }
}

/// The types of the events of a location, in the order of their first deliveries.
fn kinds(received: &[Received], location: &str) -> Vec<String> {
    let mut seen = Vec::new();
    let mut kinds = Vec::new();
    for one in received.iter().filter(|one| one.location() == location) {
        if !seen.contains(&one.id()) {
            seen.push(one.id());
            kinds.push(one.kind());
        }
    }
    kinds
}

/// Likewise, without `installation.updated`: GHL's INSTALL webhook comes with facts before or after the consent.
fn changes(received: &[Received], location: &str) -> Vec<String> {
    let mut kinds = kinds(received, location);
    kinds.retain(|kind| kind != "installation.updated");
    kinds
}

fn expect_no_repetition(received: &[Received]) {
    for (index, one) in received.iter().enumerate() {
        let again = received[..index].iter().any(|it| it.id() == one.id());
        assert!(!again, "{} arrived twice", one.id());
    }
}

/// Waits until each of these locations has had exactly these events.
async fn until_changes(receiver: &Receiver, locations: &[String], expected: &[&str]) {
    let all = format!("{expected:?} of {} locations", locations.len());
    until(&all, PATIENCE, || async {
        let taken = receiver.taken();
        let differs = locations
            .iter()
            .map(|location| (location, changes(&taken, location)))
            .find(|(_, seen)| seen != expected);
        holds(differs.is_none(), differs)
    })
    .await;
}
