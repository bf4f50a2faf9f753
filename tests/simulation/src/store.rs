//! The simulated store: Redis as brokers see it. It can be unreachable, lose its last seconds, have two
//! masters, and step its clock.

mod outbox;
mod server;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use store::audit::Day;
use store::key_list::RingKind;
use store::reader::{ReadBackend, ReadError};
use store::record::Fields;
use store::{AppName, InstallationId, Invalidation, KeyHash, Timestamp};
use store_writer::backend::audit::{AuditBackend, AuditList, AuditRow};
use store_writer::backend::index::{IndexBackend, Removal};
use store_writer::backend::stats::StatsBackend;
use store_writer::backend::{
    Backend, BackendFuture, CanaryReading, Confirmation, DueEntries, DuePoll, Loaded, Schedule,
    StoreStats, Swap,
};
use store_writer::check::{Facts, ProbeError};
use store_writer::identity::{Servers, StoreMark};
use store_writer::writer::WriteError;
use tokio::sync::broadcast;

use self::server::Server;
use super::network::NetworkPath;
use super::world::{World, lock};

/// The servers that act as the store, and which machines use which.
#[derive(Debug)]
pub(super) struct Store {
    world: World,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The master.
    master: Server,
    /// A former master, and the machines that still write to it.
    former: Option<(Server, Vec<usize>)>,
    is_down: bool,
    /// How far the store's clock is ahead, in milliseconds.
    clock_offset: i64,
}

impl Store {
    pub(super) fn new(world: World) -> Self {
        Self {
            world,
            state: Mutex::default(),
        }
    }

    /// The store's time on the master.
    pub(super) fn now(&self) -> Timestamp {
        let clock_offset = lock(&self.state).clock_offset;
        Timestamp::from_millis(self.world.time().as_millis() + clock_offset)
    }

    pub(super) fn step_clock(&self, millis: i64) {
        lock(&self.state).clock_offset += millis;
    }

    pub(super) fn set_down(&self, is_down: bool) {
        lock(&self.state).is_down = is_down;
    }

    /// Loses the writes of the time `last`.
    pub(super) fn forget(&self, last: Duration) {
        let since = self.world.now().saturating_sub(last);
        let mut state = lock(&self.state);
        state.master.lose_since(since);
        state.master.restart();
    }

    /// From now on `machines` write to a former master, and all others to a new one.
    pub(super) fn split(&self, machines: Vec<usize>) {
        let mut state = lock(&self.state);
        state.former = Some((state.master.clone(), machines));
        state.master.restart();
    }

    /// Ends the split. The writes to the former master are lost.
    pub(super) fn join(&self) {
        lock(&self.state).former = None;
    }

    /// Both hashes of a record on the master.
    pub(super) fn record(&self, id: &InstallationId) -> (Fields, Fields) {
        lock(&self.state).master.record(id)
    }

    /// Runs `act` on the server that `machine` uses as the store, with the store's time.
    fn act<T>(
        &self,
        machine: usize,
        act: impl FnOnce(&mut Server, Duration, Timestamp) -> T,
    ) -> Option<T> {
        let (at, now) = (self.world.now(), self.now());
        let mut state = lock(&self.state);
        if state.is_down {
            return None;
        }
        let State { master, former, .. } = &mut *state;
        let server = match former {
            Some((former, machines)) if machines.contains(&machine) => former,
            Some(_) | None => master,
        };
        Some(act(server, at, now))
    }
}

/// How long a canary is kept.
const CANARY_TTL: Duration = Duration::from_secs(600);

/// The connection of one machine to the store.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    store: Arc<Store>,
    path: NetworkPath,
    changes: broadcast::Sender<Invalidation>,
    /// The servers that a record was read from.
    seen_servers: Arc<Mutex<BTreeSet<u64>>>,
}

impl Connection {
    pub(super) fn new(store: Arc<Store>, path: NetworkPath) -> Self {
        let (changes, _) = broadcast::channel(1);
        Self {
            store,
            path,
            changes,
            seen_servers: Arc::default(),
        }
    }

    fn ask<'a, T: Send + 'static>(
        &'a self,
        act: impl FnOnce(&mut Server, Duration, Timestamp) -> T + Send + 'static,
    ) -> BoxFuture<'a, Option<T>> {
        let (store, machine) = (self.store.clone(), self.path.machine);
        Box::pin(self.path.ask(move || store.act(machine, act)))
    }

    fn write<'a, T: Send + 'static>(
        &'a self,
        act: impl FnOnce(&mut Server, Duration, Timestamp) -> T + Send + 'static,
    ) -> BackendFuture<'a, T> {
        let answer = self.ask(act);
        Box::pin(async move {
            answer
                .await
                .ok_or_else(|| WriteError::Unavailable("the simulated store is unreachable".into()))
        })
    }

    fn read<'a, T: Send + 'static>(
        &'a self,
        act: impl FnOnce(&mut Server, Duration, Timestamp) -> T + Send + 'static,
    ) -> BoxFuture<'a, Result<T, ReadError>> {
        let answer = self.ask(act);
        Box::pin(async move {
            answer
                .await
                .ok_or_else(|| ReadError::Unavailable("the simulated store is unreachable".into()))
        })
    }
}

impl Backend for Connection {
    fn load<'a>(&'a self, id: &'a InstallationId) -> BackendFuture<'a, Loaded> {
        let id = id.clone();
        let loaded = self.write(move |server, _, now| {
            let (access, refresh) = server.record(&id);
            let loaded = Loaded {
                access,
                refresh,
                now,
            };
            (server.run(), loaded)
        });
        Box::pin(async move {
            let (run, loaded) = loaded.await?;
            lock(&self.seen_servers).insert(run);
            Ok(loaded)
        })
    }

    fn swap(&self, swap: Swap) -> BackendFuture<'_, bool> {
        let (world, machine) = (self.path.world.clone(), self.path.machine);
        self.write(move |server, at, _| {
            let is_swapped = server.swap(&swap, at);
            let id = &swap.id;
            world.log(format_args!("store: {machine} writes {id}: {is_swapped}"));
            is_swapped
        })
    }

    fn mark(&self) -> BackendFuture<'_, Option<StoreMark>> {
        self.write(|server, _, _| server.mark())
    }

    fn make_mark<'a>(&'a self, mark: &'a StoreMark) -> BackendFuture<'a, StoreMark> {
        let mark = mark.clone();
        self.write(move |server, _, _| server.make_mark(mark))
    }

    fn key_list(&self, ring: RingKind) -> BackendFuture<'_, Fields> {
        self.write(move |server, _, _| server.key_list(ring))
    }

    fn swap_key_list<'a>(
        &'a self,
        ring: RingKind,
        expected: &'a [u8],
        next: Fields,
    ) -> BackendFuture<'a, bool> {
        let expected = expected.to_vec();
        self.write(move |server, _, _| server.swap_key_list(ring, &expected, next))
    }

    fn servers(&self) -> BackendFuture<'_, Option<Servers>> {
        self.write(|server, _, _| Some(server.servers()))
    }

    fn write_canary<'a>(
        &'a self,
        name: &'a str,
        number: i64,
    ) -> BackendFuture<'a, Vec<CanaryReading>> {
        let name = format!("canary {name}");
        self.write(move |server, at, now| {
            let held = server.recall(&name, now).and_then(|held| held.parse().ok());
            let until = now + CANARY_TTL;
            server.forget(&name, now, at);
            server.remember(name, number.to_string(), until, now, at);
            vec![Some(held)]
        })
    }

    fn server_change_count(&self) -> u64 {
        lock(&self.seen_servers).len() as u64
    }

    /// The simulated store has safe settings, so it reports no facts.
    fn facts(&self) -> BackendFuture<'_, Vec<Facts>> {
        self.write(|_, _, _| Vec::new())
    }

    fn probe(&self, _: u8) -> BoxFuture<'_, Result<(), ProbeError>> {
        Box::pin(async { Ok(()) })
    }

    fn can_fail_over(&self) -> bool {
        true
    }

    fn confirm<'a>(
        &'a self,
        id: &'a InstallationId,
        revision: &'a [u8],
    ) -> BackendFuture<'a, Confirmation> {
        let (id, revision) = (id.clone(), revision.to_vec());
        self.write(move |server, _, _| {
            if server.revision(&id) == revision {
                Confirmation::Confirmed
            } else {
                Confirmation::Overwritten
            }
        })
    }

    /// There is one app in the simulated world, so all schedules are its own.
    fn claim<'a>(
        &'a self,
        schedule: Schedule,
        _: &'a AppName,
        due: DueEntries,
        claim: Duration,
    ) -> BackendFuture<'a, Vec<InstallationId>> {
        self.write(move |server, at, now| server.claim(schedule, due, now + claim, at))
    }

    fn reschedule_earlier<'a>(
        &'a self,
        id: &'a InstallationId,
        _: &'a AppName,
        to: Timestamp,
    ) -> BackendFuture<'a, ()> {
        let id = id.clone();
        self.write(move |server, at, _| server.reschedule_earlier(&id, to, at))
    }

    fn unschedule<'a>(&'a self, id: &'a InstallationId, _: &'a AppName) -> BackendFuture<'a, ()> {
        let id = id.clone();
        self.write(move |server, at, _| server.unschedule(&id, at))
    }

    fn poll_due<'a>(&'a self, schedule: Schedule, _: &'a AppName) -> BackendFuture<'a, DuePoll> {
        self.write(move |server, _, now| server.poll_due(schedule, now))
    }

    fn count_due<'a>(&'a self, _: &'a AppName, by: Timestamp) -> BackendFuture<'a, u64> {
        self.write(move |server, _, _| server.count_due(by))
    }

    fn apps(&self) -> BackendFuture<'_, Fields> {
        self.write(|server, _, _| server.apps())
    }

    fn free_app<'a>(&'a self, name: &'a AppName) -> BackendFuture<'a, bool> {
        let name = name.to_string();
        self.write(move |server, _, _| server.free_app(&name))
    }

    fn name_app<'a>(&'a self, name: &'a AppName, app_id: &'a str) -> BackendFuture<'a, String> {
        let (name, app_id) = (name.to_string(), app_id.to_owned());
        self.write(move |server, _, _| server.name_app(name, app_id))
    }

    fn stats(&self) -> BackendFuture<'_, StoreStats> {
        self.write(|server, _, _| server.stats())
    }

    fn count_expiring(&self, by: Timestamp) -> BackendFuture<'_, u64> {
        self.write(move |server, _, _| server.count_expiring(by))
    }

    fn memory(&self) -> BackendFuture<'_, Option<u64>> {
        Box::pin(async { Ok(None) })
    }

    fn ids(&self, partition: u8) -> BackendFuture<'_, Vec<InstallationId>> {
        self.write(move |server, _, _| server.ids(partition))
    }

    /// The simulated app is not installed by agencies.
    fn family<'a>(&'a self, _: &'a str) -> BackendFuture<'a, Vec<InstallationId>> {
        self.write(|_, _, _| Vec::new())
    }

    fn put_caller<'a>(&'a self, _: &'a KeyHash, _: Fields) -> BackendFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn insert_caller<'a>(&'a self, _: &'a KeyHash, _: Fields) -> BackendFuture<'a, bool> {
        Box::pin(async { Ok(false) })
    }

    fn callers(&self) -> BackendFuture<'_, Vec<(KeyHash, Fields)>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn put_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: &'a str,
        ttl: Duration,
    ) -> BackendFuture<'a, bool> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.write(move |server, at, now| server.remember(key, value, now + ttl, now, at))
    }

    fn get<'a>(&'a self, key: &'a str) -> BackendFuture<'a, Option<String>> {
        let key = key.to_owned();
        self.write(move |server, _, now| server.recall(&key, now))
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
        self.write(move |server, at, now| {
            let next = next.map(|next| (next, now + ttl));
            server.replace(key, expected.as_deref(), next, now, at)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BackendFuture<'a, bool> {
        let key = key.to_owned();
        self.write(move |server, at, now| server.forget(&key, now, at))
    }
}

impl IndexBackend for Connection {
    fn location<'a>(&'a self, name: &'a str) -> BackendFuture<'a, Fields> {
        let name = name.to_owned();
        self.write(move |server, _, _| server.location(&name))
    }

    fn get_or_insert_location<'a>(
        &'a self,
        _: &'a AppName,
        name: &'a str,
        id: &'a InstallationId,
    ) -> BackendFuture<'a, String> {
        let (name, id) = (name.to_owned(), id.to_string());
        self.write(move |server, _, _| server.name_location(name, id))
    }

    fn replace_location<'a>(
        &'a self,
        _: &'a AppName,
        _: &'a str,
        _: &'a InstallationId,
        _: Option<&'a InstallationId>,
    ) -> BackendFuture<'a, bool> {
        Box::pin(async { Err(not_simulated()) })
    }

    fn remove(&self, _: Removal) -> BackendFuture<'_, bool> {
        Box::pin(async { Err(not_simulated()) })
    }
}

fn not_simulated() -> WriteError {
    WriteError::Refused("the simulation has no such operation".into())
}

/// Nobody asks for it.
impl AuditBackend for Connection {
    fn append_audit(&self, _: AuditList, _: Vec<AuditRow>) -> BackendFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn audit(&self, _: AuditList, _: usize) -> BackendFuture<'_, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn record_key_uses(&self, _: Vec<(KeyHash, Day)>) -> BackendFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn key_uses(&self) -> BackendFuture<'_, Vec<(KeyHash, Day)>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// There is no overview.
impl StatsBackend for Connection {}

impl ReadBackend for Connection {
    fn access<'a>(&'a self, id: &'a InstallationId) -> BoxFuture<'a, Result<Fields, ReadError>> {
        let id = id.clone();
        self.read(move |server, _, _| server.record(&id).0)
    }

    fn location<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Fields, ReadError>> {
        let name = name.to_owned();
        self.read(move |server, _, _| server.location(&name))
    }

    fn caller<'a>(&'a self, _: &'a KeyHash) -> BoxFuture<'a, Result<Fields, ReadError>> {
        Box::pin(async { Ok(Fields::new()) })
    }

    fn access_key_list(&self) -> BoxFuture<'_, Result<Fields, ReadError>> {
        self.read(|server, _, _| server.key_list(RingKind::Access))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), ReadError>> {
        self.read(|_, _, _| ())
    }

    fn invalidations(&self) -> broadcast::Receiver<Invalidation> {
        self.changes.subscribe()
    }

    fn now(&self) -> Timestamp {
        self.store.now()
    }
}
