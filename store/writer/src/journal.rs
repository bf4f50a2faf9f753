//! The broker's own notebook on its own disk: what it was about to spend, and what it got.
//!
//! An answer is on this disk before anything else is done with it, so a store that is away, or a
//! crash at any instruction, cannot lose it. An attempt is in one of three states:
//!
//! | state | where | until |
//! | --- | --- | --- |
//! | asked | `attempts`, without an answer | the attempt ended |
//! | answered | `attempts`, with an answer | the store confirmed the commit |
//! | confirmed | `kept` ([`kept`]) | see below |
//!
//! A confirmed answer stays, because a store can lose writes that it confirmed: it restarts without
//! its last seconds, another master takes over that never had them, or an old copy is put back. The
//! answer stays until this broker confirms the next generation of its installation, or for
//! [`KEPT_FOR`]. All kept answers together take at most `EVERGREEN_JOURNAL_MAX`; the oldest confirmed
//! ones go first. Answers that are not confirmed are never dropped.

mod kept;
mod meta;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use store::clock::{Moment, StoreClock};
use store::seal::Sealed;
use store::{Generation, InstallationId, Timestamp};

pub use kept::{Cursor, Kept, Standing};

use crate::durable::{Durable, DurableError, NotReady};
use crate::identity::{Servers, StoreId};
use crate::installation::IntentId;
use crate::lease::LeaseValue;

/// The name is from when it was the only table: a file of an earlier version is read as it is.
const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("attempts");

/// GHL's answers to codes that the store may not have, by the id that a new installation gets.
const CONSENTS: TableDefinition<&str, &[u8]> = TableDefinition::new("consents");
/// Answers that cannot be used, by attempt: sealed as they came.
const SET_ASIDE: TableDefinition<&str, &[u8]> = TableDefinition::new("set-aside");

/// How long a confirmed answer is kept: GHL's access tokens live for a day, so every installation
/// has been refreshed again by then.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// One attempt.
#[derive(Debug, Clone)]
pub struct Entry {
    pub intent: IntentId,
    pub installation: InstallationId,
    pub spent_generation: Generation,
    /// Whoever comes after a crash ends the lease by it.
    pub lease: Option<LeaseValue>,
    /// The sealed grant, if GHL's answer arrived.
    pub answer: Option<Sealed>,
    /// The answer could not be used: it is a sealed [`RawAnswer`](crate::raw_answer::RawAnswer), for
    /// a person to look at.
    pub is_set_aside: bool,
}

impl Entry {
    /// An attempt that is about to go out.
    #[must_use]
    pub fn asked(
        intent: IntentId,
        installation: InstallationId,
        spent_generation: Generation,
        lease: Option<LeaseValue>,
    ) -> Self {
        Self {
            intent,
            installation,
            spent_generation,
            lease,
            answer: None,
            is_set_aside: false,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Journal {
    file: Durable,
    /// Bytes that kept answers may take.
    limit: u64,
    clock: Arc<StoreClock>,
}

impl Journal {
    /// Opens `journal.redb` in the directory, which must exist. Kept answers take up to `limit` bytes.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be opened.
    pub fn open(directory: &Path, limit: u64) -> Result<Self, DurableError> {
        let path = directory.join("journal.redb");
        kept::compact(&path);
        let file = Durable::open(&path)?;
        let newest = kept::newest(&file.read()?)?;
        Ok(Self {
            clock: Arc::new(clock(newest)),
            file,
            limit,
        })
    }

    /// The journal in a file of a simulated disk.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn simulated(file: Durable) -> Self {
        Self {
            clock: Arc::new(clock(None)),
            file,
            limit: u64::MAX,
        }
    }

    /// The file it is in.
    #[must_use]
    pub fn file(&self) -> &Durable {
        &self.file
    }

    /// Whether GHL's next answer can be journaled. Ask before a refresh token is spent; cheap.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn ready_to_spend(&self) -> Result<(), NotReady> {
        self.file.ready_to_spend()
    }

    /// Notes an attempt, or its answer. On the disk when this returns.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn note(&self, entry: &Entry) -> Result<(), DurableError> {
        let key = entry.intent.clone();
        let value = entry.encode();
        self.file
            .write(move |transaction| {
                let mut entries = transaction.open_table(ENTRIES)?;
                entries.insert(key.as_str(), value.as_slice())?;
                Ok(())
            })
            .await
    }

    /// Keeps an answer that the store has confirmed, in the place of its installation's former one.
    /// An attempt without an answer is forgotten.
    ///
    /// One write: after a crash the answer is either unfinished or kept.
    ///
    /// # Errors
    /// When the disk fails; the entry is then finished again at the next boot.
    pub async fn confirm(&self, entry: &Entry, standing: Standing) -> Result<(), DurableError> {
        let (entry, at, limit) = (entry.clone(), self.clock.now(), self.limit);
        self.file
            .write(move |transaction| {
                let mut entries = transaction.open_table(ENTRIES)?;
                entries.remove(entry.intent.as_str())?;
                if entry.answer.is_some() {
                    kept::keep(transaction, &entry, standing, at, limit)?;
                }
                Ok(())
            })
            .await
    }

    /// Keeps an answer that cannot be used, for good.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn set_aside(&self, entry: &Entry) -> Result<(), DurableError> {
        let (key, value) = (entry.intent.clone(), entry.encode());
        self.file
            .write(move |transaction| {
                transaction.open_table(ENTRIES)?.remove(key.as_str())?;
                let mut aside = transaction.open_table(SET_ASIDE)?;
                aside.insert(key.as_str(), value.as_slice())?;
                Ok(())
            })
            .await
    }

    /// Notes GHL's answer to a code, under the id that a new installation gets.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn note_consent(
        &self,
        fresh: &InstallationId,
        sealed: &Sealed,
    ) -> Result<(), DurableError> {
        let (key, value) = (fresh.clone(), sealed.clone());
        self.file
            .write(move |transaction| {
                let mut consents = transaction.open_table(CONSENTS)?;
                consents.insert(key.as_str(), value.as_bytes())?;
                Ok(())
            })
            .await
    }

    /// Forgets a consent that the store has.
    ///
    /// # Errors
    /// When the disk fails; the consent is then looked at again.
    pub async fn forget_consent(&self, fresh: &InstallationId) -> Result<(), DurableError> {
        let key = fresh.clone();
        self.file
            .write(move |transaction| {
                transaction.open_table(CONSENTS)?.remove(key.as_str())?;
                Ok(())
            })
            .await
    }

    /// The consents that the store may not have.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn consents(&self) -> Result<Vec<(InstallationId, Sealed)>, DurableError> {
        let read = || -> Result<_, redb::Error> {
            let consents = match self.file.read()?.open_table(CONSENTS) {
                Ok(consents) => consents,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut kept = Vec::new();
            for consent in consents.iter()? {
                let (key, value) = consent?;
                if let Ok(id) = key.value().parse() {
                    kept.push((id, Sealed::from_bytes(value.value().to_vec())));
                }
            }
            Ok(kept)
        };
        read().map_err(DurableError::from)
    }

    /// Forgets an attempt that ended without an answer, or whose answer is of no use.
    ///
    /// # Errors
    /// When the disk fails; the entry is then finished again at the next boot.
    pub async fn forget(&self, intent: &IntentId) -> Result<(), DurableError> {
        let key = intent.clone();
        self.file
            .write(move |transaction| {
                transaction.open_table(ENTRIES)?.remove(key.as_str())?;
                Ok(())
            })
            .await
    }

    /// All attempts that are asked or answered. An entry that cannot be read is reported as its key.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn unfinished(&self) -> Result<Vec<Result<Entry, String>>, DurableError> {
        self.read().map_err(DurableError::from)
    }

    fn read(&self) -> Result<Vec<Result<Entry, String>>, redb::Error> {
        let entries = match self.file.read()?.open_table(ENTRIES) {
            Ok(entries) => entries,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut unfinished = Vec::new();
        for entry in entries.iter()? {
            let (key, value) = entry?;
            let entry = Entry::decode(key.value(), value.value());
            unfinished.push(entry.ok_or_else(|| key.value().to_owned()));
        }
        Ok(unfinished)
    }

    /// Up to `limit` kept answers confirmed before `before`, the newest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn kept(&self, before: Option<&Cursor>, limit: usize) -> Result<Vec<Kept>, DurableError> {
        Ok(kept::page(&self.file.read()?, before, limit)?)
    }

    /// The kept answer of one installation.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn kept_of(&self, id: &InstallationId) -> Result<Option<Kept>, DurableError> {
        Ok(kept::of(&self.file.read()?, id)?)
    }

    /// The journal's time now: what kept answers are dated with.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Drops what has been kept for longer than [`KEPT_FOR`] at `now`, and the oldest beyond the limit.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn prune(&self, now: Timestamp) -> Result<(), DurableError> {
        let (oldest, limit) = (now - KEPT_FOR, self.limit);
        // Others want to write in between.
        while self
            .file
            .write(move |transaction| kept::prune(transaction, oldest, limit))
            .await?
        {}
        Ok(())
    }

    /// Whether there is an answer in it, confirmed or not, or something that cannot be read.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn holds_answers(&self) -> Result<bool, DurableError> {
        if kept::newest(&self.file.read()?)?.is_some() {
            return Ok(true);
        }
        let unfinished = self.unfinished()?;
        Ok(unfinished
            .iter()
            .any(|entry| entry.as_ref().map_or(true, |entry| entry.answer.is_some())))
    }

    /// The store that its answers are for.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn store_id(&self) -> Result<Option<StoreId>, DurableError> {
        Ok(meta::get(&self.file.read()?, meta::STORE)?.map(StoreId::from_text))
    }

    /// # Errors
    /// When the disk fails.
    pub async fn set_store_id(&self, id: &StoreId) -> Result<(), DurableError> {
        let id = id.to_string();
        let write = self.file.write(move |to| meta::set(to, meta::STORE, &id));
        write.await
    }

    /// The servers that were known to have all that is confirmed here.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn servers(&self) -> Result<Option<Servers>, DurableError> {
        Ok(meta::get(&self.file.read()?, meta::SERVERS)?.map(|text| Servers::from_text(&text)))
    }

    /// # Errors
    /// When the disk fails.
    pub async fn set_servers(&self, servers: &Servers) -> Result<(), DurableError> {
        let text = servers.to_string();
        let write = self
            .file
            .write(move |to| meta::set(to, meta::SERVERS, &text));
        write.await
    }
}

/// The journal's clock: this machine's when the journal was opened, or the newest entry's if that is
/// later, carried on by a clock that nobody can set.
///
/// The dates outlive the process, so they cannot be of a monotonic clock. The store's clock is no
/// better: the store may be away, or another. A clock that is wrong when the process starts can drop
/// confirmed answers early, and nothing else.
fn clock(newest: Option<Timestamp>) -> StoreClock {
    let clock = StoreClock::new();
    if let Some(newest) = newest.filter(|newest| *newest > clock.now()) {
        clock.set(newest, Moment::now());
    }
    clock
}

#[derive(Serialize, Deserialize)]
struct Head {
    installation: InstallationId,
    spent_generation: Generation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseValue>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    set_aside: bool,
}

/// In journals and in escrow: a line of JSON, then the sealed answer's bytes, if there are any.
impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let head = Head {
            installation: self.installation.clone(),
            spent_generation: self.spent_generation,
            lease: self.lease.clone(),
            set_aside: self.is_set_aside,
        };
        let mut value = serde_json::to_vec(&head).expect("text and numbers serialise");
        if let Some(answer) = &self.answer {
            value.push(b'\n');
            value.extend_from_slice(answer.as_bytes());
        }
        value
    }

    pub(crate) fn decode(key: &str, value: &[u8]) -> Option<Self> {
        let (head, answer) = match value.iter().position(|byte| *byte == b'\n') {
            Some(end) => (
                &value[..end],
                Some(Sealed::from_bytes(value[end + 1..].to_vec())),
            ),
            None => (value, None),
        };
        let head: Head = serde_json::from_slice(head).ok()?;
        let Ok(intent) = key.parse();
        Some(Self {
            intent,
            installation: head.installation,
            spent_generation: head.spent_generation,
            lease: head.lease,
            answer,
            is_set_aside: head.set_aside,
        })
    }
}

#[cfg(test)]
mod tests;
