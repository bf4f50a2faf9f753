//! One run: a fleet over a simulated world, the faults of a plan, and the audit.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use broker::simulation::Rules;
use futures_util::future::join_all;
use store::freshness::Lead;
use store::{InstallationId, KeyRing, UserType};
use store_writer::Rings;
use store_writer::grant::Registration;
use tokio::runtime::Builder;

use super::audit::Auditor;
use super::faults;
use super::gateway::Gateway;
use super::ghl::{Ghl, location};
use super::machine::{Machine, Scene};
use super::network::Cuts;
use super::nodes::Nodes;
use super::plan::{Arrival, Plan};
use super::store::Store;
use super::world::World;

/// The machine that sets the scene, and the gateway's. No fault is about either.
const SETUP: usize = usize::MAX;
const GATEWAY: usize = usize::MAX - 1;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub seed: u64,
    /// Of all that happened, in order.
    pub hash: u64,
    pub lost: usize,
    pub violations: Vec<String>,
    /// What happened; empty unless it was asked for.
    pub log: Vec<String>,
}

/// Runs a plan to its end, with brokers that go by `rules`.
///
/// # Panics
/// When this machine cannot give a runtime, or the program is wrong.
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
    let _simulation = store::simulation::install(plan.seed, World::epoch());
    let world = World::new(plan.seed, is_log_kept);
    let _listening = is_log_kept.then(|| listen(&world));
    world.log(format_args!("{plan:?}"));
    let rings = Rings {
        access: Arc::new(KeyRing::generate("k")),
        refresh: Arc::new(KeyRing::generate("k")),
    };
    let ghl = Ghl::new(world.clone(), plan.customers, plan.grace, plan.lifetime);
    let scene = Scene {
        ghl: Arc::new(ghl),
        store: Arc::new(Store::new(world.clone())),
        nodes: Arc::new(Nodes::new(world.clone())),
        cuts: Cuts::default(),
        rings,
        grace: plan.grace,
        rules,
        world: world.clone(),
    };
    let ids = install(plan, &scene).await;
    let machines: Arc<[Machine]> = (0..plan.brokers)
        .map(|index| Machine::new(index, scene.clone()))
        .collect();
    for machine in machines.iter() {
        machine.start();
    }
    let reader = scene.reader(GATEWAY);
    let gateway = Gateway::new(world.clone(), reader, ids.clone(), machines.clone());
    tokio::spawn(gateway.run());
    let began = faults::carry_out(plan, &scene, &machines).await;
    let auditor = Auditor {
        plan,
        scene: &scene,
        machines: &machines,
        ids,
    };
    let lost = auditor.run(&began).await;
    // Until every token from before has ended.
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

/// Has what brokers log on this thread among what happens, for people.
fn listen(world: &World) -> tracing::subscriber::DefaultGuard {
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
async fn install(plan: &Plan, scene: &Scene) -> Arc<[InstallationId]> {
    let writer = scene.writer(SETUP);
    let enrolments = (0..plan.customers).map(|customer| {
        let ends = first_end(plan, &scene.world);
        let access = Ghl::access_token(customer, ends);
        let enrolment = Registration {
            access_token: access.into(),
            refresh_token: Some(scene.ghl.current(customer).to_string().into()),
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

/// When a customer's first access token ends.
fn first_end(plan: &Plan, world: &World) -> Duration {
    let lead = Lead::Auto.of(plan.lifetime);
    match plan.arrival {
        Arrival::Even => world.between(lead, plan.lifetime),
        Arrival::Burst { at, width } => lead + world.between(at, at + width),
    }
}
