use std::collections::HashMap;
use std::time::Duration;

use store::Timestamp;
use store::clock::Moment;

use super::*;

const INFO: &str = "# Memory\r\nmaxmemory:1000\r\nmaxmemory_policy:noeviction\r\n\
    # Persistence\r\naof_enabled:1\r\n# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
    slave0:ip=10.0.0.1,port=6379,state=online,offset=1,lag=0\r\n\
    slave1:ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
    slave_read_only:1\r\n";

fn config(settings: &[(&str, &str)]) -> Config {
    let all = settings.iter();
    let all: HashMap<_, _> = all
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Config::of(&all)
}

fn safe() -> Facts {
    let now = Timestamp::from_millis(1_700_000_000_000);
    Facts {
        server: "store:6379".to_owned(),
        info: Some(Info::parse(INFO)),
        config: Some(config(&[("appendfsync", "always"), ("save", "")])),
        clock: ClockReading {
            server_time: now,
            local_time: now,
            at: Moment::now(),
        },
        replicas_wanted: 1,
    }
}

/// The only finding: its reason, its severity, and the line of redis.conf that it names.
fn only(facts: Facts) -> (Reason, Severity, String) {
    let findings = evaluate(&[facts]);
    let [finding] = findings.as_slice() else {
        panic!("one finding, not {findings:?}");
    };
    assert!(finding.text.starts_with("store:6379 "), "{finding}");
    let line = finding.text.split('`').nth(1).unwrap_or_default();
    (finding.reason, finding.severity, line.to_owned())
}

fn with_info(change: impl FnOnce(&mut Info)) -> Facts {
    let mut facts = safe();
    change(facts.info.as_mut().unwrap());
    facts
}

#[test]
fn durable_store_has_no_findings() {
    let info = Info {
        maxmemory: Some(1000),
        policy: Some("noeviction".to_owned()),
        aof: Some(true),
        replicas: Some(1),
    };
    assert_eq!(Info::parse(INFO), info);
    assert_eq!(evaluate(&[safe()]), []);
}

#[test]
fn evicting_store_is_unsafe_and_one_without_limit_is_degraded() {
    let evicting = |policy: &str, maxmemory| {
        with_info(|info| {
            info.policy = Some(policy.to_owned());
            info.maxmemory = maxmemory;
        })
    };
    let line = "maxmemory-policy noeviction".to_owned();
    for policy in [
        "allkeys-lru",
        "allkeys-random",
        "volatile-ttl",
        "volatile-lfu",
    ] {
        for maxmemory in [Some(1), None] {
            let found = only(evicting(policy, maxmemory));
            assert_eq!(found, (Reason::Eviction, Severity::Unsafe, line.clone()));
        }
        let found = only(evicting(policy, Some(0)));
        assert_eq!(found, (Reason::Eviction, Severity::Degraded, line.clone()));
    }
}

#[test]
fn store_without_persistence_is_unsafe() {
    let volatile = |config| Facts {
        config,
        ..with_info(|info| info.aof = Some(false))
    };
    let line = "appendonly yes".to_owned();
    for (config, severity) in [
        (Some(config(&[("save", "")])), Severity::Unsafe),
        (Some(config(&[("save", "3600 1")])), Severity::Degraded),
        (None, Severity::Degraded),
    ] {
        let found = only(volatile(config));
        assert_eq!(found, (Reason::Persistence, severity, line.clone()));
    }
}

#[test]
fn log_that_is_not_synced_at_once_is_degraded() {
    for (settings, line) in [
        (vec![("appendfsync", "everysec")], "appendfsync always"),
        (vec![("appendfsync", "no")], "appendfsync always"),
        (
            vec![
                ("appendfsync", "always"),
                ("no-appendfsync-on-rewrite", "yes"),
            ],
            "no-appendfsync-on-rewrite no",
        ),
    ] {
        let facts = Facts {
            config: Some(config(&settings)),
            ..safe()
        };
        let degraded = (Reason::Persistence, Severity::Degraded, line.to_owned());
        assert_eq!(only(facts), degraded);
    }
    let silent = Facts {
        config: None,
        ..safe()
    };
    assert_eq!(only(silent).1, Severity::Degraded);
}

#[test]
fn missing_replicas_and_unknown_settings_are_degraded() {
    let facts = Facts {
        replicas_wanted: 2,
        ..safe()
    };
    let (reason, severity, _) = only(facts);
    assert_eq!((reason, severity), (Reason::Replicas, Severity::Degraded));
    let unknown = Facts {
        info: None,
        config: None,
        ..safe()
    };
    assert_eq!(only(unknown).1, Severity::Degraded);
}

#[test]
fn clock_step_back_is_reported_and_slewing_is_not() {
    let mut clocks = ClockHistory::default();
    let first = safe();
    let after = |millis: i64, elapsed: u64| Facts {
        clock: ClockReading {
            server_time: Timestamp::from_millis(first.clock.server_time.as_millis() + millis),
            local_time: Timestamp::from_millis(first.clock.local_time.as_millis() + millis),
            at: first.clock.at + Duration::from_millis(elapsed),
        },
        ..first.clone()
    };
    let note = |clocks: &mut ClockHistory, facts| clocks.compare(&[facts]).len();
    assert_eq!(note(&mut clocks, first.clone()), 0);
    assert_eq!(note(&mut clocks, after(59_000, 60_000)), 0, "slewed");
    assert_eq!(
        note(&mut clocks, after(60_000, 120_000)),
        1,
        "a minute back"
    );
    assert_eq!(note(&mut clocks, after(120_000, 180_000)), 0, "told once");
}

#[test]
fn clocks_minutes_apart_are_degraded() {
    let mut facts = safe();
    facts.clock.local_time = facts.clock.server_time + Duration::from_secs(301);
    let findings = ClockHistory::default().compare(&[facts]);
    assert_eq!(findings[0].reason, Reason::Clock);
    assert_eq!(findings[0].severity, Severity::Degraded);
}
