//! The audit log in the file.

use std::sync::atomic::Ordering;

use redb::ReadableTable;
use store::audit::Day;
use store::{KeyHash, keys};

use super::tables::{HASHES, NEVER, SORTED, set_score, table};
use super::{EmbeddedBackend, unavailable};
use crate::backend::BackendFuture;
use crate::backend::audit::{AuditBackend, AuditList, AuditRow};

/// How many rows are added before the oldest are removed. Counting all rows with each addition would delay every other
/// write of the file.
const TRIM_EVERY: usize = 128;

impl AuditBackend for EmbeddedBackend {
    fn append_audit(&self, list: AuditList, rows: Vec<AuditRow>) -> BackendFuture<'_, ()> {
        Box::pin(async move {
            let before = self.audit_rows.fetch_add(rows.len(), Ordering::Relaxed);
            let is_trimmed = before / TRIM_EVERY != (before + rows.len()) / TRIM_EVERY;
            self.write(move |store| {
                let key = list.key();
                for row in &rows {
                    set_score(store, key, &row.json, Some(row.at.as_millis()))?;
                    if let Some(earlier) = row.replaces.as_ref().filter(|it| **it != row.json) {
                        set_score(store, key, earlier, None)?;
                    }
                }
                if !is_trimmed {
                    return Ok(());
                }
                let old: Vec<String> = {
                    let sorted = store.open_table(SORTED)?;
                    let all = sorted.range((key, i64::MIN, "")..=(key, NEVER, "\u{10ffff}"))?;
                    all.rev()
                        .skip(list.most())
                        .map(|row| Ok(row?.0.value().2.to_owned()))
                        .collect::<Result<_, redb::Error>>()?
                };
                for json in &old {
                    set_score(store, key, json, None)?;
                }
                Ok(())
            })
            .await
        })
    }

    fn audit(&self, list: AuditList, limit: usize) -> BackendFuture<'_, Vec<String>> {
        Box::pin(async move { self.newest(list, limit).map_err(unavailable) })
    }

    fn record_key_uses(&self, uses: Vec<(KeyHash, Day)>) -> BackendFuture<'_, ()> {
        Box::pin(self.write(move |store| {
            let mut hashes = store.open_table(HASHES)?;
            for (key, day) in &uses {
                let (key, day) = (key.to_string(), day.to_string());
                let field = (keys::KEYS_USED, key.as_str());
                let is_later = hashes
                    .get(field)?
                    .is_none_or(|recorded| recorded.value() < day.as_bytes());
                if is_later {
                    hashes.insert(field, day.as_bytes())?;
                }
            }
            Ok(())
        }))
    }

    fn key_uses(&self) -> BackendFuture<'_, Vec<(KeyHash, Day)>> {
        Box::pin(async move {
            let stored = self.hash(keys::KEYS_USED).map_err(unavailable)?;
            let uses = stored.iter().filter_map(|(key, day)| {
                let day = std::str::from_utf8(day).ok()?;
                Some((key.parse().ok()?, day.parse().ok()?))
            });
            Ok(uses.collect())
        })
    }
}

impl EmbeddedBackend {
    fn newest(&self, list: AuditList, limit: usize) -> Result<Vec<String>, redb::Error> {
        let key = list.key();
        let Some(sorted) = table(self.file.read()?.open_table(SORTED))? else {
            return Ok(Vec::new());
        };
        let all = sorted.range((key, i64::MIN, "")..=(key, NEVER, "\u{10ffff}"))?;
        all.rev()
            .take(limit.min(list.most()))
            .map(|row| Ok(row?.0.value().2.to_owned()))
            .collect()
    }
}
