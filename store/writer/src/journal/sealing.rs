//! Which keys the journal's answers are sealed with, and how they are sealed anew.
//!
//! The journal notes the ids of all keys that its answers may be sealed with. A process without one of them
//! does not start, since the answers may be the only copies.

use std::collections::BTreeSet;
use std::sync::Arc;

use redb::{ReadableTable, Table};
use store::InstallationId;
use store::seal::{KeyRing, Sealed};

use super::confirmed::{self, Cursor};
use super::entry::Entry;
use super::{ATTEMPTS, CONSENTS, Journal, QUARANTINE, meta};
use crate::consent;
use crate::group_commit_db::DbError;

/// Why a ring cannot be used with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalKeysError {
    /// The ring lacks keys that answers may be sealed with.
    #[error(
        "EVERGREEN_REFRESH_KEYS lacks a key that answers of GHL in this broker's journal may be sealed with \
         ({}): put it back behind the first key, and let the broker run for a minute with it. If it is lost \
         for good, write `id:lost` in its place",
        .0.join(", ")
    )]
    Missing(Vec<String>),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DbError),
}

/// One page of [`Journal::reseal_confirmed`].
#[derive(Debug, Default)]
pub struct ResealedPage {
    /// How many answers were sealed anew.
    pub resealed: usize,
    /// Where the next page begins; `None`: this was the last one.
    pub next: Option<Cursor>,
}

impl Journal {
    /// Checks that the ring has every key that answers may be sealed with, and seals those that the store may
    /// not have with the first key. Call it before anything is read from the journal or written to it.
    ///
    /// # Errors
    /// When the ring lacks a key, or the disk fails.
    pub async fn prepare_keys(&self, ring: &Arc<KeyRing>) -> Result<(), JournalKeysError> {
        let known = self.check_keys(ring)?;
        if self.is_sealed_with_first_key(ring)? {
            return Ok(());
        }
        let mut next = known;
        next.insert(ring.first_id().to_owned());
        let (ring, text) = (ring.clone(), join(&next));
        let write = self.file.write(move |file| {
            meta::set(file, meta::SEALING_KEYS, &text)?;
            reseal_entries(&mut file.open_table(ATTEMPTS)?, &ring)?;
            reseal_entries(&mut file.open_table(QUARANTINE)?, &ring)?;
            reseal_consents(&mut file.open_table(CONSENTS)?, &ring)
        });
        Ok(write.await?)
    }

    /// Checks that the ring has every key that answers may be sealed with, and returns their ids.
    ///
    /// # Errors
    /// When the ring lacks a key, or the disk fails.
    pub fn check_keys(&self, ring: &KeyRing) -> Result<BTreeSet<String>, JournalKeysError> {
        let known = self.sealing_keys(ring)?;
        let has = |id: &String| ring.is_lost(id) || ids(ring).any(|known| known == id);
        let missing: Vec<String> = known.iter().filter(|id| !has(id)).cloned().collect();
        if missing.is_empty() {
            Ok(known)
        } else {
            Err(JournalKeysError::Missing(missing))
        }
    }

    /// Whether everything is sealed with the first key of the ring.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn is_sealed_with_first_key(&self, ring: &KeyRing) -> Result<bool, DbError> {
        let noted = meta::get(&self.file.read()?, meta::SEALING_KEYS)?;
        Ok(noted.as_deref() == Some(ring.first_id()))
    }

    /// Seals a page of confirmed answers with the first key, the newest first. An answer that cannot be opened
    /// stays as it is.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn reseal_confirmed(
        &self,
        ring: &KeyRing,
        before: Option<&Cursor>,
        limit: usize,
    ) -> Result<ResealedPage, DbError> {
        let page = self.confirmed(before, limit)?;
        let next = page.last().map(confirmed::ConfirmedEntry::cursor);
        let again = page.iter().filter_map(|kept| kept.entry.resealed(ring));
        let again: Vec<Entry> = again.collect();
        let resealed = again.len();
        if resealed > 0 {
            let write = self.file.write(move |file| {
                let replaced = again.iter().map(|entry| confirmed::replace(file, entry));
                replaced.collect::<Result<(), _>>()
            });
            write.await?;
        }
        Ok(ResealedPage { resealed, next })
    }

    /// Notes that everything is sealed with the first key, except answers that could not be opened. Returns the
    /// keys of those.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn record_sealing_keys(&self, ring: &KeyRing) -> Result<BTreeSet<String>, DbError> {
        let mut left = BTreeSet::new();
        let mut cursor = None;
        loop {
            let page = self.confirmed(cursor.as_ref(), 256)?;
            let Some(last) = page.last() else { break };
            cursor = Some(last.cursor());
            let answers = page.iter().filter_map(|kept| kept.entry.answer.as_ref());
            let keys = answers.filter_map(Sealed::key_id).map(str::to_owned);
            left.extend(keys.filter(|id| id != ring.first_id()));
        }
        let mut noted = left.clone();
        noted.retain(|id| !ring.is_lost(id));
        noted.insert(ring.first_id().to_owned());
        let text = join(&noted);
        let write = self
            .file
            .write(move |file| meta::set(file, meta::SEALING_KEYS, &text));
        write.await?;
        Ok(left)
    }

    /// The keys that answers may be sealed with. A journal of an earlier version notes none: it may be any of
    /// the ring, if it has answers.
    fn sealing_keys(&self, ring: &KeyRing) -> Result<BTreeSet<String>, DbError> {
        let noted = meta::get(&self.file.read()?, meta::SEALING_KEYS)?;
        Ok(match noted {
            Some(noted) => noted.split_whitespace().map(str::to_owned).collect(),
            None if self.holds_answers()? => ids(ring).map(str::to_owned).collect(),
            None => BTreeSet::new(),
        })
    }
}

fn ids(ring: &KeyRing) -> impl Iterator<Item = &str> {
    ring.check_values().map(|(id, _)| id)
}

fn join(ids: &BTreeSet<String>) -> String {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    ids.join(" ")
}

fn reseal_entries(table: &mut Table<&str, &[u8]>, ring: &KeyRing) -> Result<(), redb::Error> {
    let mut again = Vec::new();
    for row in table.iter()? {
        let (key, value) = row?;
        let entry = Entry::decode(key.value(), value.value());
        again.extend(entry.and_then(|entry| entry.resealed(ring)));
    }
    for entry in again {
        table.insert(entry.intent.as_str(), entry.encode().as_slice())?;
    }
    Ok(())
}

fn reseal_consents(table: &mut Table<&str, &[u8]>, ring: &KeyRing) -> Result<(), redb::Error> {
    let mut again: Vec<(InstallationId, Sealed)> = Vec::new();
    for row in table.iter()? {
        let (key, value) = row?;
        let Ok(fresh) = key.value().parse::<InstallationId>() else {
            continue;
        };
        let sealed = Sealed::from_bytes(value.value().to_vec());
        let resealed = ring.reseal(consent::label(&fresh), &sealed);
        if let Ok(Some(sealed)) = resealed {
            again.push((fresh, sealed));
        }
    }
    for (fresh, sealed) in again {
        table.insert(fresh.as_str(), sealed.as_bytes())?;
    }
    Ok(())
}
