//! The data of one server, with a history to undo recent writes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use store::key_list::{REVISION as REVISION_OF_LIST, RingKind};
use store::record::Fields;
use store::{AppName, InstallationId, Timestamp};
use store_writer::backend::{
    DueEntries, DuePoll, POLL_DEPTH, REVISION, Schedule, StoreStats, Swap,
};
use store_writer::identity::{Servers, StoreMark};

/// How long writes are kept in the history.
const HISTORY: Duration = Duration::from_secs(60);

#[derive(Debug, Default, Clone)]
pub(super) struct Server {
    /// New with every start and every promotion.
    run: u64,
    mark: Option<StoreMark>,
    key_lists: BTreeMap<RingKind, Fields>,
    installations: BTreeMap<InstallationId, InstallationData>,
    locations: BTreeMap<String, String>,
    apps: BTreeMap<String, String>,
    values: BTreeMap<String, (String, Timestamp)>,
    /// The value that each write replaced, and the time of the write.
    history: VecDeque<(Duration, Replaced)>,
}

/// The data of one installation.
#[derive(Debug, Default, Clone)]
struct InstallationData {
    access: Fields,
    refresh: Fields,
    due: Option<(Schedule, Timestamp)>,
    expiry: Option<Timestamp>,
}

#[derive(Debug, Clone)]
enum Replaced {
    Installation(InstallationId, Option<InstallationData>),
    Value(String, Option<(String, Timestamp)>),
}

impl Server {
    /// Undoes the writes since then.
    pub(super) fn lose_since(&mut self, since: Duration) {
        while let Some((_, replaced)) = self.history.pop_back_if(|(at, _)| *at >= since) {
            match replaced {
                Replaced::Installation(id, earlier) => {
                    put(&mut self.installations, id, earlier);
                }
                Replaced::Value(key, earlier) => put(&mut self.values, key, earlier),
            }
        }
    }

    /// Changes the identity of the server, as a restart does.
    pub(super) fn restart(&mut self) {
        self.run += 1;
    }

    pub(super) fn run(&self) -> u64 {
        self.run
    }

    pub(super) fn servers(&self) -> Servers {
        Servers::one(&format!("run-{}", self.run), "replication")
    }

    pub(super) fn mark(&self) -> Option<StoreMark> {
        self.mark.clone()
    }

    pub(super) fn make_mark(&mut self, mark: StoreMark) -> StoreMark {
        self.mark.get_or_insert(mark).clone()
    }

    pub(super) fn key_list(&self, ring: RingKind) -> Fields {
        self.key_lists.get(&ring).cloned().unwrap_or_default()
    }

    pub(super) fn swap_key_list(&mut self, ring: RingKind, expected: &[u8], next: Fields) -> bool {
        let listed = self.key_list(ring);
        let is_expected = listed.bytes(REVISION_OF_LIST).unwrap_or_default() == expected;
        if is_expected {
            self.key_lists.insert(ring, next);
        }
        is_expected
    }

    /// The installation, to be changed at `at`. Records its earlier state in the history.
    fn change(&mut self, id: &InstallationId, at: Duration) -> &mut InstallationData {
        let earlier = self.installations.get(id).cloned();
        self.replaced(at, Replaced::Installation(id.clone(), earlier));
        self.installations.entry(id.clone()).or_default()
    }

    fn replaced(&mut self, at: Duration, what: Replaced) {
        let oldest = at.saturating_sub(HISTORY);
        while self.history.pop_front_if(|(at, _)| *at < oldest).is_some() {}
        self.history.push_back((at, what));
    }

    pub(super) fn record(&self, id: &InstallationId) -> (Fields, Fields) {
        let data = self.installations.get(id);
        data.map(|data| (data.access.clone(), data.refresh.clone()))
            .unwrap_or_default()
    }

    pub(super) fn revision(&self, id: &InstallationId) -> Vec<u8> {
        let data = self.installations.get(id);
        let revision = data.and_then(|data| data.refresh.bytes(REVISION).ok());
        revision.map(<[u8]>::to_vec).unwrap_or_default()
    }

    pub(super) fn swap(&mut self, swap: &Swap, at: Duration) -> bool {
        if self.revision(&swap.id) != swap.expected {
            return false;
        }
        let data = self.change(&swap.id, at);
        for (name, value) in swap.access.iter() {
            data.access.set_bytes(name, value.to_vec());
        }
        for (name, value) in swap.refresh.iter() {
            data.refresh.set_bytes(name, value.to_vec());
        }
        if !swap.removed.is_empty() {
            let left = data.refresh.iter();
            let left = left.filter(|(name, _)| !swap.removed.iter().any(|gone| gone == name));
            data.refresh = left
                .map(|(name, value)| (name.to_owned(), value.to_vec()))
                .collect();
        }
        if !swap.keeps_schedule {
            data.due = swap.wake_at.map(|at| (swap.schedule, at));
            data.expiry = swap.expires_at;
        }
        true
    }

    /// The ids on a schedule, ordered by partition and then by time.
    fn scheduled(&self, schedule: Schedule) -> Vec<(u8, Timestamp, &InstallationId)> {
        let due = self.installations.iter().filter_map(|(id, data)| {
            let (on, at) = data.due?;
            (on == schedule).then(|| (id.partition(), at, id))
        });
        let mut scheduled: Vec<_> = due.collect();
        scheduled.sort_unstable();
        scheduled
    }

    pub(super) fn claim(
        &mut self,
        schedule: Schedule,
        due: DueEntries,
        until: Timestamp,
        at: Duration,
    ) -> Vec<InstallationId> {
        let DueEntries {
            partition,
            limit,
            from,
            by,
        } = due;
        let scheduled = self.scheduled(schedule);
        let due = scheduled.into_iter();
        let due = due.filter(|(of, due, _)| {
            *of == partition && from.is_none_or(|from| *due >= from) && *due <= by
        });
        let claimed: Vec<InstallationId> = due.take(limit).map(|(_, _, id)| id.clone()).collect();
        for id in &claimed {
            self.change(id, at).due = Some((schedule, until));
        }
        claimed
    }

    pub(super) fn reschedule_earlier(&mut self, id: &InstallationId, to: Timestamp, at: Duration) {
        let due = self.installations.get(id).and_then(|data| data.due);
        if let Some((schedule, due)) = due
            && to < due
        {
            self.change(id, at).due = Some((schedule, to));
        }
    }

    pub(super) fn unschedule(&mut self, id: &InstallationId, at: Duration) {
        if self.installations.contains_key(id) {
            self.change(id, at).due = None;
        }
    }

    pub(super) fn poll_due(&self, schedule: Schedule, now: Timestamp) -> DuePoll {
        let scheduled = self.scheduled(schedule);
        let partitions = scheduled.chunk_by(|(one, ..), (other, ..)| one == other);
        let heads = partitions.flat_map(|ids| ids.iter().take(POLL_DEPTH));
        DuePoll::of(heads.map(|(partition, due, _)| (*partition, *due)), now)
    }

    pub(super) fn count_due(&self, by: Timestamp) -> u64 {
        let all = Schedule::ALL.map(|schedule| self.scheduled(schedule));
        all.iter().flatten().filter(|(_, at, _)| *at <= by).count() as u64
    }

    pub(super) fn apps(&self) -> Fields {
        let apps = self.apps.iter();
        apps.map(|(name, id)| (name.clone(), id.clone().into_bytes()))
            .collect()
    }

    pub(super) fn free_app(&mut self, name: &str) -> bool {
        self.apps.remove(name).is_some()
    }

    pub(super) fn name_app(&mut self, name: String, app_id: String) -> String {
        self.apps.entry(name).or_insert(app_id).clone()
    }

    pub(super) fn count_expiring(&self, by: Timestamp) -> u64 {
        let expiries = self.installations.values().filter_map(|data| data.expiry);
        expiries.filter(|at| *at <= by).count() as u64
    }

    pub(super) fn stats(&self) -> StoreStats {
        let expiries = self.installations.values().filter_map(|data| data.expiry);
        StoreStats {
            installations: self.installations.len() as u64,
            refreshing: expiries.clone().count() as u64,
            nearest_expiry: expiries.min(),
        }
    }

    pub(super) fn ids(&self, partition: u8) -> Vec<InstallationId> {
        let ids = self.installations.keys();
        ids.filter(|id| id.partition() == partition)
            .cloned()
            .collect()
    }

    pub(super) fn location(&self, name: &str) -> Fields {
        let held = self.locations.get(name).into_iter();
        held.map(|id| (AppName::DEFAULT.to_owned(), id.clone().into_bytes()))
            .collect()
    }

    pub(super) fn name_location(&mut self, name: String, id: String) -> String {
        self.locations.entry(name).or_insert(id).clone()
    }

    pub(super) fn recall(&self, key: &str, now: Timestamp) -> Option<String> {
        let held = self.values.get(key).filter(|(_, until)| *until > now);
        held.map(|(value, _)| value.clone())
    }

    pub(super) fn remember(
        &mut self,
        key: String,
        value: String,
        until: Timestamp,
        now: Timestamp,
        at: Duration,
    ) -> bool {
        if self.recall(&key, now).is_some() {
            return false;
        }
        let earlier = self.values.insert(key.clone(), (value, until));
        self.replaced(at, Replaced::Value(key, earlier));
        true
    }

    pub(super) fn replace(
        &mut self,
        key: String,
        expected: Option<&str>,
        next: Option<(String, Timestamp)>,
        now: Timestamp,
        at: Duration,
    ) -> bool {
        if self.recall(&key, now).as_deref() != expected {
            return false;
        }
        let earlier = self.values.remove(&key);
        if let Some(next) = next {
            self.values.insert(key.clone(), next);
        }
        self.replaced(at, Replaced::Value(key, earlier));
        true
    }

    pub(super) fn forget(&mut self, key: &str, now: Timestamp, at: Duration) -> bool {
        let was_there = self.recall(key, now).is_some();
        if let Some(earlier) = self.values.remove(key) {
            self.replaced(at, Replaced::Value(key.to_owned(), Some(earlier)));
        }
        was_there
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}
