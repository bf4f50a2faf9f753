//! One run: a fleet in a simulated environment, the faults of a plan, and the audit.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use broker::simulation::Rules;
use futures_util::future::join_all;
use store::freshness::Lead;
use store::{AppName, InstallationId, KeyRing, UserType};
use store_writer::Rings;
use store_writer::grant::Registration;
use tokio::runtime::Builder;

use super::audit::Auditor;
use super::faults;
use super::gateway::Gateway;
use super::ghl::{Ghl, location};
use super::machine::{Environment, Machine};
use super::network::Partitions;
use super::nodes::Nodes;
use super::plan::{Arrival, Plan};
use super::store::Store;
use super::world::World;

/// The machine that installs the fleet, and that of the gateway. No fault affects them.
const SETUP: usize = usize::MAX;
const GATEWAY: usize = usize::MAX - 1;

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed of the plan.
    pub seed: u64,
    /// The hash of all events in order.
    pub hash: u64,
    /// How many installations are lost.
    pub lost: usize,
    /// The invariants that did not hold.
    pub violations: Vec<String>,
    /// The log. Empty unless it was requested.
    pub log: Vec<String>,
}

/// Runs a plan to its end, with brokers under `rules`.
///
/// # Panics
/// If no runtime can be built, or if the simulation itself fails.
#[must_use]
pub fn run(plan: &Plan, rules: Rules, is_log_kept: bool) -> Report {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing");
    runtime.block_on(act(plan, rules, is_log_kept))
}

async fn act(plan: &Plan, rules: Rules, is_log_kept: bool) -> Report {
    let _simulation = store::simulation::install(plan.seed, World::wall_at_start());
    let world = World::new(plan.seed, is_log_kept);
    let _capture = is_log_kept.then(|| capture_logs(&world));
    world.log(format_args!("{plan:?}"));
    let rings = Rings {
        access: Arc::new(KeyRing::generate("k")),
        refresh: Arc::new(KeyRing::generate("k")),
    };
    let ghl = Ghl::new(world.clone(), plan.customers, plan.grace, plan.lifetime);
    let env = Environment {
        ghl: Arc::new(ghl),
        store: Arc::new(Store::new(world.clone())),
        nodes: Arc::new(Nodes::new(world.clone())),
        partitions: Partitions::default(),
        rings,
        grace: plan.grace,
        rules,
        world: world.clone(),
    };
    let ids = install(plan, &env).await;
    let machines: Arc<[Machine]> = (0..plan.brokers)
        .map(|index| Machine::new(index, env.clone()))
        .collect();
    for machine in machines.iter() {
        machine.start();
    }
    let reader = env.reader(GATEWAY);
    let gateway = Gateway::new(world.clone(), reader, ids.clone(), machines.clone());
    tokio::spawn(gateway.run());
    let at_begin = faults::apply(plan, &env, &machines).await;
    let auditor = Auditor {
        plan,
        env: &env,
        machines: &machines,
        ids,
    };
    let lost = auditor.run(&at_begin).await;
    // Wait until every earlier token has expired.
    if plan.sets_a_clock() {
        tokio::time::sleep(plan.lifetime / 2).await;
    }
    Report {
        seed: plan.seed,
        hash: world.hash(),
        lost,
        violations: world.violations(),
        log: world.lines(),
    }
}

/// Adds the log lines of the brokers on this thread to the log of the run, for people.
fn capture_logs(world: &World) -> tracing::subscriber::DefaultGuard {
    let world = world.clone();
    let subscriber = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_writer(move || Comments(world.clone()))
        .finish();
    tracing::subscriber::set_default(subscriber)
}

struct Comments(World);

impl Write for Comments {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.comment(String::from_utf8_lossy(bytes).trim());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All customers have consented before the run begins.
async fn install(plan: &Plan, env: &Environment) -> Arc<[InstallationId]> {
    let writer = env.writer(SETUP);
    let enrolments = (0..plan.customers).map(|customer| {
        let ends = first_end(plan, &env.world);
        let access = Ghl::access_token(customer, ends);
        let enrolment = Registration {
            app: AppName::default(),
            client: None,
            access_token: access.into(),
            refresh_token: Some(env.ghl.current(customer).to_string().into()),
            expires_at: Some(World::epoch() + ends),
            lifetime: plan.lifetime,
            scopes: "contacts.readonly contacts.write".to_owned(),
            user_type: UserType::Location,
            location: location(customer).parse().ok(),
            company: None,
        };
        let writer = writer.clone();
        async move { writer.register_installation(&enrolment).await }
    });
    let enrolled = join_all(enrolments).await;
    let ids = enrolled.into_iter().collect::<Result<_, _>>();
    ids.expect("a store without faults takes every installation")
}

/// When a customer's first access token expires.
fn first_end(plan: &Plan, world: &World) -> Duration {
    let lead = Lead::Auto.of(plan.lifetime);
    match plan.arrival {
        Arrival::Even => world.between(lead, plan.lifetime),
        Arrival::Burst { at, width } => lead + world.between(at, at + width),
    }
}
