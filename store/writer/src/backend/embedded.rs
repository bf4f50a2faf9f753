//! The store in a database file of one process, under the same key names as in Redis.

mod apps;
mod audit;
mod families;
mod index;
mod key_list;
mod mark;
pub(crate) mod moving;
mod outbox;
mod reader;
mod schedule;
mod stats;
mod tables;

use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures_util::future::BoxFuture;
use redb::{ReadableTable, WriteTransaction};
use store::clock::{Moment, StoreClock};
use store::key_list::RingKind;
use store::record::Fields;
use store::{AppName, InstallationId, Invalidation, KeyHash, Timestamp, keys};
use tokio::sync::broadcast;

use super::{
    Backend, BackendFuture, CanaryReading, Confirmation, DueEntries, DuePoll, Loaded, Schedule,
    StoreStats, Swap,
};
use crate::check::{ClockReading, Facts, Info, ProbeError};
use crate::error::WriteError;
use crate::group_commit_db::{DbError, GroupCommitDb};
use crate::identity::{Servers, StoreMark};
use tables::{HASHES, NEVER, SCORES, SORTED, STRINGS, read_hash, set_score, swap_in, table};

/// A reader that falls behind by more announcements is stuck.
const BACKLOG: usize = 16 * 1024;

/// The store in one file.
#[derive(Debug)]
pub struct EmbeddedBackend {
    file: GroupCommitDb,
    invalidations: broadcast::Sender<Invalidation>,
    /// How many rows of the audit log were added since the start.
    audit_rows: AtomicUsize,
}

impl EmbeddedBackend {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// When another process has the file open, or it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        let file = GroupCommitDb::open(path)?;
        let (invalidations, _) = broadcast::channel(BACKLOG);
        Ok(Self {
            file,
            invalidations,
            audit_rows: AtomicUsize::new(0),
        })
    }

    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, WriteError> {
        let written = self.file.write(change).await;
        written.map_err(|error| WriteError::Unavailable(Box::new(error)))
    }

    fn hash(&self, key: &str) -> Result<Fields, redb::Error> {
        let [fields] = self.hashes([key])?;
        Ok(fields)
    }

    /// Several hashes in one consistent read.
    fn hashes<const N: usize>(&self, keys: [&str; N]) -> Result<[Fields; N], redb::Error> {
        let mut read = [const { Fields::new() }; N];
        let Some(hashes) = table(self.file.read()?.open_table(HASHES))? else {
            return Ok(read);
        };
        for (fields, key) in read.iter_mut().zip(keys) {
            *fields = read_hash(&hashes, key)?;
        }
        Ok(read)
    }

    fn string(&self, key: &str) -> Result<Option<String>, redb::Error> {
        let Some(strings) = table(self.file.read()?.open_table(STRINGS))? else {
            return Ok(None);
        };
        let found = strings.get(key)?;
        let live = found.filter(|found| found.value().1 > now().as_millis());
        Ok(live.map(|found| found.value().0.to_owned()))
    }

    /// The first members of a sorted set with their scores, lowest first.
    fn sorted(&self, key: &str, limit: usize) -> Result<Vec<(i64, String)>, redb::Error> {
        let Some(sorted) = table(self.file.read()?.open_table(SORTED))? else {
            return Ok(Vec::new());
        };
        let members = sorted.range((key, i64::MIN, "")..=(key, NEVER, "\u{10ffff}"))?;
        members
            .take(limit)
            .map(|member| {
                let (member, _) = member?;
                let (_, score, id) = member.value();
                Ok((score, id.to_owned()))
            })
            .collect()
    }
}

impl Backend for EmbeddedBackend {
    fn load<'a>(&'a self, id: &'a InstallationId) -> BackendFuture<'a, Loaded> {
        Box::pin(async move {
            // In one read, because a swap would not notice that one half is older than the other.
            let both = [&keys::access(id), &keys::refresh(id)];
            let [access, refresh] = self.hashes(both.map(String::as_str)).map_err(unavailable)?;
            Ok(Loaded {
                access,
                refresh,
                now: now(),
            })
        })
    }

    fn swap(&self, swap: Swap) -> BackendFuture<'_, bool> {
        Box::pin(async move {
            let invalidation = swap.announce.as_deref().map(Invalidation::from_message);
            let is_swapped = self.write(move |store| swap_in(store, &swap)).await?;
            if let (true, Some(invalidation)) = (is_swapped, invalidation) {
                announce(&self.invalidations, invalidation);
            }
            Ok(is_swapped)
        })
    }

    fn mark(&self) -> BackendFuture<'_, Option<StoreMark>> {
        Box::pin(async move {
            let fields = self.hash(keys::STORE).map_err(unavailable)?;
            Ok(mark::parse(&fields))
        })
    }

    fn make_mark<'a>(&'a self, mark: &'a StoreMark) -> BackendFuture<'a, StoreMark> {
        let mark = mark.clone();
        Box::pin(self.write(move |store| mark::make(store, mark)))
    }

    fn key_list(&self, ring: RingKind) -> BackendFuture<'_, Fields> {
        Box::pin(async move { self.hash(&keys::key_list(ring)).map_err(unavailable) })
    }

    fn swap_key_list<'a>(
        &'a self,
        ring: RingKind,
        expected: &'a [u8],
        next: Fields,
    ) -> BackendFuture<'a, bool> {
        let expected = expected.to_vec();
        Box::pin(self.write(move |store| key_list::swap_in(store, ring, &expected, &next)))
    }

    /// The file loses nothing that it confirmed, so the server never changes.
    fn servers(&self) -> BackendFuture<'_, Option<Servers>> {
        Box::pin(async { Ok(Some(Servers::one("file", ""))) })
    }

    /// A file loses no writes by itself. Writing a canary would only cause a sync.
    fn write_canary<'a>(&'a self, _: &'a str, _: i64) -> BackendFuture<'a, Vec<CanaryReading>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn server_change_count(&self) -> u64 {
        0
    }

    fn file(&self) -> Option<&GroupCommitDb> {
        Some(&self.file)
    }

    /// The store's time is this machine's time when the process started.
    fn facts(&self) -> BackendFuture<'_, Vec<Facts>> {
        Box::pin(async {
            Ok(vec![Facts {
                server: "store.redb".to_owned(),
                info: Some(Info::default()),
                config: None,
                clock: ClockReading {
                    server_time: now(),
                    local_time: Timestamp::of_this_machine(),
                    at: Moment::now(),
                },
                replicas_wanted: 0,
            }])
        })
    }

    fn probe(&self, partition: u8) -> BoxFuture<'_, Result<(), ProbeError>> {
        let key = keys::probe(partition, &store::random::hex::<8>());
        Box::pin(async move {
            let refused = |reason| ProbeError::NoWrites(Box::new(reason));
            self.file.ready_to_spend().map_err(refused)?;
            let ttl = Duration::from_secs(60);
            let written = self.put_if_absent(&key, "1", ttl).await;
            written.map_err(ProbeError::Unavailable)?;
            let is_there = self.delete(&key).await.map_err(ProbeError::Unavailable)?;
            is_there.then_some(()).ok_or(ProbeError::ValueLost)
        })
    }

    /// There is one copy.
    fn can_fail_over(&self) -> bool {
        false
    }

    fn confirm<'a>(
        &'a self,
        _: &'a InstallationId,
        _: &'a [u8],
    ) -> BackendFuture<'a, Confirmation> {
        Box::pin(async { Ok(Confirmation::Confirmed) })
    }

    fn claim<'a>(
        &'a self,
        schedule: Schedule,
        app: &'a AppName,
        due: DueEntries,
        claim: Duration,
    ) -> BackendFuture<'a, Vec<InstallationId>> {
        let key = schedule.key(due.partition, app);
        Box::pin(async move {
            let ids = self.claim_entries(key, due, claim).await?;
            Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
        })
    }

    fn reschedule_earlier<'a>(
        &'a self,
        id: &'a InstallationId,
        app: &'a AppName,
        at: Timestamp,
    ) -> BackendFuture<'a, ()> {
        let (id, app) = (id.clone(), app.clone());
        Box::pin(self.write(move |store| {
            for schedule in Schedule::ALL {
                let key = schedule.key(id.partition(), &app);
                let scores = store.open_table(SCORES)?;
                let planned = scores.get((key.as_str(), id.as_str()))?;
                let planned = planned.map(|score| score.value());
                drop(scores);
                if planned.is_some_and(|planned| at.as_millis() < planned) {
                    set_score(store, &key, id.as_str(), Some(at.as_millis()))?;
                }
            }
            Ok(())
        }))
    }

    fn unschedule<'a>(&'a self, id: &'a InstallationId, app: &'a AppName) -> BackendFuture<'a, ()> {
        let (id, app) = (id.clone(), app.clone());
        Box::pin(self.write(move |store| {
            for schedule in Schedule::ALL {
                let key = schedule.key(id.partition(), &app);
                set_score(store, &key, id.as_str(), None)?;
            }
            Ok(())
        }))
    }

    fn poll_due<'a>(&'a self, schedule: Schedule, app: &'a AppName) -> BackendFuture<'a, DuePoll> {
        Box::pin(async move {
            let all: Vec<u8> = (0..=u8::MAX).collect();
            self.poll_schedule(&all, |partition| schedule.key(partition, app))
                .map_err(unavailable)
        })
    }

    fn count_due<'a>(&'a self, app: &'a AppName, by: Timestamp) -> BackendFuture<'a, u64> {
        Box::pin(async move { apps::count_due(self, app, by).map_err(unavailable) })
    }

    fn apps(&self) -> BackendFuture<'_, Fields> {
        Box::pin(async move { self.hash(keys::APPS).map_err(unavailable) })
    }

    fn free_app<'a>(&'a self, name: &'a AppName) -> BackendFuture<'a, bool> {
        let name = name.clone();
        Box::pin(self.write(move |store| {
            let removed = store
                .open_table(HASHES)?
                .remove((keys::APPS, name.as_str()))?
                .is_some();
            Ok(removed)
        }))
    }

    fn name_app<'a>(&'a self, name: &'a AppName, app_id: &'a str) -> BackendFuture<'a, String> {
        let (name, app_id) = (name.clone(), app_id.to_owned());
        Box::pin(
            self.write(move |store| {
                apps::get_or_insert(store, (keys::APPS, name.as_str()), &app_id)
            }),
        )
    }

    fn stats(&self) -> BackendFuture<'_, StoreStats> {
        Box::pin(async move { families::stats(self).map_err(unavailable) })
    }

    fn count_expiring(&self, by: Timestamp) -> BackendFuture<'_, u64> {
        Box::pin(async move { families::count_expiring(self, by).map_err(unavailable) })
    }

    fn family<'a>(&'a self, family: &'a str) -> BackendFuture<'a, Vec<InstallationId>> {
        Box::pin(async move { families::members(self, family).map_err(unavailable) })
    }

    fn memory(&self) -> BackendFuture<'_, Option<u64>> {
        Box::pin(async { Ok(None) })
    }

    fn ids(&self, partition: u8) -> BackendFuture<'_, Vec<InstallationId>> {
        Box::pin(async move {
            let all = self
                .sorted(&keys::expiry(partition), usize::MAX)
                .map_err(unavailable)?;
            let mut ids: Vec<InstallationId> =
                all.iter().filter_map(|(_, id)| id.parse().ok()).collect();
            ids.sort_unstable();
            Ok(ids)
        })
    }

    fn put_caller<'a>(&'a self, key: &'a KeyHash, fields: Fields) -> BackendFuture<'a, ()> {
        let hash = *key;
        Box::pin(async move {
            self.write(move |store| {
                let mut hashes = store.open_table(HASHES)?;
                let key = keys::caller(&hash);
                for (name, value) in fields.iter() {
                    hashes.insert((key.as_str(), name), value)?;
                }
                hashes.insert((keys::CALLERS, hash.to_string().as_str()), [].as_slice())?;
                Ok(())
            })
            .await?;
            announce(&self.invalidations, Invalidation::Caller(hash));
            Ok(())
        })
    }

    fn insert_caller<'a>(&'a self, key: &'a KeyHash, fields: Fields) -> BackendFuture<'a, bool> {
        let hash = *key;
        Box::pin(async move {
            let known = self.hash(&keys::caller(&hash)).map_err(unavailable)?;
            // This process is the only one that writes, and it registers keys at its start alone.
            if known.iter().next().is_some() {
                return Ok(false);
            }
            self.put_caller(&hash, fields).await?;
            Ok(true)
        })
    }

    fn callers(&self) -> BackendFuture<'_, Vec<(KeyHash, Fields)>> {
        Box::pin(async move {
            let known = self.hash(keys::CALLERS).map_err(unavailable)?;
            let hashes = known.iter().filter_map(|(hash, _)| hash.parse().ok());
            hashes
                .map(|hash| {
                    let fields = self.hash(&keys::caller(&hash)).map_err(unavailable)?;
                    Ok((hash, fields))
                })
                .collect()
        })
    }

    fn put_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: &'a str,
        ttl: Duration,
    ) -> BackendFuture<'a, bool> {
        let (key, value) = (key.to_owned(), value.to_owned());
        Box::pin(self.write(move |store| {
            let mut strings = store.open_table(STRINGS)?;
            let now = now();
            // Nothing else removes expired values, and there are few.
            strings.retain(|_, (_, expiry)| expiry > now.as_millis())?;
            if strings.get(key.as_str())?.is_some() {
                return Ok(false);
            }
            strings.insert(key.as_str(), (value.as_str(), (now + ttl).as_millis()))?;
            Ok(true)
        }))
    }

    fn get<'a>(&'a self, key: &'a str) -> BackendFuture<'a, Option<String>> {
        Box::pin(async move { self.string(key).map_err(unavailable) })
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a str,
        expected: Option<&'a str>,
        next: Option<&'a str>,
        ttl: Duration,
    ) -> BackendFuture<'a, bool> {
        let key = key.to_owned();
        let (expected, next) = (expected.map(str::to_owned), next.map(str::to_owned));
        Box::pin(self.write(move |store| {
            let mut strings = store.open_table(STRINGS)?;
            let now = now();
            let live = strings
                .get(key.as_str())?
                .filter(|stored| stored.value().1 > now.as_millis())
                .map(|stored| stored.value().0.to_owned());
            if live != expected {
                return Ok(false);
            }
            match next {
                Some(next) => {
                    let end = (now + ttl).as_millis();
                    strings.insert(key.as_str(), (next.as_str(), end))?;
                }
                None => {
                    strings.remove(key.as_str())?;
                }
            }
            Ok(true)
        }))
    }

    fn delete<'a>(&'a self, key: &'a str) -> BackendFuture<'a, bool> {
        let key = key.to_owned();
        Box::pin(self.write(move |store| {
            let mut strings = store.open_table(STRINGS)?;
            let removed = strings.remove(key.as_str())?;
            Ok(removed.is_some_and(|stored| stored.value().1 > now().as_millis()))
        }))
    }
}

/// The store's time: this machine's time at the start of the process, continued by a monotonic clock.
fn now() -> Timestamp {
    static CLOCK: LazyLock<StoreClock> = LazyLock::new(StoreClock::new);
    CLOCK.now()
}

fn announce(invalidations: &broadcast::Sender<Invalidation>, invalidation: Invalidation) {
    // An error means that there is no receiver, which is fine.
    let _ = invalidations.send(invalidation);
}

fn unavailable(error: redb::Error) -> WriteError {
    WriteError::Unavailable(Box::new(error))
}
