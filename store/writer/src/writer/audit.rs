//! The audit log, and the last uses of keys.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde_json::Value;
use store::audit::{Action, By, Day, Entry};
use store::{InstallationId, KeyHash, Timestamp};

use super::{StoreWriter, WriteError};
use crate::backend::audit::{AuditList, AuditRow};

/// An entry to be written, and the form of it that was written before.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    /// The entry.
    pub entry: Entry,
    /// Its earlier form. It is removed.
    pub replaces: Option<Entry>,
    /// Whether a gateway has reported it. Such entries never push out those that brokers make.
    pub is_reported: bool,
}

impl From<Entry> for AuditRecord {
    fn from(entry: Entry) -> Self {
        Self {
            entry,
            replaces: None,
            is_reported: false,
        }
    }
}

impl StoreWriter {
    /// Adds entries to the audit log. Entries that are there already are not added again, so this may be repeated.
    ///
    /// # Errors
    /// When the store is unavailable or refuses. Some may have been added.
    pub async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), WriteError> {
        for list in AuditList::ALL {
            let is_here = |it: &&AuditRecord| list_of(it) == list;
            let rows: Vec<AuditRow> = records.iter().filter(is_here).map(row).collect();
            if !rows.is_empty() {
                self.backend.append_audit(list, rows).await?;
            }
        }
        Ok(())
    }

    /// Adds an entry about a key that was made or ended at the command line, or by the first start of a process.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub async fn audit_key(
        &self,
        action: Action,
        key: &KeyHash,
        name: &str,
        detail: &str,
    ) -> Result<(), WriteError> {
        let entry = Entry::new(self.now().await?, action, By::Operator);
        let entry = entry.on_key(key, name).with(detail);
        self.append_audit(&[entry.into()]).await
    }

    /// The newest entries of the audit log, the newest first. Entries of newer brokers are returned as they are.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn audit(&self, limit: usize) -> Result<Vec<Value>, WriteError> {
        let mut rows = Vec::new();
        for list in AuditList::ALL {
            rows.extend(self.backend.audit(list, limit).await?);
        }
        Ok(newest(&rows, limit))
    }

    /// The newest entries about an installation, the newest first.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn audit_about(
        &self,
        id: &InstallationId,
        limit: usize,
    ) -> Result<Vec<Value>, WriteError> {
        let mut rows = Vec::new();
        for list in AuditList::ALL {
            let all = self.backend.audit(list, usize::MAX).await?;
            // Most are about others, and need not be parsed.
            rows.extend(all.into_iter().filter(|row| row.contains(id.as_str())));
        }
        let mut entries = newest(&rows, usize::MAX);
        entries.retain(|entry| entry["installation"] == id.as_str());
        entries.truncate(limit);
        Ok(entries)
    }

    /// Records on which days keys were used last.
    ///
    /// # Errors
    /// When the store is unavailable or refuses.
    pub async fn record_key_uses(&self, uses: Vec<(KeyHash, Day)>) -> Result<(), WriteError> {
        if uses.is_empty() {
            return Ok(());
        }
        self.backend.record_key_uses(uses).await
    }

    /// The day on which each key was used last. Keys that were never used are missing.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn key_uses(&self) -> Result<HashMap<KeyHash, Day>, WriteError> {
        Ok(self.backend.key_uses().await?.into_iter().collect())
    }

    /// The store's time.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn now(&self) -> Result<Timestamp, WriteError> {
        Ok(self.backend.load(&InstallationId::random()).await?.now)
    }
}

fn list_of(record: &AuditRecord) -> AuditList {
    if record.entry.is_about_a_stranger() {
        AuditList::Strangers
    } else if record.is_reported || record.entry.is_about_a_fetch() {
        AuditList::Fetches
    } else {
        AuditList::Main
    }
}

fn row(record: &AuditRecord) -> AuditRow {
    AuditRow {
        at: record.entry.at,
        json: record.entry.to_json(),
        replaces: record.replaces.as_ref().map(Entry::to_json),
    }
}

/// The newest of all entries, the newest first. Of several forms of an entry, the one that knows most.
fn newest(rows: &[String], limit: usize) -> Vec<Value> {
    let mut entries: HashMap<_, ((u64, usize), Value)> = HashMap::new();
    for row in rows {
        let Ok(entry) = serde_json::from_str::<Value>(row) else {
            continue;
        };
        // The longer one knows more, such as the address.
        let rank = (entry["count"].as_u64().unwrap_or_default(), row.len());
        // A gateway chooses the ids of its events. It must not take the place of what it cannot see.
        let id = entry["id"].as_str().unwrap_or(row).to_owned();
        let id = (id, entry["action"].to_string());
        if entries.get(&id).is_none_or(|(held, _)| *held < rank) {
            entries.insert(id, (rank, entry));
        }
    }
    let mut entries: Vec<Value> = entries.into_values().map(|(_, entry)| entry).collect();
    // The times have one width, so they are ordered as texts. Entries of one millisecond are ordered by their id.
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    entries.sort_by_cached_key(|entry| Reverse((text(entry, "at"), text(entry, "id"))));
    entries.truncate(limit);
    entries
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn newest_entries_come_first_and_each_once() {
        let rows = [
            json!({"id": "a", "at": "2026-11-29T12:00:00.001Z", "count": 1}).to_string(),
            json!({"id": "b", "at": "2026-11-29T12:00:00.003Z", "count": 1}).to_string(),
            "not json".to_owned(),
            json!({"id": "a", "at": "2026-11-29T12:00:00.001Z", "count": 7}).to_string(),
            json!({"id": "a", "at": "2026-11-29T12:00:00.001Z", "count": 2}).to_string(),
            json!({"id": "c", "at": "2026-11-29T12:00:00.002Z", "action": "of_the_future"})
                .to_string(),
            json!({"id": "c", "at": "2026-11-29T12:00:00.000Z", "action": "b", "count": 99})
                .to_string(),
        ];
        let all = newest(&rows, 9);
        let ids: Vec<_> = all
            .iter()
            .map(|entry| entry["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, ["b", "c", "a", "c"], "another action is another entry");
        assert_eq!(all[1]["action"], "of_the_future");
        assert_eq!(all[2]["count"], 7);
        assert_eq!(newest(&rows, 1).len(), 1);
    }
}
