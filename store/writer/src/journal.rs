//! The journal on the broker's own disk: the attempts that spend a refresh token, and GHL's responses.
//!
//! A response is on this disk before anything else is done with it. An unavailable store or a crash at any
//! instruction cannot lose it. An attempt has one of three states:
//!
//! | state | where | until |
//! | --- | --- | --- |
//! | sent | `attempts`, without a response | the attempt ended |
//! | answered | `attempts`, with a response | the store confirmed the commit |
//! | confirmed | `kept` | see below |
//!
//! A confirmed response is retained, because a store can lose writes that it confirmed. It may restart
//! without its last seconds, fail over to a master that never had them, or be restored from a backup. The
//! response is retained until this broker confirms the next generation of the installation, or for
//! [`CONFIRMED_TTL`]. All confirmed responses together take at most `EVERGREEN_JOURNAL_MAX` bytes; the oldest
//! are dropped first. Unconfirmed responses are never dropped.

mod confirmed;
pub(crate) mod entry;
mod meta;
mod sealing;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{ReadableTable, TableDefinition};
use store::clock::{Moment, StoreClock};
use store::seal::Sealed;
use store::{InstallationId, Timestamp};

pub use confirmed::{ConfirmedEntry, Cursor, Standing};
pub use entry::Entry;
pub use sealing::{JournalKeysError, ResealedPage};

use crate::group_commit_db::{DbError, GroupCommitDb, NotReady};
use crate::identity::{Servers, StoreId};
use crate::installation::IntentId;

/// Attempts by intent id. Files of earlier versions have the same table.
const ATTEMPTS: TableDefinition<&str, &[u8]> = TableDefinition::new("attempts");

/// GHL's responses to code exchanges that the store may not have, by the id of the new installation.
const CONSENTS: TableDefinition<&str, &[u8]> = TableDefinition::new("consents");
/// Sealed responses that cannot be used, by intent id.
const QUARANTINE: TableDefinition<&str, &[u8]> = TableDefinition::new("set-aside");

/// How long a confirmed response is retained. GHL's access tokens live for a day, so every installation has
/// been refreshed again by then.
pub const CONFIRMED_TTL: Duration = Duration::from_secs(24 * 3600);

/// An open journal. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    file: GroupCommitDb,
    /// The bytes that confirmed responses may take.
    limit: u64,
    clock: Arc<StoreClock>,
}

impl Journal {
    /// Opens `journal.redb` in an existing directory. Confirmed responses take up to `limit` bytes.
    ///
    /// # Errors
    /// When another process has the file open, or it cannot be opened.
    pub fn open(directory: &Path, limit: u64) -> Result<Self, DbError> {
        let path = directory.join("journal.redb");
        confirmed::compact(&path);
        let file = GroupCommitDb::open(&path)?;
        let newest = confirmed::newest(&file.read()?)?;
        Ok(Self {
            clock: Arc::new(clock(newest)),
            file,
            limit,
        })
    }

    /// A journal on a simulated disk.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn simulated(file: GroupCommitDb) -> Self {
        Self {
            clock: Arc::new(clock(None)),
            file,
            limit: u64::MAX,
        }
    }

    /// The journal's database file.
    #[must_use]
    pub fn file(&self) -> &GroupCommitDb {
        &self.file
    }

    /// Whether GHL's next response can be stored. Check it before a refresh token is spent. Cheap.
    ///
    /// # Errors
    /// The reason why not.
    pub fn ready_to_spend(&self) -> Result<(), NotReady> {
        self.file.ready_to_spend()
    }

    /// Writes an attempt or its response. Synced when this returns.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn note(&self, entry: &Entry) -> Result<(), DbError> {
        let key = entry.intent.clone();
        let value = entry.encode();
        self.file
            .write(move |transaction| {
                let mut entries = transaction.open_table(ATTEMPTS)?;
                entries.insert(key.as_str(), value.as_slice())?;
                Ok(())
            })
            .await
    }

    /// Moves a response that the store has confirmed to the confirmed ones, in place of the installation's
    /// previous one. Deletes an attempt without a response.
    ///
    /// It is one write. After a crash the response is either unfinished or confirmed.
    ///
    /// # Errors
    /// When the disk fails. The entry is then processed again at the next start.
    pub async fn confirm(&self, entry: &Entry, standing: Standing) -> Result<(), DbError> {
        let (entry, at, limit) = (entry.clone(), self.clock.now(), self.limit);
        self.file
            .write(move |transaction| {
                let mut entries = transaction.open_table(ATTEMPTS)?;
                entries.remove(entry.intent.as_str())?;
                if entry.answer.is_some() {
                    confirmed::insert(transaction, &entry, standing, at, limit)?;
                }
                Ok(())
            })
            .await
    }

    /// Moves a response that cannot be used to the quarantine. It is never deleted.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn quarantine(&self, entry: &Entry) -> Result<(), DbError> {
        let (key, value) = (entry.intent.clone(), entry.encode());
        self.file
            .write(move |transaction| {
                transaction.open_table(ATTEMPTS)?.remove(key.as_str())?;
                let mut aside = transaction.open_table(QUARANTINE)?;
                aside.insert(key.as_str(), value.as_slice())?;
                Ok(())
            })
            .await
    }

    /// Writes GHL's response to a code exchange, under the id of the new installation.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn note_consent(
        &self,
        fresh: &InstallationId,
        sealed: &Sealed,
    ) -> Result<(), DbError> {
        let (key, value) = (fresh.clone(), sealed.clone());
        self.file
            .write(move |transaction| {
                let mut consents = transaction.open_table(CONSENTS)?;
                consents.insert(key.as_str(), value.as_bytes())?;
                Ok(())
            })
            .await
    }

    /// Deletes a consent that the store has.
    ///
    /// # Errors
    /// When the disk fails. The consent is then processed again at the next start.
    pub async fn forget_consent(&self, fresh: &InstallationId) -> Result<(), DbError> {
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
    pub fn consents(&self) -> Result<Vec<(InstallationId, Sealed)>, DbError> {
        let read = || -> Result<_, redb::Error> {
            let consents = match self.file.read()?.open_table(CONSENTS) {
                Ok(consents) => consents,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut unconfirmed = Vec::new();
            for consent in consents.iter()? {
                let (key, value) = consent?;
                if let Ok(id) = key.value().parse() {
                    unconfirmed.push((id, Sealed::from_bytes(value.value().to_vec())));
                }
            }
            Ok(unconfirmed)
        };
        read().map_err(DbError::from)
    }

    /// Deletes an attempt that ended without a response, or whose response is useless.
    ///
    /// # Errors
    /// When the disk fails. The entry is then processed again at the next start.
    pub async fn forget(&self, intent: &IntentId) -> Result<(), DbError> {
        let key = intent.clone();
        self.file
            .write(move |transaction| {
                transaction.open_table(ATTEMPTS)?.remove(key.as_str())?;
                Ok(())
            })
            .await
    }

    /// All attempts that are sent or answered. An entry that cannot be read is returned as its key.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn unfinished(&self) -> Result<Vec<Result<Entry, String>>, DbError> {
        self.read().map_err(DbError::from)
    }

    fn read(&self) -> Result<Vec<Result<Entry, String>>, redb::Error> {
        let entries = match self.file.read()?.open_table(ATTEMPTS) {
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

    /// The keys of all attempts and consents that are not confirmed. Reads no entry.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open_keys(&self) -> Result<Vec<String>, DbError> {
        let read = || -> Result<_, redb::Error> {
            let file = self.file.read()?;
            let mut keys = Vec::new();
            for table in [ATTEMPTS, CONSENTS] {
                let entries = match file.open_table(table) {
                    Ok(entries) => entries,
                    Err(redb::TableError::TableDoesNotExist(_)) => continue,
                    Err(error) => return Err(error.into()),
                };
                for entry in entries.iter()? {
                    keys.push(entry?.0.value().to_owned());
                }
            }
            Ok(keys)
        };
        read().map_err(DbError::from)
    }

    /// A page of up to `limit` confirmed responses before the cursor, the newest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn confirmed(
        &self,
        before: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<ConfirmedEntry>, DbError> {
        Ok(confirmed::page(&self.file.read()?, before, limit)?)
    }

    /// The confirmed response of one installation.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn confirmed_of(&self, id: &InstallationId) -> Result<Option<ConfirmedEntry>, DbError> {
        Ok(confirmed::get(&self.file.read()?, id)?)
    }

    /// The journal's time, which dates confirmed responses.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Drops responses confirmed more than [`CONFIRMED_TTL`] before `now`, and the oldest above the limit.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn prune(&self, now: Timestamp) -> Result<(), DbError> {
        let (oldest, limit) = (now - CONFIRMED_TTL, self.limit);
        // Separate writes, so that others can write in between.
        while self
            .file
            .write(move |transaction| confirmed::prune(transaction, oldest, limit))
            .await?
        {}
        Ok(())
    }

    /// Whether the journal contains a response, confirmed or not, or an entry that cannot be read.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn holds_answers(&self) -> Result<bool, DbError> {
        if confirmed::newest(&self.file.read()?)?.is_some() {
            return Ok(true);
        }
        let unfinished = self.unfinished()?;
        Ok(unfinished
            .iter()
            .any(|entry| entry.as_ref().map_or(true, |entry| entry.answer.is_some())))
    }

    /// The store that the responses are for; `None`: no store yet.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn store_id(&self) -> Result<Option<StoreId>, DbError> {
        Ok(meta::get(&self.file.read()?, meta::STORE)?.map(StoreId::from_text))
    }

    /// Sets the store that the responses are for.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn set_store_id(&self, id: &StoreId) -> Result<(), DbError> {
        let id = id.to_string();
        let write = self.file.write(move |to| meta::set(to, meta::STORE, &id));
        write.await
    }

    /// The servers that were known to have everything that is confirmed here.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn servers(&self) -> Result<Option<Servers>, DbError> {
        Ok(meta::get(&self.file.read()?, meta::SERVERS)?.map(|text| Servers::from_text(&text)))
    }

    /// Sets the servers that have everything that is confirmed here.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn set_servers(&self, servers: &Servers) -> Result<(), DbError> {
        let text = servers.to_string();
        let write = self
            .file
            .write(move |to| meta::set(to, meta::SERVERS, &text));
        write.await
    }
}

/// The journal's clock: this machine's time when the journal was opened, or the newest entry's if that is
/// later, continued by a monotonic clock.
///
/// The dates outlive the process, so a monotonic clock alone is not enough. The store's clock is no
/// alternative, because the store may be unavailable or another one. A wrong clock at the start can only drop
/// confirmed responses early.
fn clock(newest: Option<Timestamp>) -> StoreClock {
    let clock = StoreClock::new();
    if let Some(newest) = newest.filter(|newest| *newest > clock.now()) {
        clock.set(newest, Moment::now());
    }
    clock
}

#[cfg(test)]
mod tests;
