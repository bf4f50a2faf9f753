//! The table of facts and advice.

use std::collections::BTreeMap;
use std::path::Path;

use store::Timestamp;
use store_writer::writer::Bucket;

use super::customers::LATE_SECONDS;
use super::*;
use crate::overview::presence::Kind;
use crate::overview::{
    App, Endpoint, Finding, Ghl, History, Installations, LockNode, LockNodes, NotReady, Process,
    Refreshes, RemovableKey, SERIES, Store, Unclaimed,
};

/// A deployment over Redis in which all is well.
fn well() -> Overview {
    let states = ["valid", "suspect", "invalid", "unreadable"];
    let mut overview = Overview {
        at: String::new(),
        broker: "b".to_owned(),
        version: "1",
        sandbox: false,
        advice: Vec::new(),
        installations: Some(Installations {
            total: 5,
            by_state: Some(states.map(|state| (state, 0)).into()),
            counted_at: None,
            age: Some(1),
        }),
        expiries: Some(Vec::new()),
        refreshes: Some(Refreshes {
            due: 3,
            oldest_due: Some(LATE_SECONDS),
            expired: 0,
            expiring: 0,
            in_journal: Some(0),
        }),
        ghl: Ghl {
            outage: false,
            refuses_all: false,
            apps: vec![App {
                name: "default".to_owned(),
                credentials_rejected: false,
                pause: None,
                redirect_uri: "https://us.example/oauth/callback".to_owned(),
            }],
        },
        processes: Some(vec![
            process(Kind::Broker, "1"),
            process(Kind::Gateway, "1"),
        ]),
        lock_nodes: Some(lock_nodes(3)),
        store: Store {
            kind: "redis",
            findings: Some(Vec::new()),
        },
        not_ready: Vec::new(),
        endpoints: Some(vec![endpoint()]),
        unclaimed: Some(Vec::new()),
        removable_sealing_keys: Some(Vec::new()),
        has_caller_key: Some(true),
        history: Some(history(&[("forwarded", 1000), ("webhooks", 1)])),
        unknown: Vec::new(),
    };
    state(&mut overview, "valid", 5);
    overview
}

fn process(kind: Kind, version: &str) -> Process {
    Process {
        kind,
        name: "p".to_owned(),
        version: version.to_owned(),
        started_at: String::new(),
        seen_at: String::new(),
    }
}

/// Three nodes, of which so many can be used.
fn lock_nodes(usable: usize) -> LockNodes {
    let node = |number| LockNode {
        address: format!("lock-{number}"),
        state: if number < usable { "up" } else { "away" },
        usable: number < usable,
    };
    LockNodes {
        nodes: (0..3).map(node).collect(),
        needed: 2,
    }
}

fn endpoint() -> Endpoint {
    Endpoint {
        id: "crm".to_owned(),
        waiting: 2,
        failing: 0,
        dead_letters: 0,
        down: false,
    }
}

/// With these counts in the last bucket.
fn history(counts: &[(&'static str, u64)]) -> History {
    let of = |name| {
        let found = counts.iter().find(|(other, _)| *other == name);
        let mut series = vec![0; 288];
        series[287] = found.map_or(0, |(_, count)| *count);
        (name, series)
    };
    let series = BTreeMap::from(SERIES.map(of));
    History {
        from: String::new(),
        bucket_seconds: 300,
        totals: series
            .iter()
            .map(|(name, all)| (*name, all.iter().sum()))
            .collect(),
        series,
        last: Bucket::of(Timestamp::from_millis(0)),
    }
}

fn state(overview: &mut Overview, state: &'static str, count: u64) {
    let installations = overview.installations.as_mut().unwrap();
    let states = installations.by_state.as_mut().unwrap();
    states.insert(state, count);
}

fn finding(reason: &'static str, is_unsafe: bool) -> Option<Vec<Finding>> {
    let text = "redis:6379".to_owned();
    Some(vec![Finding {
        reason,
        is_unsafe,
        text,
    }])
}

#[test]
fn nothing_is_advised_while_all_is_well() {
    assert_eq!(advise(&well()), []);
    let mut sandbox = well();
    sandbox.sandbox = true;
    sandbox.has_caller_key = Some(false);
    sandbox.history = Some(history(&[]));
    sandbox.ghl.apps[0].redirect_uri = "http://127.0.0.1/oauth/callback".to_owned();
    assert_eq!(advise(&sandbox), [], "the sandbox needs none of these");
}

/// A change of the facts, and the advice that follows.
type Case = (fn(&mut Overview), Severity, &'static str);

#[test]
fn each_problem_has_its_advice() {
    let cases: [Case; 29] = [
        (
            |it| {
                it.not_ready = vec![NotReady {
                    reason: "store",
                    message: "the store is away".to_owned(),
                    seconds: 9,
                }];
            },
            Severity::Critical,
            "not_ready",
        ),
        (
            |it| it.processes = Some(vec![process(Kind::Broker, "1")]),
            Severity::Warning,
            "no_gateway",
        ),
        (
            |it| it.processes.as_mut().unwrap()[1].version = "2".to_owned(),
            Severity::Note,
            "versions",
        ),
        (
            |it| {
                it.endpoints = None;
                it.unknown = vec!["endpoints"];
            },
            Severity::Warning,
            "unknown",
        ),
        (
            |it| {
                it.ghl.apps[0].credentials_rejected = true;
                it.ghl.apps[0].pause = Some("GHL refuses the client id and secret");
            },
            Severity::Critical,
            "credentials_rejected",
        ),
        (
            |it| it.ghl.apps[0].pause = Some("GHL is overloaded (429)"),
            Severity::Warning,
            "refreshes_pause",
        ),
        (
            |it| it.ghl.refuses_all = true,
            Severity::Critical,
            "refused_for_all",
        ),
        (|it| it.ghl.outage = true, Severity::Critical, "outage"),
        (
            |it| it.store.findings = finding("eviction", true),
            Severity::Critical,
            "store_unsafe",
        ),
        (
            |it| it.store.findings = finding("persistence", false),
            Severity::Warning,
            "store_degraded",
        ),
        (
            |it| it.store.findings = finding("clock", false),
            Severity::Warning,
            "clock",
        ),
        (
            |it| it.lock_nodes = Some(lock_nodes(1)),
            Severity::Critical,
            "lock_nodes_lost",
        ),
        (
            |it| it.lock_nodes = Some(lock_nodes(2)),
            Severity::Warning,
            "lock_nodes_away",
        ),
        (
            |it| state(it, "unreadable", 1),
            Severity::Critical,
            "unreadable",
        ),
        (
            |it| state(it, "invalid", 2),
            Severity::Critical,
            "needs_consent",
        ),
        (|it| state(it, "suspect", 2), Severity::Warning, "suspect"),
        (
            |it| {
                let app = "old".to_owned();
                it.unclaimed = Some(vec![Unclaimed { app, due: 1 }]);
            },
            Severity::Critical,
            "unclaimed",
        ),
        (
            |it| it.refreshes.as_mut().unwrap().expired = 1,
            Severity::Critical,
            "expired",
        ),
        (
            |it| it.refreshes.as_mut().unwrap().oldest_due = Some(LATE_SECONDS + 1),
            Severity::Warning,
            "backlog",
        ),
        (
            |it| {
                it.history = Some(history(&[
                    ("forwarded", 990),
                    ("call_failed", 10),
                    ("webhooks", 1),
                ]));
            },
            Severity::Critical,
            "own_errors",
        ),
        (
            |it| {
                it.history = Some(history(&[
                    ("forwarded", 1000),
                    ("ghl_5xx", 100),
                    ("webhooks", 1),
                ]));
            },
            Severity::Warning,
            "ghl_5xx",
        ),
        (
            |it| {
                it.history = Some(history(&[
                    ("forwarded", 1000),
                    ("ghl_429", 50),
                    ("webhooks", 1),
                ]));
            },
            Severity::Warning,
            "rate_limited",
        ),
        (
            |it| it.ghl.apps[0].redirect_uri = "http://us.example/".to_owned(),
            Severity::Warning,
            "redirect_uri",
        ),
        (
            |it| it.has_caller_key = Some(false),
            Severity::Warning,
            "no_caller_key",
        ),
        (
            |it| it.history = Some(history(&[("forwarded", 1)])),
            Severity::Note,
            "no_webhooks",
        ),
        (
            |it| it.endpoints.as_mut().unwrap()[0].down = true,
            Severity::Warning,
            "endpoint_down",
        ),
        (
            |it| it.endpoints.as_mut().unwrap()[0].failing = 1,
            Severity::Warning,
            "endpoint_down",
        ),
        (
            |it| it.endpoints.as_mut().unwrap()[0].dead_letters = 1,
            Severity::Warning,
            "dead_letters",
        ),
        (
            |it| {
                let (setting, id) = ("EVERGREEN_ACCESS_KEYS", "k1".to_owned());
                it.removable_sealing_keys = Some(vec![RemovableKey { setting, id }]);
            },
            Severity::Note,
            "removable_key",
        ),
    ];
    for (change, severity, kind) in cases {
        let mut facts = well();
        change(&mut facts);
        let advice = advise(&facts);
        let kinds: Vec<_> = advice.iter().map(|it| (it.severity, it.kind)).collect();
        assert_eq!(kinds, [(severity, kind)]);
        let page = advice[0].page.split('#').next().unwrap();
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
        assert!(page.exists(), "{}", page.display());
    }
}

#[test]
fn share_of_calls_below_its_limit_is_no_problem() {
    for counts in [
        // A few calls say nothing.
        &[("forwarded", 0), ("call_failed", 19)][..],
        &[("forwarded", 992), ("call_failed", 9)],
        &[("forwarded", 1000), ("ghl_5xx", 99), ("ghl_429", 49)],
    ] {
        let mut facts = well();
        let mut history = history(counts);
        history.totals.insert("webhooks", 1);
        facts.history = Some(history);
        assert_eq!(advise(&facts), [], "{counts:?}");
    }
}

#[test]
fn worst_advice_comes_first_and_unknown_facts_give_none() {
    let mut facts = well();
    facts.has_caller_key = Some(false);
    facts.store.findings = finding("eviction", true);
    state(&mut facts, "suspect", 1);
    state(&mut facts, "invalid", 1);
    let kinds: Vec<_> = advise(&facts).iter().map(|it| it.kind).collect();
    let expected = ["store_unsafe", "needs_consent", "suspect", "no_caller_key"];
    assert_eq!(kinds, expected);
    let mut ignorant = well();
    ignorant.installations = None;
    ignorant.refreshes = None;
    ignorant.processes = None;
    ignorant.endpoints = None;
    ignorant.unclaimed = None;
    ignorant.removable_sealing_keys = None;
    ignorant.has_caller_key = None;
    ignorant.history = None;
    ignorant.store.findings = None;
    assert_eq!(advise(&ignorant), []);
}
