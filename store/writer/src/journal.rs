//! The broker's own notebook on its own disk: what it was about to spend, and what it got.
//!
//! An answer is on this disk before anything else is done with it, so a store that is away, or a
//! crash at any instruction, cannot lose it. What is here at boot was cut short and is finished.

use std::path::Path;

use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use store::seal::Sealed;
use store::{Generation, InstallationId};

use crate::durable::{Durable, DurableError};
use crate::installation::IntentId;
use crate::lease::LeaseValue;

const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("attempts");

/// One attempt that was not finished.
#[derive(Debug, Clone)]
pub struct Entry {
    pub intent: IntentId,
    pub installation: InstallationId,
    pub spent_generation: Generation,
    /// Whoever comes after a crash ends the lease by it.
    pub lease: Option<LeaseValue>,
    /// The sealed grant, if GHL's answer arrived.
    pub answer: Option<Sealed>,
}

#[derive(Debug, Clone)]
pub struct Journal {
    file: Durable,
}

impl Journal {
    /// Opens `journal.redb` in the directory, which must exist.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be opened.
    pub fn open(directory: &Path) -> Result<Self, DurableError> {
        let file = Durable::open(&directory.join("journal.redb"))?;
        Ok(Self { file })
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

    /// Forgets an attempt that is finished.
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

    /// All attempts that were not finished. An entry that cannot be read is reported as its key.
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
}

#[derive(Serialize, Deserialize)]
struct Head {
    installation: InstallationId,
    spent_generation: Generation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseValue>,
}

/// In journals and in escrow: a line of JSON, then the sealed answer's bytes, if there are any.
impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let head = Head {
            installation: self.installation.clone(),
            spent_generation: self.spent_generation,
            lease: self.lease.clone(),
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
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(answer: Option<&[u8]>) -> Entry {
        Entry {
            intent: IntentId::random(),
            installation: InstallationId::random(),
            spent_generation: Generation::FIRST,
            lease: None,
            answer: answer.map(|bytes| Sealed::from_bytes(bytes.to_vec())),
        }
    }

    #[tokio::test]
    async fn what_was_noted_is_there_after_reopening_and_what_was_forgotten_is_not() {
        let directory = crate::open::scratch_directory();
        let (asked, answered) = (entry(None), entry(Some(b"one\ntwo")));
        let journal = Journal::open(&directory).unwrap();
        assert!(journal.unfinished().unwrap().is_empty());
        for entry in [&asked, &answered] {
            journal.note(entry).await.unwrap();
        }
        journal.forget(&asked.intent).await.unwrap();
        drop(journal);
        let journal = reopen(&directory).await;
        let unfinished = journal.unfinished().unwrap();
        let [Ok(found)] = unfinished.as_slice() else {
            panic!("one entry is left, not {unfinished:?}");
        };
        assert_eq!(found.intent, answered.intent);
        assert_eq!(found.answer, answered.answer);
    }

    #[tokio::test]
    async fn a_second_process_is_told_who_is_in_the_way() {
        let directory = crate::open::scratch_directory();
        let _first = Journal::open(&directory).unwrap();
        let second = Journal::open(&directory);
        assert!(
            matches!(second, Err(DurableError::InUse { .. })),
            "{second:?}"
        );
    }

    /// The former owner's thread lets go of the file a moment after the handle is dropped.
    async fn reopen(directory: &Path) -> Journal {
        loop {
            match Journal::open(directory) {
                Ok(journal) => return journal,
                Err(DurableError::InUse { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
