//! Whether this broker can refresh tokens: the store, the lock nodes, and the progress of the schedule. Other gates have
//! owners of their own: [`files`](super::files), [`store_check`](super::store_check), the sealing keys
//! ([`crate::sealing::registration`]) and the apps (the scheduler).

use std::sync::Arc;
use std::time::Duration;

use service::readiness::{Gate, Readiness};
use store::AppName;
use store_writer::LockNodes;
use store_writer::lock_nodes::Health;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::refresh::scheduler::Schedulers;
use crate::refresh::store_watch::LastPoll;

/// How long the store, or the lock nodes, may be away. A restart of a server or a failed command is no reason to move all
/// traffic. There is no such patience in the other direction: the first answer shows that requests work again.
const AWAY_AFTER: Duration = Duration::from_secs(3);
/// How long a schedule may stand still. A round takes at most a second, or as long as a slow answer of GHL holds up the
/// window, which is below 20 s.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// How often the facts are looked at, while the broker is ready and while it is not.
const INTERVAL: Duration = Duration::from_secs(1);
const UNREADY_INTERVAL: Duration = Duration::from_millis(200);

/// The facts that readiness depends on.
#[derive(Debug)]
struct Facts {
    store: LastPoll,
    /// Whether the store is a file of this process.
    is_file: bool,
    /// `None` if leases are local.
    locks: Option<Locks>,
    /// For how long the schedule of each app has stood still.
    schedules: Vec<(AppName, Duration)>,
}

/// The state of the lock nodes.
#[derive(Debug)]
struct Locks {
    nodes: Vec<(String, Health)>,
    needed: usize,
    /// Since there was a majority. `None` if there never was.
    majority_ago: Option<Duration>,
}

/// Why the broker is not ready, by gate.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reasons {
    store: Option<String>,
    locks: Option<String>,
    schedule: Option<String>,
}

fn decide(facts: &Facts) -> Reasons {
    let store = without_store(&facts.store, facts.is_file);
    Reasons {
        locks: facts.locks.as_ref().and_then(without_majority),
        // While the store is away, that is the reason, and this only follows from it.
        schedule: match store {
            Some(_) => None,
            None => stalled(&facts.schedules),
        },
        store,
    }
}

fn without_store(last: &LastPoll, is_file: bool) -> Option<String> {
    let found = match last.answered_ago {
        Some(ago) if ago < AWAY_AFTER => return None,
        Some(ago) => format!("the store has taken no write for {} s", ago.as_secs()),
        None => "the store has not answered yet".to_owned(),
    };
    let cause = last.error.as_deref().unwrap_or("no answer yet");
    let advice = match is_file {
        true => "look at the disk of the data directory",
        false => "check that Redis runs, and that this host reaches EVERGREEN_REDIS_URL",
    };
    Some(format!(
        "{found} ({cause}), so no token is refreshed: {advice}"
    ))
}

fn without_majority(locks: &Locks) -> Option<String> {
    if locks.majority_ago.is_some_and(|ago| ago < AWAY_AFTER) {
        return None;
    }
    let usable = locks.nodes.iter().filter(|(_, node)| node.is_usable());
    let bad = locks.nodes.iter().filter(|(_, node)| !node.is_usable());
    let bad: Vec<String> = bad
        .map(|(address, node)| match node {
            Health::Away(why) | Health::Refuses(why) => format!("{address}: {why}"),
            Health::Up | Health::Forgot { .. } => format!("{address}: {}", node.as_str()),
        })
        .collect();
    Some(format!(
        "{} of {} lock nodes can be used and {} are needed, so no token is refreshed: start them, or correct \
         EVERGREEN_LOCK_URLS ({})",
        usable.count(),
        locks.nodes.len(),
        locks.needed,
        bad.join("; ")
    ))
}

fn stalled(schedules: &[(AppName, Duration)]) -> Option<String> {
    let stalled = schedules.iter().filter(|(_, still)| *still > STALLED_AFTER);
    let stalled: Vec<String> = stalled
        .map(|(app, still)| format!("{app} for {} s", still.as_secs()))
        .collect();
    (!stalled.is_empty()).then(|| {
        format!(
            "the schedule stands still, so no token is refreshed: look at the log for the reason, and restart this \
             broker if there is none (app {})",
            stalled.join(", ")
        )
    })
}

/// The gates that follow from the facts.
#[derive(Debug)]
pub(crate) struct Gates {
    store: Gate,
    locks: Option<Gate>,
    schedule: Gate,
}

impl Gates {
    pub(crate) fn new(readiness: &Readiness, lock_nodes: Option<&LockNodes>) -> Self {
        Self {
            store: readiness.gate("store", "the store has not been asked yet"),
            locks: lock_nodes
                .map(|_| readiness.gate("locks", "the lock nodes have not been asked yet")),
            schedule: readiness.gate("schedule", "the schedule has not been looked at yet"),
        }
    }

    fn set(&self, reasons: Reasons) {
        self.store.set(reasons.store);
        self.schedule.set(reasons.schedule);
        if let Some(locks) = &self.locks {
            locks.set(reasons.locks);
        }
    }
}

/// Runs until shutdown.
pub(crate) async fn run(schedulers: Arc<Schedulers>, lock_nodes: Option<LockNodes>, gates: Gates) {
    let mut majority_at: Option<Instant> = None;
    let mut known = Reasons::default();
    loop {
        let locks = lock_nodes.as_ref().map(|lock_nodes| {
            let (nodes, needed) = (lock_nodes.health(), lock_nodes.majority());
            let usable = nodes.iter().filter(|(_, node)| node.is_usable()).count();
            if usable >= needed {
                majority_at = Some(Instant::now());
            }
            Locks {
                nodes,
                needed,
                majority_ago: majority_at.map(|at| at.elapsed()),
            }
        });
        let reasons = decide(&Facts {
            store: schedulers.worker.watch.last_poll(),
            is_file: schedulers.writer.file().is_some(),
            locks,
            schedules: schedulers.progress.standstills(),
        });
        if majority_at.is_some() {
            log_change("locks", known.locks.as_ref(), reasons.locks.as_ref());
        }
        log_change(
            "schedule",
            known.schedule.as_ref(),
            reasons.schedule.as_ref(),
        );
        let wait = match reasons == Reasons::default() {
            true => INTERVAL,
            false => UNREADY_INTERVAL,
        };
        known = Reasons {
            store: None,
            locks: reasons.locks.clone(),
            schedule: reasons.schedule.clone(),
        };
        gates.set(reasons);
        tokio::select! {
            biased;
            () = schedulers.shutdown.started() => return,
            () = sleep(wait) => {}
        }
    }
}

/// The scheduler logs that the store is away, these have no other line.
fn log_change(name: &str, known: Option<&String>, found: Option<&String>) {
    match (known, found) {
        (None, Some(reason)) => warn!(name, %reason, "this broker is not ready"),
        (Some(_), None) => info!(name, "this reason not to be ready is over"),
        (None, None) | (Some(_), Some(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            store: LastPoll {
                answered_ago: Some(Duration::from_secs(1)),
                error: None,
            },
            is_file: false,
            locks: Some(locks(2, Some(Duration::ZERO))),
            schedules: vec![(AppName::default(), Duration::from_secs(20))],
        }
    }

    /// Three nodes, of which so many are up.
    fn locks(up: usize, majority_ago: Option<Duration>) -> Locks {
        let node = |number| {
            let health = match number < up {
                true => Health::Up,
                false => Health::Away("connection refused".to_owned()),
            };
            (format!("lock-{number}"), health)
        };
        Locks {
            nodes: (0..3).map(node).collect(),
            needed: 2,
            majority_ago,
        }
    }

    #[test]
    fn broker_is_ready_with_store_locks_and_a_schedule_that_advances() {
        assert_eq!(decide(&facts()), Reasons::default());
        let alone = Facts {
            locks: None,
            schedules: Vec::new(),
            ..facts()
        };
        assert_eq!(decide(&alone), Reasons::default());
    }

    #[test]
    fn silent_store_is_a_reason_after_3_s_and_at_the_start() {
        let silent = |answered_ago| {
            let error = Some("no answer within 2 s".to_owned());
            let store = LastPoll {
                answered_ago,
                error,
            };
            decide(&Facts { store, ..facts() })
        };
        let short = silent(Some(Duration::from_millis(2_900)));
        assert_eq!(short, Reasons::default());
        let away = silent(Some(Duration::from_secs(7)));
        let text = away.store.unwrap();
        assert!(text.contains("no write for 7 s"), "{text}");
        assert!(text.contains("no answer within 2 s"), "{text}");
        assert_eq!((away.locks, away.schedule), (None, None));
        assert!(silent(None).store.unwrap().contains("not answered yet"));
    }

    #[test]
    fn lost_majority_of_the_lock_nodes_is_a_reason_that_names_the_nodes() {
        let with = |locks| {
            let locks = Some(locks);
            decide(&Facts { locks, ..facts() }).locks
        };
        assert_eq!(with(locks(1, Some(Duration::from_secs(2)))), None);
        let lost = with(locks(1, Some(Duration::from_secs(3)))).unwrap();
        assert!(lost.starts_with("1 of 3 lock nodes"), "{lost}");
        assert!(
            lost.contains("lock-1: connection refused; lock-2"),
            "{lost}"
        );
        assert!(with(locks(0, None)).is_some());
    }

    #[test]
    fn stalled_schedule_is_a_reason_unless_the_store_is_away() {
        let schedules = vec![(AppName::default(), Duration::from_secs(31))];
        let stalled = Facts {
            schedules,
            ..facts()
        };
        let reasons = decide(&stalled);
        let text = reasons.schedule.unwrap();
        assert!(text.contains("default for 31 s"), "{text}");
        assert_eq!(reasons.store, None);
        let store = LastPoll {
            answered_ago: Some(Duration::from_secs(31)),
            error: None,
        };
        let away = decide(&Facts { store, ..stalled });
        assert!(away.store.is_some() && away.schedule.is_none());
    }
}
