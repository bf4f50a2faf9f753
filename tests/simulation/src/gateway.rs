//! A simulated gateway: it reads tokens, uses valid ones, and requests a refresh of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use store::clock::Moment;
use store::{AccessRecord, Freshness, Generation, InstallationId, Status, TokenReader};
use tokio::time::sleep;

use super::ghl::Ghl;
use super::machine::Machine;
use super::world::World;

const CALL_INTERVAL: Duration = Duration::from_secs(1);
/// Calls per interval.
const CALLS: usize = 4;

pub(super) struct Gateway {
    world: World,
    reader: TokenReader,
    ids: Arc<[InstallationId]>,
    machines: Arc<[Machine]>,
    /// The expiry of each token by this process's clock, as first computed.
    ends: BTreeMap<InstallationId, (Generation, Moment)>,
}

impl Gateway {
    pub(super) fn new(
        world: World,
        reader: TokenReader,
        ids: Arc<[InstallationId]>,
        machines: Arc<[Machine]>,
    ) -> Self {
        Self {
            world,
            reader,
            ids,
            machines,
            ends: BTreeMap::new(),
        }
    }

    /// Never returns.
    pub(super) async fn run(mut self) {
        // Call for every installation once before the faults begin.
        for index in 0..self.ids.len() {
            self.call(index).await;
        }
        loop {
            sleep(CALL_INTERVAL).await;
            for _ in 0..CALLS {
                let index = self.pick(self.ids.len());
                self.call(index).await;
            }
        }
    }

    async fn call(&mut self, index: usize) {
        let id = self.ids[index].clone();
        // The store may be unreachable.
        let Ok(Some(record)) = self.reader.access(&id).await else {
            return;
        };
        if matches!(record.status, Status::Invalid | Status::Revoked) {
            return;
        }
        let freshness = self.freshness(&id, &record);
        if freshness != Freshness::Fresh {
            let machine = &self.machines[self.pick(self.machines.len())];
            if let Some(broker) = machine.broker() {
                broker::simulation::request_refresh(&broker, id.clone(), record.generation);
            }
        }
        let is_used = freshness != Freshness::Expired;
        let ends = Ghl::end_of(record.token.expose_secret());
        if is_used && ends.is_none_or(|ends| ends <= self.world.now()) {
            let what = format!("an expired token of {id} (customer {index}) is used");
            self.world.violation(what);
        }
    }

    /// The freshness by the store's clock and by this machine's monotonic clock.
    fn freshness(&mut self, id: &InstallationId, record: &AccessRecord) -> Freshness {
        let now = self.reader.now();
        let Some(expires_at) = record.expires_at else {
            return Freshness::Fresh;
        };
        let ends = Moment::now() + expires_at.since(now);
        let first = self.ends.get(id).copied();
        let ends = match first.filter(|(generation, _)| *generation == record.generation) {
            Some((_, first)) => first.min(ends),
            None => ends,
        };
        self.ends.insert(id.clone(), (record.generation, ends));
        store::freshness::of(now + ends.since(Moment::now()), record.lifetime, now)
    }

    fn pick(&self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        usize::try_from(self.world.below(count)).unwrap_or_default()
    }
}
