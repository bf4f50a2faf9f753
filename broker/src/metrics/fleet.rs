//! Counts of the whole fleet. One broker exports them: the one that holds the lead in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ::store::{AppName, Timestamp, keys, random};
use metrics::{Unit, describe_gauge, gauge};
use service::shutdown::Shutdown;
use store_writer::WriteError;
use store_writer::writer::{AtRisk, Backlog, FleetCount, State, StateCount};
use tokio::time::{Instant, sleep};

use crate::overview::statistics::Statistics;
use crate::refresh::worker::Worker;

const UNCLAIMED: &str = "evergreen_unclaimed_installations";
const INSTALLATIONS: &str = "evergreen_installations";
const AT_RISK: &str = "evergreen_tokens_at_risk";
const NEAREST_EXPIRY: &str = "evergreen_nearest_expiry_timestamp_seconds";
const COUNTED: &str = "evergreen_fleet_counted_timestamp_seconds";
const DUE: &str = "evergreen_due_installations";
const DUE_OLDEST: &str = "evergreen_due_oldest_timestamp_seconds";

/// How long an installation is due before its app counts as known to nobody.
const UNCLAIMED_AFTER: Duration = Duration::from_secs(120);
const UNCLAIMED_INTERVAL: Duration = Duration::from_secs(15);

/// How often a step of a count of states is made.
const STEP_INTERVAL: Duration = Duration::from_secs(1);
/// The most records that one step reads. A count of a million installations takes less than four minutes then, and a
/// hundredth of a Redis.
const STEP_RECORDS: usize = 5_000;
/// The records that one request reads.
const PAGE: usize = 500;
/// The shortest time from the begin of one count of states to that of the next.
const STATES_INTERVAL: Duration = Duration::from_secs(15);
/// How often the lead is asked for or renewed, and everything but the states is counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);
/// Another broker takes the lead after this long without a renewal.
const LEAD_TTL: Duration = Duration::from_secs(25);
/// The lead of a broker that stops ends at once.
const RELEASED: Duration = Duration::from_millis(1);

pub(super) fn describe() {
    describe_gauge!(
        UNCLAIMED,
        "Installations that are due for more than two minutes, of an app that this broker does not know"
    );
    describe_gauge!(INSTALLATIONS, "Installations, by state");
    describe_gauge!(
        AT_RISK,
        "Access tokens that have expired or soon expire, each counted once"
    );
    describe_gauge!(
        NEAREST_EXPIRY,
        Unit::Seconds,
        "When the first of the access tokens that are refreshed expires"
    );
    describe_gauge!(
        COUNTED,
        Unit::Seconds,
        "When this broker counted all installations last"
    );
    describe_gauge!(DUE, "Installations that are due and not claimed");
    describe_gauge!(
        DUE_OLDEST,
        Unit::Seconds,
        "Since when the first of them is due"
    );
}

/// A time as a metric. Without one the series is not rendered.
pub(super) fn seconds(at: Option<Timestamp>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds far below 2^52")]
    at.map_or(f64::NAN, |at| at.as_millis() as f64 / 1000.0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^52 installations"
)]
fn number(count: u64) -> f64 {
    count as f64
}

/// Reports the installations that are due, and that no broker refreshes, of apps that this broker does not know. `shown`:
/// the apps that were reported before. Those that are gone are reported no more.
async fn count_unclaimed(worker: &Worker, shown: &mut BTreeSet<String>) -> Result<(), WriteError> {
    let known = worker.apps.current();
    let since = worker.reader.now() - UNCLAIMED_AFTER;
    let mut counts: BTreeMap<String, f64> = (known.apps.iter())
        .map(|app| (app.name.to_string(), 0.0))
        .collect();
    let others = worker.writer.apps().await?.into_iter();
    for app in others.filter(|app| known.named(app).is_none()) {
        let due = worker.writer.count_due(&app, since).await?;
        counts.insert(app.to_string(), number(due));
    }
    for (app, count) in with_gone(counts, shown) {
        gauge!(UNCLAIMED, "app" => app).set(count);
    }
    Ok(())
}

/// The counts, and no number for each app that was `shown` before and has none. A series without a number is not
/// rendered.
fn with_gone(
    mut counts: BTreeMap<String, f64>,
    shown: &mut BTreeSet<String>,
) -> BTreeMap<String, f64> {
    let before = std::mem::replace(shown, counts.keys().cloned().collect());
    for app in before {
        counts.entry(app).or_insert(f64::NAN);
    }
    counts
}

/// Reports the installations of apps that this broker does not know, until shutdown.
pub(crate) async fn watch_unclaimed(worker: Arc<Worker>, shutdown: Shutdown) {
    let mut shown = BTreeSet::new();
    loop {
        // Without the store, the last count stays.
        let _ = count_unclaimed(&worker, &mut shown).await;
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(UNCLAIMED_INTERVAL) => {}
        }
    }
}

/// Counts the fleet until shutdown, while this broker has the lead.
pub(crate) async fn count_fleet(
    worker: Arc<Worker>,
    statistics: Arc<Statistics>,
    shutdown: Shutdown,
) {
    let mut counter = Counter {
        worker,
        statistics,
        name: random::hex::<8>(),
        led_at: None,
        states: Pass::default(),
    };
    let mut asked_at: Option<Instant> = None;
    loop {
        if asked_at.is_none_or(|at| at.elapsed() >= COUNT_INTERVAL) {
            asked_at = Some(Instant::now());
            counter.follow_lead().await;
        }
        if counter.led_at.is_some() {
            counter.count_some_states().await;
        }
        tokio::select! {
            biased;
            () = shutdown.started() => return counter.release().await,
            () = sleep(STEP_INTERVAL) => {}
        }
    }
}

/// The count of one broker.
struct Counter {
    worker: Arc<Worker>,
    statistics: Arc<Statistics>,
    /// Names this process in the store.
    name: String,
    /// When it had the lead last. `None` if it has not, or another broker may have taken it.
    led_at: Option<Instant>,
    states: Pass,
}

/// A count of states, as far as it is.
#[derive(Default)]
struct Pass {
    began_at: Option<Instant>,
    /// Since when the next records cannot be read.
    failing_since: Option<Instant>,
    /// `None`: it has ended.
    next: Option<(u8, usize)>,
    count: StateCount,
}

/// The counts that a broker that asked for the lead may export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Export {
    /// Everything.
    All,
    /// Those that it has, since nobody else can know more.
    AsBefore,
    /// Only times. Counts may be outdated, since another broker may count.
    Times,
    Nothing,
}

/// `asked`: whether this broker has the lead. `led`: for how long it has not renewed it; `None`: it has not led.
fn decide<E>(asked: Result<bool, E>, led: Option<Duration>) -> Export {
    match (asked, led) {
        (Ok(true), _) => Export::All,
        (Ok(false), _) | (Err(_), None) => Export::Nothing,
        (Err(_), Some(since)) if since < LEAD_TTL => Export::AsBefore,
        (Err(_), Some(_)) => Export::Times,
    }
}

impl Counter {
    /// Asks for the lead, and counts if this broker has it.
    async fn follow_lead(&mut self) {
        let asked = self.ask().await;
        match decide(asked, self.led_at.map(|at| at.elapsed())) {
            Export::All => {
                self.led_at = Some(Instant::now());
                // Without the store, the last count stays.
                let _ = self.count().await;
            }
            Export::AsBefore => {}
            Export::Times => {
                forget_counts();
                self.states = Pass::default();
            }
            Export::Nothing => {
                if self.led_at.take().is_some() {
                    forget_counts();
                    forget_times();
                    self.states = Pass::default();
                }
            }
        }
    }

    async fn ask(&self) -> Result<bool, WriteError> {
        let (writer, name) = (&self.worker.writer, &self.name);
        if writer.file().is_some() {
            // No other process has the store.
            return Ok(true);
        }
        let has_it = writer
            .replace(keys::FLEET_COUNT, name, name, LEAD_TTL)
            .await?;
        Ok(has_it || writer.put(keys::FLEET_COUNT, name, LEAD_TTL).await?)
    }

    /// Lets another broker count at once.
    async fn release(&self) {
        let (writer, name) = (&self.worker.writer, &self.name);
        if self.led_at.is_some() && writer.file().is_none() {
            let released = writer.replace(keys::FLEET_COUNT, name, name, RELEASED);
            // Otherwise it expires.
            let _ = released.await;
        }
    }

    /// Counts everything but the states. No record is read.
    async fn count(&self) -> Result<(), WriteError> {
        let (writer, now) = (&self.worker.writer, self.worker.reader.now());
        let stats = writer.stats().await?;
        let at_risk = writer.count_at_risk(now).await?;
        let mut backlog = Backlog::default();
        for app in self.apps().await? {
            let of_app = writer.backlog(&app, now).await?;
            backlog.due += of_app.due;
            backlog.oldest = backlog.oldest.into_iter().chain(of_app.oldest).min();
        }
        gauge!(NEAREST_EXPIRY).set(seconds(stats.nearest_expiry));
        show_risk(Some(&at_risk));
        gauge!(DUE).set(number(backlog.due));
        gauge!(DUE_OLDEST).set(seconds(backlog.oldest));
        gauge!(COUNTED).set(seconds(Some(now)));
        Ok(())
    }

    /// The apps of all brokers.
    async fn apps(&self) -> Result<BTreeSet<AppName>, WriteError> {
        let known = self.worker.apps.current();
        let mut apps: BTreeSet<AppName> = self.worker.writer.apps().await?.into_iter().collect();
        apps.extend(known.apps.iter().map(|app| app.name.clone()));
        Ok(apps)
    }

    /// Makes a step of the count of states, and shows them if it was the last one.
    async fn count_some_states(&mut self) {
        if self.states.next.is_none() {
            let is_early = |at: Instant| at.elapsed() < STATES_INTERVAL;
            if self.states.began_at.is_some_and(is_early) {
                return;
            }
            self.states = Pass {
                began_at: Some(Instant::now()),
                failing_since: None,
                next: Some((0, 0)),
                count: StateCount::default(),
            };
        }
        let (writer, now) = (&self.worker.writer, self.worker.reader.now());
        let mut left = STEP_RECORDS;
        while let Some((partition, from)) = self.states.next
            && left > 0
        {
            let count = &mut self.states.count;
            let page = writer.count_states(count, partition, (from, PAGE), now);
            let Ok(read) = page.await else {
                // They are asked for again, since a count of a large fleet would hardly ever end otherwise.
                let since = *self.states.failing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= LEAD_TTL {
                    // The last count says nothing of now, and must not hold back an alert.
                    show_states(None);
                    self.states = Pass::default();
                }
                return;
            };
            self.states.failing_since = None;
            left = left.saturating_sub(read);
            self.states.next = match read < PAGE {
                true => partition.checked_add(1).map(|next| (next, 0)),
                false => Some((partition, from + read)),
            };
        }
        if self.states.next.is_none() {
            show_states(Some(&self.states.count));
            let states = self.states.count;
            self.statistics
                .counted(FleetCount { at: now, states })
                .await;
        }
    }
}

/// Without a count, the series are not rendered.
fn show_states(count: Option<&StateCount>) {
    for state in State::ALL {
        let value = count.map_or(f64::NAN, |count| number(count.of(state)));
        gauge!(INSTALLATIONS, "state" => state.as_str()).set(value);
    }
}

fn show_risk(at_risk: Option<&AtRisk>) {
    let value = |of: fn(&AtRisk) -> u64| at_risk.map_or(f64::NAN, |it| number(of(it)));
    for (state, value) in [
        ("expired", value(|it| it.expired)),
        ("expires_in_1m", value(|it| it.in_a_minute)),
        ("expires_in_5m", value(|it| it.in_five_minutes)),
    ] {
        gauge!(AT_RISK, "state" => state).set(value);
    }
}

fn forget_counts() {
    show_states(None);
    show_risk(None);
    gauge!(DUE).set(f64::NAN);
}

fn forget_times() {
    for name in [NEAREST_EXPIRY, COUNTED, DUE_OLDEST] {
        gauge!(name).set(f64::NAN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_without_the_lead_exports_nothing_and_one_without_the_store_only_times() {
        let seconds = |count| Some(Duration::from_secs(count));
        for (asked, led, export) in [
            (Ok(true), None, Export::All),
            (Ok(true), seconds(60), Export::All),
            (Ok(false), seconds(1), Export::Nothing),
            (Ok(false), None, Export::Nothing),
            (Err(()), None, Export::Nothing),
            (Err(()), seconds(24), Export::AsBefore),
            (Err(()), seconds(25), Export::Times),
        ] {
            assert_eq!(decide(asked, led), export, "{asked:?} {led:?}");
        }
    }

    #[test]
    fn app_that_is_gone_is_shown_without_a_number_once() {
        let mut shown = BTreeSet::new();
        let counts = |apps: &[&str]| apps.iter().map(|app| ((*app).to_owned(), 1.0)).collect();
        assert_eq!(with_gone(counts(&["a", "b"]), &mut shown).len(), 2);
        let found = with_gone(counts(&["a"]), &mut shown);
        assert!(found["b"].is_nan() && !found["a"].is_nan());
        assert_eq!(with_gone(counts(&["a"]), &mut shown).len(), 1);
    }

    #[test]
    fn time_is_in_seconds_and_absent_without_one() {
        let at = seconds(Some(Timestamp::from_millis(1_500)));
        assert!((at - 1.5).abs() < f64::EPSILON);
        assert!(seconds(None).is_nan());
    }
}
