//! The audit log in Redis: a sorted set for each list, and a hash of the last uses of keys.

use std::collections::HashMap;

use redis::AsyncCommands;
use store::audit::Day;
use store::connection::Connection;
use store::{KeyHash, keys};

use super::RedisBackend;
use crate::backend::BackendFuture;
use crate::backend::audit::{AuditBackend, AuditList, AuditRow};

impl AuditBackend for RedisBackend {
    fn append_audit(&self, list: AuditList, rows: Vec<AuditRow>) -> BackendFuture<'_, ()> {
        Box::pin(async move {
            let key = self.key(list.key());
            let mut append = redis::pipe();
            for row in &rows {
                append.zadd(&key, &row.json, row.at.as_millis()).ignore();
                // The new form is there first, so that the entry is never missing.
                if let Some(earlier) = &row.replaces {
                    append.zrem(&key, earlier).ignore();
                }
            }
            let most = isize::try_from(list.most()).unwrap_or(isize::MAX);
            append.zremrangebyrank(&key, 0, -most - 1).ignore();
            self.run(async |mut redis: Connection| append.query_async(&mut redis).await)
                .await
        })
    }

    fn audit(&self, list: AuditList, limit: usize) -> BackendFuture<'_, Vec<String>> {
        Box::pin(async move {
            let Some(last) = limit.min(list.most()).checked_sub(1) else {
                return Ok(Vec::new());
            };
            let mut newest = redis::cmd("ZRANGE");
            newest.arg(self.key(list.key())).arg(0).arg(last).arg("REV");
            self.run(async |mut redis: Connection| newest.query_async(&mut redis).await)
                .await
        })
    }

    fn record_key_uses(&self, uses: Vec<(KeyHash, Day)>) -> BackendFuture<'_, ()> {
        Box::pin(async move {
            let mut call = self.used.call([keys::KEYS_USED.to_owned()]);
            for (key, day) in uses {
                call.arg(key.to_string()).arg(day.to_string());
            }
            self.run(|redis| call.run(redis)).await
        })
    }

    fn key_uses(&self) -> BackendFuture<'_, Vec<(KeyHash, Day)>> {
        Box::pin(async move {
            let key = self.key(keys::KEYS_USED);
            let stored: HashMap<String, String> = self
                .run(async |mut redis: Connection| redis.hgetall(key).await)
                .await?;
            let uses = stored.iter();
            let uses = uses.filter_map(|(key, day)| Some((key.parse().ok()?, day.parse().ok()?)));
            Ok(uses.collect())
        })
    }
}
