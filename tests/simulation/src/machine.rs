//! A simulated machine with a real broker on it. Its disk outlives the broker's process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::simulation::Rules;
use broker::{Broker, Config, Parts};
use service::config::{Settings, Source};
use service::simulation::Process;
use store::freshness::Lead;
use store::{InstallationId, TokenReader};
use store_writer::group_commit_db::GroupCommitDb;
use store_writer::journal::Entry;
use store_writer::{Escrow, Journal, Leases, Rings, StoreWriter};

use super::ghl::{Ghl, GhlConnection};
use super::network::{NetworkPath, Partitions, Peer};
use super::nodes::{NodeConnection, Nodes};
use super::store::{Connection, Store};
use super::world::{World, lock};

/// The simulated environment that all machines share.
#[derive(Debug, Clone)]
pub(super) struct Environment {
    pub(super) world: World,
    pub(super) ghl: Arc<Ghl>,
    pub(super) store: Arc<Store>,
    pub(super) nodes: Arc<Nodes>,
    pub(super) partitions: Partitions,
    pub(super) rings: Rings,
    pub(super) grace: Duration,
    pub(super) rules: Rules,
}

impl Environment {
    pub(super) fn connection(&self, machine: usize) -> Arc<Connection> {
        let path = NetworkPath {
            world: self.world.clone(),
            partitions: self.partitions.clone(),
            machine,
            peer: Peer::Store,
        };
        Arc::new(Connection::new(self.store.clone(), path))
    }

    pub(super) fn writer(&self, machine: usize) -> StoreWriter {
        StoreWriter::new(self.connection(machine), self.rings.clone(), Lead::Auto)
    }

    pub(super) fn reader(&self, machine: usize) -> TokenReader {
        TokenReader::from_backend(self.connection(machine), self.rings.access.clone())
    }
}

#[derive(Debug)]
pub(super) struct Machine {
    index: usize,
    env: Environment,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    disk: GroupCommitDb,
    running: Option<(Process, Broker)>,
}

impl Machine {
    pub(super) fn new(index: usize, env: Environment) -> Self {
        let state = State {
            disk: GroupCommitDb::simulated(),
            running: None,
        };
        Self {
            index,
            env,
            state: Mutex::new(state),
        }
    }

    pub(super) fn start(&self) {
        let env = &self.env;
        let mut state = lock(&self.state);
        let nodes = NodeConnection::new(env.nodes.clone(), env.partitions.clone(), self.index);
        let nodes = Arc::new(nodes);
        let parts = Parts {
            writer: env.writer(self.index),
            reader: env.reader(self.index),
            leases: Leases::simulated(nodes.clone()),
            journal: Journal::simulated(state.disk.clone()),
            escrow: Escrow::simulated(nodes),
            lock_nodes: None,
        };
        let (process, connection) = (
            Process::default(),
            GhlConnection::new(env.ghl.clone(), self.index),
        );
        let config = config(self.index, env.grace);
        let started = broker::simulation::start(
            process.clone(),
            Arc::new(connection),
            config,
            parts,
            env.rules,
        );
        match started {
            Ok(broker) => state.running = Some((process, broker)),
            Err(error) => env
                .world
                .violation(format!("broker {} does not start: {error}", self.index)),
        }
    }

    pub(super) fn kill(&self) {
        if let Some((process, _)) = lock(&self.state).running.take() {
            process.kill();
        }
    }

    pub(super) fn lose_disk(&self) {
        lock(&self.state).disk = GroupCommitDb::simulated();
    }

    pub(super) fn pause(&self) {
        if let Some((process, _)) = &lock(&self.state).running {
            process.stop();
        }
    }

    pub(super) fn resume(&self) {
        if let Some((process, _)) = &lock(&self.state).running {
            process.cont();
        }
    }

    pub(super) fn broker(&self) -> Option<Broker> {
        let state = lock(&self.state);
        state.running.as_ref().map(|(_, broker)| broker.clone())
    }

    /// The journal entries of an installation.
    pub(super) fn journal_entries(&self, id: &InstallationId) -> Vec<Entry> {
        let journal = Journal::simulated(lock(&self.state).disk.clone());
        let unfinished = journal.unfinished().unwrap_or_default();
        let mut entries: Vec<Entry> = unfinished.into_iter().filter_map(Result::ok).collect();
        entries.retain(|entry| entry.installation == *id);
        let kept = journal.confirmed_of(id).ok().flatten();
        entries.extend(kept.map(|kept| kept.entry));
        entries
    }
}

/// The settings of a broker.
struct OperatorSettings(BTreeMap<&'static str, String>);

impl Source for OperatorSettings {
    fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    fn keys(&self) -> Vec<String> {
        self.0.keys().map(|key| (*key).to_owned()).collect()
    }
}

fn config(machine: usize, grace: Duration) -> Config {
    let source = OperatorSettings(BTreeMap::from([
        ("GHL_CLIENT_ID", "client".to_owned()),
        ("GHL_CLIENT_SECRET", "secret".to_owned()),
        ("EVERGREEN_BROKER_NAME", format!("broker-{machine}")),
        (
            "EVERGREEN_REPLAY_GRACE",
            humantime::format_duration(grace).to_string(),
        ),
    ]));
    let mut settings = Settings::new(&source);
    let config = Config::read(&mut settings);
    settings.finish(config).expect("the settings are good")
}
