//! Numbers for the overview in Redis: a hash for each five minutes, and one of the processes that run.

use std::collections::{BTreeMap, HashMap};

use redis::AsyncCommands;
use store::connection::Connection;
use store::{InstallationId, Timestamp, keys};

use super::RedisBackend;
use super::reply::{FirstEntries, all_or_error, first_entries, millis, score_time};
use crate::backend::BackendFuture;
use crate::backend::stats::{BUCKET_TTL, NamedCounts, StatsBackend, soonest};

impl StatsBackend for RedisBackend {
    fn add_counts(&self, bucket: u32, counts: NamedCounts) -> BackendFuture<'_, ()> {
        Box::pin(async move {
            let mut call = self.count.call([keys::counts(bucket)]);
            call.arg(millis(BUCKET_TTL));
            for (name, number) in counts {
                call.arg(name).arg(number);
            }
            self.run(|redis| call.run(redis)).await
        })
    }

    fn counts(&self, first: u32, len: u32) -> BackendFuture<'_, Vec<NamedCounts>> {
        Box::pin(async move {
            let read = (first..first.saturating_add(len)).map(|bucket| {
                let mut command = redis::cmd("HGETALL");
                command.arg(self.key(keys::counts(bucket)));
                command
            });
            let read: Vec<HashMap<String, u64>> = all_or_error(self.query(read).await?)?;
            Ok(read.into_iter().map(NamedCounts::from_iter).collect())
        })
    }

    fn note_seen(&self, seen: Vec<(String, String)>, gone: Vec<String>) -> BackendFuture<'_, ()> {
        Box::pin(async move {
            let key = self.key(keys::SEEN);
            let mut note = redis::pipe();
            if !seen.is_empty() {
                // Not `hset_multiple`, which sends the older HMSET.
                note.cmd("HSET").arg(&key).arg(&seen).ignore();
            }
            if !gone.is_empty() {
                note.hdel(&key, &gone).ignore();
            }
            if note.is_empty() {
                return Ok(());
            }
            self.run(async |mut redis: Connection| note.query_async(&mut redis).await)
                .await
        })
    }

    fn seen(&self) -> BackendFuture<'_, BTreeMap<String, String>> {
        Box::pin(async move {
            let key = self.key(keys::SEEN);
            self.run(async |mut redis: Connection| redis.hgetall(key).await)
                .await
        })
    }

    fn soonest_expiries(
        &self,
        limit: usize,
    ) -> BackendFuture<'_, Vec<(InstallationId, Timestamp)>> {
        Box::pin(async move {
            if limit == 0 {
                return Ok(Vec::new());
            }
            let first = |partition| first_entries(&self.key(keys::expiry(partition)), limit);
            let found: Vec<FirstEntries> = all_or_error(self.query_all_partitions(first).await?)?;
            let entries = found.into_iter().flatten();
            let entries = entries
                .filter_map(|(id, score)| Some((id.parse().ok()?, score_time(score)?)))
                .collect();
            Ok(soonest(entries, limit))
        })
    }
}
