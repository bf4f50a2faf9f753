//! A search through all installations that is bounded in time, for filters that no index answers.

#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use store::InstallationId;
use tokio::time::Instant;

use super::{Listed, StoreWriter, WriteError};

/// Records that are read at once. A server answers them over one connection.
const READS: usize = 64;

/// The result of [`StoreWriter::scan`].
#[derive(Debug)]
pub struct Scanned {
    /// Those that were wanted, in the order of their ids.
    pub found: Vec<Listed>,
    /// How many installations were looked at.
    pub seen: u64,
    /// The last one that was looked at, if there may be more after it. `None` at the end.
    pub next: Option<InstallationId>,
}

impl StoreWriter {
    /// Looks at the installations after `after`, in the order of their ids, until `limit` of them are wanted, all were
    /// seen, or `budget` is over. It looks at some at least.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn scan(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
        budget: Duration,
        is_wanted: impl Fn(&Listed) -> bool,
    ) -> Result<Scanned, WriteError> {
        let started = Instant::now();
        let (mut found, mut seen) = (Vec::new(), 0);
        let mut last = after.cloned();
        // The first byte of an id is its partition, so ids in order of partitions are in order.
        for partition in after.map_or(0, InstallationId::partition)..=u8::MAX {
            let ids = self.backend.ids(partition).await?;
            let rest: Vec<_> = ids
                .into_iter()
                .filter(|id| after.is_none_or(|after| id > after))
                .collect();
            for some in rest.chunks(READS) {
                if found.len() >= limit || (seen > 0 && started.elapsed() >= budget) {
                    return Ok(Scanned {
                        found,
                        seen,
                        next: last,
                    });
                }
                // A file answers at once, and other tasks of this thread must not wait for the whole scan.
                tokio::task::yield_now().await;
                let reads = some.iter().cloned().map(|id| self.read_entry(id));
                let mut reads = stream::iter(reads).buffered(READS);
                for id in some {
                    let Some(entry) = reads.next().await else {
                        break;
                    };
                    let entry = entry?;
                    seen += 1;
                    last = Some(id.clone());
                    found.extend(entry.filter(|entry| is_wanted(entry)));
                    if found.len() >= limit {
                        break;
                    }
                }
            }
        }
        Ok(Scanned {
            next: last.filter(|_| found.len() >= limit),
            found,
            seen,
        })
    }
}
