//! One pass over all records and over the answers in escrow.

use std::time::Duration;

use futures_util::future::join_all;
use store::InstallationId;
use store_writer::journal::Entry;
use store_writer::writer::SealCount;
use tokio::time::{Instant, sleep_until};

use super::{Job, Phase, Stop};

/// Records that are sealed anew at once.
const CONCURRENCY: usize = 32;
/// A fraction of what a store takes beside the refreshes: a million records in 33 minutes.
const WRITES_PER_SECOND: u32 = 500;
/// A million records in two minutes.
const READS_PER_SECOND: u32 = 8000;

/// The result of a pass.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The keys that the records needed when they were read.
    pub before: SealCount,
    /// The keys that they need now.
    pub left: SealCount,
}

impl Job<'_> {
    /// Seals everything anew that is not sealed with the first keys.
    pub(super) async fn pass(&mut self, phase: Phase) -> Result<Found, Stop> {
        (self.progress.done, self.progress.unreadable) = (0, 0);
        self.enter(phase);
        self.count_records().await?;
        let mut found = Found::default();
        for partition in 0..=u8::MAX {
            let ids = loop {
                match self.worker.writer.partition(partition).await {
                    Ok(ids) => break ids,
                    Err(error) => self.wait_for(&error).await?,
                }
            };
            for ids in ids.chunks(CONCURRENCY) {
                self.reseal(ids, &mut found).await?;
            }
        }
        self.reseal_escrow(&mut found).await?;
        Ok(found)
    }

    async fn count_records(&mut self) -> Result<(), Stop> {
        loop {
            match self.worker.writer.stats().await {
                Ok(stats) => {
                    self.progress.total = stats.installations;
                    return Ok(());
                }
                Err(error) => self.wait_for(&error).await?,
            }
        }
    }

    /// Seals some records anew, each until it succeeds.
    async fn reseal(&mut self, ids: &[InstallationId], found: &mut Found) -> Result<(), Stop> {
        let started = Instant::now();
        let (mut left, mut written) = (ids.to_vec(), 0);
        while !left.is_empty() {
            let writer = &self.worker.writer;
            let resealed = join_all(left.iter().map(|id| writer.reseal(id))).await;
            let (mut again, mut failure) = (Vec::new(), None);
            for (id, resealed) in left.into_iter().zip(resealed) {
                match resealed {
                    Ok(resealed) => {
                        found.before.add(&resealed.before);
                        found.left.add(&resealed.after);
                        written += u32::from(resealed.is_written);
                        self.progress.unreadable += u64::from(has_unreadable(&resealed.after));
                        self.progress.done += 1;
                    }
                    Err(error) => {
                        again.push(id);
                        failure = Some(error);
                    }
                }
            }
            left = again;
            if let Some(error) = failure {
                self.wait_for(&error).await?;
            }
        }
        self.progress.resealed += u64::from(written);
        let phase = self.progress.phase;
        self.enter(phase);
        self.renew_in_time().await?;
        let read = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let least = pace(read, written);
        sleep_until(started + least).await;
        Ok(())
    }

    /// Seals the answers of GHL anew that are in escrow.
    async fn reseal_escrow(&mut self, found: &mut Found) -> Result<(), Stop> {
        let escrow = self.worker.escrow.clone();
        let installations = loop {
            match escrow.installations().await {
                Ok(installations) => break installations,
                Err(error) => self.wait_for(&error).await?,
            }
        };
        for id in installations {
            let entries = loop {
                match escrow.find(&id).await {
                    Ok(entries) => break entries,
                    Err(error) => self.wait_for(&error).await?,
                }
            };
            for entry in entries {
                self.reseal_answer(&entry, found).await?;
            }
        }
        Ok(())
    }

    async fn reseal_answer(&mut self, entry: &Entry, found: &mut Found) -> Result<(), Stop> {
        let ring = &self.worker.writer.rings().refresh.clone();
        let key = entry.answer.as_ref().and_then(|answer| answer.key_id());
        let Some(key) = key.filter(|key| *key != ring.first_id()) else {
            return Ok(());
        };
        let mut needed = SealCount::default();
        needed.refresh.sealed.insert(key.to_owned(), 1);
        found.before.add(&needed);
        let Some(resealed) = entry.resealed(ring) else {
            found.left.add(&needed);
            return Ok(());
        };
        loop {
            match self.worker.escrow.keep(&resealed).await {
                Ok(()) => return Ok(()),
                Err(error) => self.wait_for(&error).await?,
            }
        }
    }
}

/// The least time for this many reads and writes.
fn pace(read: u32, written: u32) -> Duration {
    let reads = Duration::from_secs(1) * read / READS_PER_SECOND;
    let writes = Duration::from_secs(1) * written / WRITES_PER_SECOND;
    reads + writes
}

fn has_unreadable(count: &SealCount) -> bool {
    let keys = [&count.access.unreadable, &count.refresh.unreadable];
    count.malformed > 0 || keys.iter().any(|keys| !keys.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_have_their_own_rates() {
        assert_eq!(pace(32, 0), Duration::from_millis(4));
        assert_eq!(pace(32, 32), Duration::from_millis(68));
        assert_eq!(pace(0, 0), Duration::ZERO);
    }
}
