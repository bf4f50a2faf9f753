//! Keeps the numbers of the overview: adds counts to the store, and notes the processes that run.
//!
//! A process that is killed loses the counts of the last seconds. A write of which no answer comes may be done twice.

use std::sync::Mutex;
use std::time::Duration;

use service::locks::lock;
use service::shutdown::Shutdown;
use store::audit::GatewayReport;
use store::{Timestamp, TokenReader};
use store_writer::check::Finding;
use store_writer::writer::{Bucket, FleetCount, NamedCounts};
use store_writer::{StoreWriter, WriteError};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::counts::Pending;
use super::presence::{self, Gateways, Kind, Seen};

/// How often counts are added to the store.
const INTERVAL: Duration = Duration::from_secs(15);
/// A new broker is seen soon.
const FIRST: Duration = Duration::from_secs(1);
/// How long the last counts may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The numbers of a broker.
#[derive(Debug)]
pub(crate) struct Statistics {
    writer: StoreWriter,
    reader: TokenReader,
    name: String,
    started: Timestamp,
    /// Locked while they are written, so that no reader sees a count twice.
    pending: tokio::sync::Mutex<Pending>,
    /// The counts that gateways have reported. They are taken into `pending`.
    reported: Mutex<NamedCounts>,
    gateways: Mutex<Gateways>,
    /// The last check of the store.
    findings: Mutex<Option<Vec<Finding>>>,
    /// The last count of this broker.
    fleet: Mutex<Option<FleetCount>>,
}

impl Statistics {
    pub(crate) fn new(name: &str, writer: StoreWriter, reader: TokenReader) -> Self {
        Self {
            name: name.to_owned(),
            started: reader.now(),
            writer,
            reader,
            pending: tokio::sync::Mutex::default(),
            reported: Mutex::default(),
            gateways: Mutex::default(),
            findings: Mutex::default(),
            fleet: Mutex::default(),
        }
    }

    /// Takes a report of a gateway. Counts of a report that was taken before are ignored.
    pub(crate) fn take(&self, report: GatewayReport) {
        let report = report.bounded();
        if lock(&self.gateways).note(&report, self.reader.now()) {
            let mut reported = lock(&self.reported);
            for (name, number) in report.calls.named() {
                let count = reported.entry(name.to_owned()).or_default();
                *count = count.saturating_add(number);
            }
        }
    }

    /// Notes the result of a check of the store.
    pub(crate) fn checked(&self, findings: &[Finding]) {
        *lock(&self.findings) = Some(findings.to_vec());
    }

    /// The result of the last check of the store. `None` if there was none.
    pub(crate) fn findings(&self) -> Option<Vec<Finding>> {
        lock(&self.findings).clone()
    }

    /// Notes a count of all installations, and shows it to other brokers.
    pub(crate) async fn counted(&self, count: FleetCount) {
        *lock(&self.fleet) = Some(count);
        if self.writer.file().is_none() {
            // Otherwise the next count is shown.
            let _ = self.writer.share_fleet_count(&count).await;
        }
    }

    /// The last count of all installations, of any broker. `None` if there is none.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub(crate) async fn fleet(&self) -> Result<Option<FleetCount>, WriteError> {
        let own = *lock(&self.fleet);
        let shared = match self.writer.file() {
            Some(_) => None,
            None => self.writer.fleet_count().await?,
        };
        Ok(own.into_iter().chain(shared).max_by_key(|count| count.at))
    }

    /// The counts of the last day, and the last bucket of it.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub(crate) async fn day(&self) -> Result<(Bucket, Vec<NamedCounts>), WriteError> {
        let mut pending = self.pending.lock().await;
        let now = self.collect(&mut pending);
        let mut day = self.writer.counts(now).await?;
        pending.add_to(&mut day, now.first_of(Bucket::DAY));
        Ok((now, day))
    }

    /// The processes that run, as far as brokers know.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub(crate) async fn running(&self) -> Result<Vec<Seen>, WriteError> {
        let now = self.reader.now();
        let mut stored = match self.writer.file() {
            Some(_) => Vec::new(),
            None => self.writer.seen().await?,
        };
        // This broker knows more about these than the store.
        for (field, json) in self.known(now).iter().map(Seen::entry) {
            stored.retain(|(other, _)| *other != field);
            stored.push((field, json));
        }
        Ok(presence::sort(&stored, now).0)
    }

    /// Keeps the numbers until the shutdown starts.
    pub(crate) async fn run(&self, shutdown: Shutdown) {
        let (mut pause, mut is_failing) = (FIRST, false);
        loop {
            tokio::select! {
                biased;
                () = shutdown.started() => return,
                () = sleep(pause) => {}
            }
            pause = INTERVAL;
            let kept = self.keep().await;
            match &kept {
                Err(error) if !is_failing => {
                    let error = error as &dyn std::error::Error;
                    warn!(
                        error,
                        "the store takes no counts for the overview, trying again: if it refuses them, give its user the \
                         keys and commands of deploy/users.acl"
                    );
                }
                Ok(()) if is_failing => info!("the store takes counts for the overview again"),
                Ok(()) | Err(_) => {}
            }
            is_failing = kept.is_err();
        }
    }

    /// Writes the last counts, and takes leave. After the last request.
    pub(crate) async fn finish(&self) {
        if !matches!(timeout(PATIENCE, self.leave()).await, Ok(Ok(()))) {
            warn!(
                "the counts of the last seconds are missing in the overview: the store does not take them"
            );
        }
    }

    async fn keep(&self) -> Result<(), WriteError> {
        self.flush().await?;
        if self.writer.file().is_some() {
            // Nobody else reads it.
            return Ok(());
        }
        let now = self.reader.now();
        let (_, gone) = presence::sort(&self.writer.seen().await?, now);
        let known = self.known(now).iter().map(Seen::entry).collect();
        self.writer.note_seen(known, gone).await
    }

    async fn leave(&self) -> Result<(), WriteError> {
        self.flush().await?;
        if self.writer.file().is_some() {
            return Ok(());
        }
        let (field, _) = self.own(self.reader.now()).entry();
        self.writer.note_seen(Vec::new(), vec![field]).await
    }

    async fn flush(&self) -> Result<(), WriteError> {
        let mut pending = self.pending.lock().await;
        self.collect(&mut pending);
        // A failed write ends the process, and counts are not worth that. They wait until the disk has space again.
        let file = self.writer.file();
        if file.is_some_and(|file| file.ready_to_spend().is_err()) {
            return Ok(());
        }
        while let Some((bucket, counts)) = pending.first() {
            self.writer.add_counts(bucket, counts.clone()).await?;
            pending.stored();
        }
        Ok(())
    }

    fn collect(&self, pending: &mut Pending) -> Bucket {
        let now = Bucket::of(self.reader.now());
        pending.collect(now);
        for (name, number) in std::mem::take(&mut *lock(&self.reported)) {
            pending.add(now, &name, number);
        }
        now
    }

    /// This broker, and the gateways that report to it.
    fn known(&self, now: Timestamp) -> Vec<Seen> {
        let mut known = lock(&self.gateways).running(now);
        known.push(self.own(now));
        known
    }

    fn own(&self, now: Timestamp) -> Seen {
        Seen {
            kind: Kind::Broker,
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            at: now,
        }
    }
}
