//! Schedules: sorted sets by when something is due.

use std::time::Duration;

use store::Timestamp;
use store::connection::Connection;

use super::RedisBackend;
use super::reply::{due_poll, first_entries, millis};
use crate::backend::{DueEntries, DuePoll, POLL_DEPTH};
use crate::error::WriteError;

impl RedisBackend {
    /// Reads the first entries of these partitions of a schedule.
    pub(super) async fn poll_schedule(
        &self,
        partitions: &[u8],
        key: impl Fn(u8) -> String,
    ) -> Result<DuePoll, WriteError> {
        let now = self.time().await?;
        let asked = partitions.iter();
        let heads = asked.map(|partition| first_entries(&self.key(key(*partition)), POLL_DEPTH));
        due_poll(now, partitions, self.query(heads).await?)
    }

    /// Takes entries of a schedule that are due, and reschedules them.
    pub(super) async fn claim_entries(
        &self,
        key: String,
        due: DueEntries,
        claim: Duration,
    ) -> Result<Vec<String>, WriteError> {
        let mut call = self.claim.call([key]);
        call.arg(due.limit).arg(due.by.as_millis());
        call.arg(millis(claim)).arg(
            due.from
                .map_or("-inf".to_owned(), |from| from.as_millis().to_string()),
        );
        self.run(|redis| call.run(redis)).await
    }

    /// Reschedules an entry to `at` in those of these schedules where it is due later.
    pub(super) async fn reschedule_sooner(
        &self,
        keys: [String; 2],
        entry: &str,
        at: Timestamp,
    ) -> Result<(), WriteError> {
        let mut sooner = redis::pipe();
        for key in keys {
            let command = sooner.cmd("ZADD").arg(self.key(key)).arg("XX").arg("LT");
            command.arg(at.as_millis()).arg(entry).ignore();
        }
        self.run(async |mut redis: Connection| sooner.query_async(&mut redis).await)
            .await
    }
}
