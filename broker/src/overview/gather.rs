//! Collects the facts. Each part has a time limit, and one that fails leaves the others alone.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::try_join_all;
use service::config::is_loopback;
use service::locks::lock;
use store::key_list::{KeyState, RingKind};
use store::{InstallationId, Scope, Timestamp};
use store_writer::WriteError;
use store_writer::check::Severity;
use store_writer::installation::Installation;
use store_writer::sealing::KeysError;
use store_writer::writer::{Backlog, Bucket, FleetCount, State, StateCount};
use tokio::time::{Instant, timeout};

use super::advice::advise;
use super::{
    App, Endpoint, Expiry, Finding, Ghl, History, Installations, LockNode, LockNodes, NotReady,
    Overview, Process, Refreshes, RemovableKey, SERIES, Store, Unclaimed,
};
use crate::Broker;

/// How long a part may take.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// A fleet of up to this many installations is counted at once.
const SMALL_FLEET: u64 = 2_000;
/// The expiries that are shown.
const EXPIRIES: usize = 10;
/// How long an installation is due before its app counts as known to nobody.
const UNCLAIMED_AFTER: Duration = Duration::from_secs(120);

/// The names of the parts that were not learned.
#[derive(Default)]
struct Unknown(Mutex<Vec<&'static str>>);

impl Unknown {
    async fn learn<T>(
        &self,
        name: &'static str,
        part: impl Future<Output = Result<T, WriteError>>,
    ) -> Option<T> {
        if let Ok(Ok(learned)) = timeout(PATIENCE, part).await {
            return Some(learned);
        }
        lock(&self.0).push(name);
        None
    }
}

/// How long an overview is shown to all who ask. Each open page of the console asks every ten seconds.
const SHARED_FOR: Duration = Duration::from_secs(2);

/// The last overview of this broker. One is made at a time.
#[derive(Debug, Default)]
pub(crate) struct Shared(tokio::sync::Mutex<Option<(Instant, Overview)>>);

/// The overview as this broker can make it now, or could within the last two seconds.
pub(crate) async fn overview(broker: &Broker) -> Overview {
    let mut last = broker.0.overview.0.lock().await;
    match &*last {
        Some((at, overview)) if at.elapsed() < SHARED_FOR => overview.clone(),
        Some(_) | None => {
            let made = gathered(broker).await;
            last.insert((Instant::now(), made)).1.clone()
        }
    }
}

async fn gathered(broker: &Broker) -> Overview {
    let inner = &broker.0;
    let unknown = Unknown::default();
    let (
        installations,
        expiries,
        refreshes,
        processes,
        endpoints,
        unclaimed,
        removable_sealing_keys,
        has_caller_key,
        history,
    ) = tokio::join!(
        unknown.learn("installations", installations(broker)),
        unknown.learn("expiries", expiries(broker)),
        unknown.learn("refreshes", refreshes(broker)),
        unknown.learn("processes", processes(broker)),
        unknown.learn("endpoints", endpoints(broker)),
        unknown.learn("unclaimed", unclaimed(broker)),
        unknown.learn("removableSealingKeys", removable_sealing_keys(broker)),
        unknown.learn("hasCallerKey", has_caller_key(broker)),
        unknown.learn("history", history(broker)),
    );
    let findings = inner.statistics.findings().map(|findings| {
        let findings = findings.into_iter().map(|finding| Finding {
            reason: finding.reason.as_str(),
            is_unsafe: finding.severity == Severity::Unsafe,
            text: finding.text,
        });
        findings.collect()
    });
    let mut overview = Overview {
        at: inner.reader.now().to_string(),
        broker: inner.config.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        sandbox: is_loopback(&inner.config.api_url),
        advice: Vec::new(),
        installations,
        expiries,
        refreshes,
        ghl: ghl(broker),
        processes,
        lock_nodes: lock_nodes(broker),
        store: Store {
            kind: match inner.writer.file() {
                Some(_) => "file",
                None => "redis",
            },
            findings,
        },
        not_ready: not_ready(broker),
        endpoints,
        unclaimed,
        removable_sealing_keys,
        has_caller_key,
        history,
        unknown: unknown.0.into_inner().unwrap_or_default(),
    };
    overview.advice = advise(&overview);
    overview
}

async fn installations(broker: &Broker) -> Result<Installations, WriteError> {
    let inner = &broker.0;
    let total = inner.writer.stats().await?.installations;
    let count = match total {
        0..=SMALL_FLEET => Some(count_all(broker).await?),
        _ => inner.statistics.fleet().await?,
    };
    let by_state = count.map(|count| {
        let states = State::ALL.map(|state| (state.as_str(), count.states.of(state)));
        BTreeMap::from(states)
    });
    Ok(Installations {
        total,
        by_state,
        counted_at: count.map(|count| count.at.to_string()),
        age: count.map(|count| inner.reader.now().since(count.at).as_secs()),
    })
}

/// Counts a small fleet by state.
async fn count_all(broker: &Broker) -> Result<FleetCount, WriteError> {
    let (writer, now) = (&broker.0.writer, broker.0.reader.now());
    let most = usize::try_from(SMALL_FLEET).unwrap_or(usize::MAX);
    let partitions = (0..=u8::MAX).map(async |partition| {
        let mut count = StateCount::default();
        writer
            .count_states(&mut count, partition, (0, most), now)
            .await?;
        Ok::<_, WriteError>(count)
    });
    let mut states = StateCount::default();
    for count in try_join_all(partitions).await? {
        states.merge(&count);
    }
    Ok(FleetCount { at: now, states })
}

async fn expiries(broker: &Broker) -> Result<Vec<Expiry>, WriteError> {
    let soonest = broker.0.writer.soonest_expiries(EXPIRIES).await?;
    let all = soonest.into_iter();
    let shown = try_join_all(all.map(|(id, at)| expiry(broker, id, at))).await?;
    Ok(shown.into_iter().flatten().collect())
}

/// `None` if it is gone, or cannot be read.
async fn expiry(
    broker: &Broker,
    id: InstallationId,
    at: Timestamp,
) -> Result<Option<Expiry>, WriteError> {
    let installation = match broker.0.writer.load(&id).await {
        Ok(Some(known)) => known.installation,
        Ok(None) | Err(WriteError::Unreadable { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(Expiry {
        name: name_of(&installation),
        app: installation.access.app.to_string(),
        expires_at: at.to_string(),
        expires_in: at.since(broker.0.reader.now()).as_secs(),
        installation_id: id.to_string(),
    }))
}

/// The name of an installation for people.
fn name_of(installation: &Installation) -> String {
    let details = installation.details.as_ref();
    let fact = |name| details.and_then(|details| details.facts.get(name).cloned());
    let external_id = installation.customer.external_id.as_ref();
    let access = &installation.access;
    // All locations of an agency have the name of its company.
    external_id
        .map(ToString::to_string)
        .or_else(|| access.location.as_ref().map(ToString::to_string))
        .or_else(|| fact("companyName"))
        .or_else(|| access.company.as_ref().map(ToString::to_string))
        .unwrap_or_else(|| installation.id.to_string())
}

async fn refreshes(broker: &Broker) -> Result<Refreshes, WriteError> {
    let (inner, now) = (&broker.0, broker.0.reader.now());
    let at_risk = inner.writer.count_at_risk(now).await?;
    let mut backlog = Backlog::default();
    for app in &inner.worker.apps.current().apps {
        let of_app = inner.writer.backlog(&app.name, now).await?;
        backlog.due += of_app.due;
        backlog.oldest = backlog.oldest.into_iter().chain(of_app.oldest).min();
    }
    Ok(Refreshes {
        due: backlog.due,
        oldest_due: backlog.oldest.map(|at| now.since(at).as_secs()),
        expired: at_risk.expired,
        expiring: at_risk.in_a_minute + at_risk.in_five_minutes,
        in_journal: inner.worker.journal.open_keys().ok().map(|open| open.len()),
    })
}

async fn processes(broker: &Broker) -> Result<Vec<Process>, WriteError> {
    let running = broker.0.statistics.running().await?.into_iter();
    let shown = running.map(|seen| Process {
        kind: seen.kind,
        name: seen.name,
        version: seen.version,
        started_at: seen.started.to_string(),
        seen_at: seen.at.to_string(),
    });
    Ok(shown.collect())
}

async fn endpoints(broker: &Broker) -> Result<Vec<Endpoint>, WriteError> {
    let mut shown = Vec::new();
    for (endpoint, pause) in broker.0.deliveries.endpoints() {
        let id = endpoint.id.to_string();
        let count = broker.0.writer.count_deliveries(&id).await?;
        shown.push(Endpoint {
            id,
            waiting: count.queues,
            failing: count.failing,
            dead_letters: count.dead_letters,
            down: pause.is_some(),
        });
    }
    Ok(shown)
}

async fn unclaimed(broker: &Broker) -> Result<Vec<Unclaimed>, WriteError> {
    let inner = &broker.0;
    let (known, since) = (
        inner.worker.apps.current(),
        inner.reader.now() - UNCLAIMED_AFTER,
    );
    let mut shown = Vec::new();
    for app in inner.writer.apps().await? {
        if known.named(&app).is_some() {
            continue;
        }
        let due = inner.writer.count_due(&app, since).await?;
        if due > 0 {
            let app = app.to_string();
            shown.push(Unclaimed { app, due });
        }
    }
    Ok(shown)
}

async fn removable_sealing_keys(broker: &Broker) -> Result<Vec<RemovableKey>, WriteError> {
    let writer = &broker.0.writer;
    let mut shown = Vec::new();
    for kind in RingKind::ALL {
        let list = match writer.key_list(kind).await {
            Ok(list) => list,
            Err(KeysError::Store(error)) => return Err(error),
            // The readiness of this broker says it.
            Err(KeysError::Wrong(_) | KeysError::List(_)) => continue,
        };
        // The first key seals, and another broker may not have it yet.
        let others = writer.rings().of(kind).check_values().skip(1);
        for (id, _) in others {
            let listed = list.keys.get(id);
            if listed.is_some_and(|listed| listed.state == KeyState::Free) {
                let (setting, id) = (kind.setting(), id.to_owned());
                shown.push(RemovableKey { setting, id });
            }
        }
    }
    Ok(shown)
}

async fn has_caller_key(broker: &Broker) -> Result<bool, WriteError> {
    let now = broker.0.reader.now();
    let callers = broker.0.writer.callers().await?;
    let calls = [Scope::Proxy, Scope::Tokens, Scope::Connect];
    let mut live = callers.iter().filter(|(_, caller)| caller.is_live(now));
    Ok(live.any(|(_, caller)| calls.iter().any(|scope| caller.scopes.contains(scope))))
}

async fn history(broker: &Broker) -> Result<History, WriteError> {
    let (last, day) = broker.0.statistics.day().await?;
    let of = |name: &'static str| {
        let series = day
            .iter()
            .map(|counts| counts.get(name).copied().unwrap_or_default());
        (name, series.collect::<Vec<u64>>())
    };
    let series = BTreeMap::from(SERIES.map(of));
    let sum = |(name, series): (&&'static str, &Vec<u64>)| (*name, series.iter().sum());
    Ok(History {
        from: last.first_of(Bucket::DAY).begin().to_string(),
        bucket_seconds: Bucket::LENGTH.as_secs(),
        totals: series.iter().map(sum).collect(),
        series,
        last,
    })
}

fn ghl(broker: &Broker) -> Ghl {
    let worker = &broker.0.worker;
    let current = worker.apps.current();
    let apps = current.apps.iter().map(|app| App {
        name: app.name.to_string(),
        credentials_rejected: app.breaker.are_credentials_refused(),
        pause: app.breaker.pause_reason().map(|reason| reason.as_str()),
        redirect_uri: app.consent.redirect_uri.to_string(),
    });
    Ghl {
        outage: worker.outage.is_contained(),
        refuses_all: worker.outage.is_refusing_all(),
        apps: apps.collect(),
    }
}

fn lock_nodes(broker: &Broker) -> Option<LockNodes> {
    let nodes = broker.0.lock_nodes.as_ref()?;
    let shown = nodes
        .health()
        .into_iter()
        .map(|(address, health)| LockNode {
            address,
            state: health.as_str(),
            usable: health.is_usable(),
        });
    Some(LockNodes {
        nodes: shown.collect(),
        needed: nodes.majority(),
    })
}

fn not_ready(broker: &Broker) -> Vec<NotReady> {
    let reasons = broker.0.readiness.reasons().into_iter();
    let shown = reasons.map(|reason| NotReady {
        reason: reason.name,
        message: reason.message,
        seconds: reason.lasts.as_secs(),
    });
    shown.collect()
}
