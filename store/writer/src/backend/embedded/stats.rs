//! Numbers for the overview in the file. The processes that use a file are one, so it needs no list of them here.

use redb::ReadableTable;
use store::{InstallationId, Timestamp, keys};

use super::tables::{HASHES, NEVER, read_hash, table};
use super::{EmbeddedBackend, unavailable};
use crate::backend::BackendFuture;
use crate::backend::stats::{BUCKETS_KEPT, NamedCounts, StatsBackend, soonest};

impl StatsBackend for EmbeddedBackend {
    fn add_counts(&self, bucket: u32, counts: NamedCounts) -> BackendFuture<'_, ()> {
        Box::pin(self.write(move |store| {
            let mut hashes = store.open_table(HASHES)?;
            let key = keys::counts(bucket);
            for (name, number) in &counts {
                let field = (key.as_str(), name.as_str());
                let held = hashes.get(field)?.and_then(|held| parse(held.value()));
                let sum = held.unwrap_or_default().saturating_add(*number).to_string();
                hashes.insert(field, sum.as_bytes())?;
            }
            let (first, kept) = (keys::counts(0), keys::counts(oldest(bucket)));
            hashes.retain_in((first.as_str(), "")..(kept.as_str(), ""), |_, _| false)?;
            Ok(())
        }))
    }

    fn counts(&self, first: u32, len: u32) -> BackendFuture<'_, Vec<NamedCounts>> {
        Box::pin(async move { self.read_counts(first, len).map_err(unavailable) })
    }

    fn soonest_expiries(
        &self,
        limit: usize,
    ) -> BackendFuture<'_, Vec<(InstallationId, Timestamp)>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for partition in 0..=u8::MAX {
                let first = self.sorted(&keys::expiry(partition), limit);
                let first = first.map_err(unavailable)?.into_iter();
                all.extend(
                    first.filter(|(at, _)| *at != NEVER).filter_map(|(at, id)| {
                        Some((id.parse().ok()?, Timestamp::from_millis(at)))
                    }),
                );
            }
            Ok(soonest(all, limit))
        })
    }
}

impl EmbeddedBackend {
    fn read_counts(&self, first: u32, len: u32) -> Result<Vec<NamedCounts>, redb::Error> {
        let Some(hashes) = table(self.file.read()?.open_table(HASHES))? else {
            return Ok(vec![NamedCounts::new(); len as usize]);
        };
        let read = |bucket| {
            let fields = read_hash(&hashes, &keys::counts(bucket))?;
            let fields = fields.iter();
            Ok(fields
                .filter_map(|(name, number)| Some((name.to_owned(), parse(number)?)))
                .collect())
        };
        (first..first.saturating_add(len)).map(read).collect()
    }
}

fn parse(number: &[u8]) -> Option<u64> {
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// The first bucket that is kept.
fn oldest(bucket: u32) -> u32 {
    bucket.saturating_sub(BUCKETS_KEPT - 1)
}
