//! Counts over all installations.

use redis::Pipeline;
use store::connection::Connection;
use store::{InstallationId, Timestamp, keys};

use super::RedisBackend;
use super::reply::{FirstEntries, all_or_error, first_entries, score_time};
use crate::backend::{Outline, StoreStats, outline};
use crate::error::WriteError;

/// See [`Backend::stats`](crate::backend::Backend::stats).
pub(super) async fn stats(store: &RedisBackend) -> Result<StoreStats, WriteError> {
    let count = |partition| {
        let mut command = redis::cmd("ZCARD");
        command.arg(store.key(keys::expiry(partition)));
        command
    };
    let nearest = |partition| first_entries(&store.key(keys::expiry(partition)), 1);
    let first_entries: Vec<FirstEntries> =
        all_or_error(store.query_all_partitions(nearest).await?)?;
    let installations: Vec<u64> = all_or_error(store.query_all_partitions(count).await?)?;
    let expiries = first_entries
        .iter()
        .flatten()
        .filter_map(|(_, score)| score_time(*score));
    Ok(StoreStats {
        installations: installations.iter().sum(),
        refreshing: count_up_to(store, "(+inf").await?,
        nearest_expiry: expiries.min(),
    })
}

/// See [`Backend::count_expiring`](crate::backend::Backend::count_expiring).
pub(super) async fn expiring(store: &RedisBackend, by: Timestamp) -> Result<u64, WriteError> {
    count_up_to(store, &by.as_millis().to_string()).await
}

/// Counts the installations with an expiry up to this score.
async fn count_up_to(store: &RedisBackend, last: &str) -> Result<u64, WriteError> {
    let count = |partition| {
        let mut command = redis::cmd("ZCOUNT");
        command
            .arg(store.key(keys::expiry(partition)))
            .arg("-inf")
            .arg(last);
        command
    };
    let counts: Vec<u64> = all_or_error(store.query_all_partitions(count).await?)?;
    Ok(counts.iter().sum())
}

/// See [`Backend::outlines`](crate::backend::Backend::outlines). Reads one field of a record whose token is refreshed.
pub(super) async fn outlines(
    store: &RedisBackend,
    partition: u8,
    from: usize,
    limit: usize,
) -> Result<Vec<Option<Outline>>, WriteError> {
    let mut range = redis::cmd("ZRANGE");
    range.arg(store.key(keys::expiry(partition))).arg(from);
    range.arg(from + limit.saturating_sub(1)).arg("WITHSCORES");
    let entries: FirstEntries = store
        .run(async |mut redis: Connection| range.query_async(&mut redis).await)
        .await?;
    let listed: Vec<Option<(InstallationId, bool)>> = entries
        .into_iter()
        .map(|(id, score)| Some((id.parse().ok()?, score.is_finite())))
        .collect();
    let entries: Vec<&(InstallationId, bool)> = listed.iter().flatten().collect();
    let mut fields = redis::pipe();
    for (id, has_expiry) in entries.iter().copied() {
        let access = store.key(keys::access(id));
        get(&mut fields, &store.key(keys::refresh(id)), outline::REFUSED);
        if !has_expiry {
            for name in [outline::STATUS, outline::PARENT, outline::EXPIRES_AT] {
                get(&mut fields, &access, name);
            }
        }
    }
    let mut values = query(store, fields).await?.into_iter();
    let mut outlines: Vec<Outline> = Vec::with_capacity(entries.len());
    for (_, has_expiry) in entries.iter().copied() {
        let mut outline = Outline {
            has_expiry: *has_expiry,
            refused: values.next().flatten(),
            ..Outline::default()
        };
        if !has_expiry {
            outline.status = values.next().flatten();
            outline.parent = values.next().flatten();
            outline.expires_at = values.next().flatten();
        }
        outlines.push(outline);
    }
    let is_refused = |outline: &Outline| outline.refused.as_ref().is_some_and(|it| !it.is_empty());
    let mut generations = redis::pipe();
    for ((id, _), outline) in entries.iter().zip(&outlines) {
        if is_refused(outline) {
            get(
                &mut generations,
                &store.key(keys::access(id)),
                outline::GENERATION,
            );
        }
    }
    let generations = query(store, generations).await?;
    let refused = outlines.iter_mut().filter(|it| is_refused(it));
    for (outline, generation) in refused.zip(generations) {
        outline.generation = generation;
    }
    let mut outlines = outlines.into_iter();
    let all = listed
        .iter()
        .map(|it| it.as_ref().and_then(|_| outlines.next()));
    Ok(all.collect())
}

fn get(fields: &mut Pipeline, key: &str, name: &str) {
    fields.cmd("HGET").arg(key).arg(name);
}

async fn query(store: &RedisBackend, fields: Pipeline) -> Result<Vec<Option<Vec<u8>>>, WriteError> {
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    store
        .run(async |mut redis: Connection| fields.query_async(&mut redis).await)
        .await
}
