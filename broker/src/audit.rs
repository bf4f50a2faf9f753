//! The audit log. An entry is written before its request is answered. If the store does not take it, it is written
//! later, and the request goes on: an audit log that can stop revocations would be a way to prevent them.
//!
//! Refused requests and keys for browsers are coalesced in memory, so that neither fills the log.

mod lines;
mod recent;
mod unsaved;
mod uses;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use service::locks::lock;
use service::shutdown::Shutdown;
use store::audit::{Action, By, Day, Entry, EntryId, Event, Happened, Report};
use store::{Caller, InstallationId, KeyHash, ReadError, Timestamp, TokenReader};
use store_writer::consent::Consent;
use store_writer::grant::Registration;
use store_writer::writer::AuditRecord;
use store_writer::{StoreWriter, WriteError};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::warn;

use lines::LineLog;
pub use lines::{AuditLog, AuditLogError};
use recent::Recent;
use unsaved::Unsaved;
use uses::Uses;

/// How long a request waits for the store to take its entry.
const STORE_PATIENCE: Duration = Duration::from_secs(1);
/// How often entries are written that no request waits for.
const INTERVAL: Duration = Duration::from_secs(1);
/// The longest pause between two tries to write them.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The audit log of a broker.
#[derive(Debug)]
pub(crate) struct Audit {
    writer: StoreWriter,
    reader: TokenReader,
    lines: LineLog,
    refusals: Mutex<Recent>,
    browser_keys: Mutex<Recent>,
    unsaved: Mutex<Unsaved>,
    uses: Mutex<Uses>,
    wake: Notify,
}

/// A caller of the administration, whom the middleware has put into the request.
#[derive(Debug, Clone)]
pub(crate) struct Requester {
    pub(crate) by: By,
    pub(crate) address: IpAddr,
}

impl Audit {
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(
        log: &AuditLog,
        writer: StoreWriter,
        reader: TokenReader,
    ) -> Result<Self, AuditLogError> {
        Ok(Self {
            writer,
            reader,
            lines: LineLog::open(log)?,
            refusals: Mutex::new(Recent::new()),
            browser_keys: Mutex::new(Recent::new()),
            unsaved: Mutex::default(),
            uses: Mutex::default(),
            wake: Notify::new(),
        })
    }

    /// Writes an entry. Returns once the store has it, or has not taken it for a second.
    pub(crate) async fn record(&self, entry: Entry) {
        let records = [AuditRecord::from(entry)];
        let storing = timeout(STORE_PATIENCE, self.writer.append_audit(&records));
        let writing = self.lines.write(records.iter().map(|it| &it.entry));
        let (stored, ()) = tokio::join!(storing, writing);
        if !matches!(stored, Ok(Ok(()))) {
            self.keep(records);
        }
    }

    /// Notes that a key was used.
    pub(crate) fn used(&self, key: &KeyHash) {
        self.used_on(*key, Day::of(self.reader.now()));
    }

    fn used_on(&self, key: KeyHash, day: Day) {
        if lock(&self.uses).note(key, day) {
            self.wake.notify_one();
        }
    }

    /// Notes a refused request. `known`: its key, if it is or was one.
    pub(crate) fn refused(
        &self,
        happened: Happened,
        known: Option<(KeyHash, &Caller)>,
        from: IpAddr,
    ) {
        lock(&self.refusals).note(happened, known, None, from, self.reader.now());
        self.wake.notify_one();
    }

    /// Notes that the owner of a key got a key for a browser.
    pub(crate) fn browser_key_created(
        &self,
        (issuer, caller): (KeyHash, &Caller),
        installation: &InstallationId,
        from: IpAddr,
    ) {
        let (happened, now) = (Happened::BrowserKeyCreated, self.reader.now());
        let (known, on) = (Some((issuer, caller)), Some(installation.clone()));
        lock(&self.browser_keys).note(happened, known, on, from, now);
        self.wake.notify_one();
    }

    /// Writes what a gateway reports.
    ///
    /// # Errors
    /// When the store is unavailable. The gateway reports it again.
    pub(crate) async fn take(&self, report: Report) -> Result<(), WriteError> {
        let mut names = HashMap::new();
        let keys: HashSet<KeyHash> = report.events.iter().filter_map(|it| it.key).collect();
        for key in keys {
            match self.reader.caller(&key).await {
                Ok(found) => names.extend(found.map(|caller| (key, caller.name))),
                // An entry without a name is better than none.
                Err(ReadError::Unreadable { .. }) => {}
                Err(ReadError::Unavailable(reason)) => return Err(WriteError::Unavailable(reason)),
            }
        }
        let records = self.records(&report.events, &names, true);
        self.writer.append_audit(&records).await?;
        self.lines.write(records.iter().map(|it| &it.entry)).await;
        self.take_uses(report.used).await
    }

    /// Notes uses of keys that exist.
    async fn take_uses(&self, uses: Vec<(KeyHash, Day)>) -> Result<(), WriteError> {
        let today = Day::of(self.reader.now());
        for (key, day) in uses {
            let day = day.min(today);
            let is_known = lock(&self.uses).has(&key, day);
            if is_known {
                continue;
            }
            match self.reader.caller(&key).await {
                Ok(Some(_)) | Err(ReadError::Unreadable { .. }) => self.used_on(key, day),
                Ok(None) => {}
                Err(ReadError::Unavailable(reason)) => return Err(WriteError::Unavailable(reason)),
            }
        }
        Ok(())
    }

    fn records(
        &self,
        events: &[Event],
        names: &HashMap<KeyHash, String>,
        is_reported: bool,
    ) -> Vec<AuditRecord> {
        let now = self.reader.now();
        let entry = |event: &Event| {
            let name = event.key.and_then(|key| names.get(&key));
            event.entry(name.map(String::as_str), now)
        };
        let record = |event: &Event| AuditRecord {
            entry: entry(event),
            replaces: event.before().as_ref().map(entry),
            is_reported,
        };
        events.iter().map(record).collect()
    }

    /// Writes what no request waits for, until the shutdown starts.
    pub(crate) async fn run(&self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.started() => return,
                () = self.wake.notified() => {}
            }
            let (mut pause, mut is_failing) = (INTERVAL, false);
            while !self.is_idle() {
                tokio::select! {
                    biased;
                    () = shutdown.started() => return,
                    () = sleep(pause) => {}
                }
                let written = self.write(Recent::due).await;
                if let Err(error) = &written
                    && !is_failing
                {
                    let error = error as &dyn std::error::Error;
                    warn!(
                        error,
                        "the store takes no entries of the audit log, trying again"
                    );
                }
                is_failing = written.is_err();
                pause = if is_failing {
                    LONGEST_PAUSE.min(pause * 2)
                } else {
                    INTERVAL
                };
            }
        }
    }

    /// Writes everything that is left. After the last request.
    pub(crate) async fn finish(&self) {
        if let Err(error) = self.write(Recent::close).await {
            let lost = lock(&self.unsaved).lose();
            let error = &error as &dyn std::error::Error;
            warn!(lost, error, "entries of the audit log are lost");
        }
    }

    /// `take`: the events of the last minute that are to be written.
    async fn write(&self, take: fn(&mut Recent) -> Vec<Event>) -> Result<(), WriteError> {
        for recent in [&self.refusals, &self.browser_keys] {
            let (events, names) = {
                let mut recent = lock(recent);
                (take(&mut recent), recent.names())
            };
            let records = self.records(&events, &names, false);
            self.lines.write(records.iter().map(|it| &it.entry)).await;
            self.keep(records);
        }
        loop {
            let records = lock(&self.unsaved).take();
            if records.is_empty() {
                break;
            }
            if let Err(error) = self.writer.append_audit(&records).await {
                lock(&self.unsaved).put_back(records);
                return Err(error);
            }
        }
        let uses = lock(&self.uses).pending();
        self.writer.record_key_uses(uses.clone()).await?;
        lock(&self.uses).written(&uses);
        Ok(())
    }

    fn keep(&self, records: impl IntoIterator<Item = AuditRecord>) {
        lock(&self.unsaved).keep(records);
        self.wake.notify_one();
    }

    fn is_idle(&self) -> bool {
        lock(&self.unsaved).is_empty()
            && lock(&self.uses).is_empty()
            && lock(&self.refusals).is_empty()
            && lock(&self.browser_keys).is_empty()
    }
}

/// The entry of the audit log. It has the same id when a consent is committed again.
pub(crate) fn connected(consent: &Consent, id: &InstallationId) -> Entry {
    let entry = Entry::new(
        consent.asked_at,
        Action::InstallationConnected,
        By::Anonymous,
    );
    let Registration {
        app,
        location,
        company,
        ..
    } = &consent.registration;
    let owner = match (location, company) {
        (Some(location), _) => format!("location {location}"),
        (None, Some(company)) => format!("company {company}"),
        (None, None) => String::new(),
    };
    let owner = match app.is_default() {
        true => owner,
        false => format!("{owner} of the app {app}"),
    };
    Entry {
        id: EntryId::of_consent(&consent.fresh),
        ..entry.on(id).with(owner)
    }
}

impl Requester {
    /// An entry about what this caller did.
    pub(crate) fn entry(&self, at: Timestamp, action: Action) -> Entry {
        Entry::new(at, action, self.by.clone()).from(self.address)
    }
}
