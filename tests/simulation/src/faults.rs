//! Applies the faults of a plan.

use std::time::Duration;

use super::machine::{Environment, Machine};
use super::network::Peer;
use super::plan::{Fault, FaultKind, Plan};

/// The begin or the end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Begin,
    End,
}

/// The calls in flight at the begin of a fault.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AtBegin {
    /// Calls to GHL by all brokers.
    pub(super) open: usize,
    /// Calls to GHL by the affected machine.
    pub(super) own: usize,
    /// The sum of the refresh windows of all brokers.
    pub(super) window: usize,
}

/// The initial refresh window of a broker.
const START: usize = 4;

/// Applies all faults, and returns after the last one has ended.
pub(super) async fn apply(plan: &Plan, env: &Environment, machines: &[Machine]) -> Vec<AtBegin> {
    let mut edges: Vec<(Duration, Edge, usize)> = Vec::new();
    for (index, fault) in plan.faults.iter().enumerate() {
        edges.push((fault.at, Edge::Begin, index));
        edges.push((fault.at + fault.lasts, Edge::End, index));
    }
    edges.sort_unstable();
    let mut at_begin = vec![AtBegin::default(); plan.faults.len()];
    for (at, edge, index) in edges {
        env.world.sleep_until(at).await;
        let fault = &plan.faults[index];
        match edge {
            Edge::Begin => {
                at_begin[index] = at_begin_of(fault, plan, env);
                env.world.log(format_args!(
                    "fault: {:?} for {} s, {} calls open, a window of {}",
                    fault.kind,
                    fault.lasts.as_secs(),
                    at_begin[index].open,
                    at_begin[index].window
                ));
                begin(fault, env, machines);
            }
            Edge::End => {
                env.world.log(format_args!("fault ends: {:?}", fault.kind));
                end(fault, env, machines);
            }
        }
    }
    at_begin
}

fn at_begin_of(fault: &Fault, plan: &Plan, env: &Environment) -> AtBegin {
    let own = match &fault.kind {
        FaultKind::Crash { machine, .. } | FaultKind::Pause { machine } => {
            env.ghl.open(Some(*machine))
        }
        FaultKind::Ghl(_)
        | FaultKind::StoreDown
        | FaultKind::StoreForgets { .. }
        | FaultKind::Partition { .. }
        | FaultKind::Split { .. }
        | FaultKind::ClockStep { .. }
        | FaultKind::NodeDown { .. }
        | FaultKind::NodeForgets { .. }
        | FaultKind::NodeCut { .. } => 0,
    };
    AtBegin {
        open: env.ghl.open(None),
        own,
        window: (0..plan.brokers).map(|machine| window(machine, env)).sum(),
    }
}

/// An estimate of a broker's window, which grows while at least half of it is used.
fn window(machine: usize, env: &Environment) -> usize {
    let peak = env.ghl.peak(machine);
    START.max(peak + peak / 2)
}

fn begin(fault: &Fault, env: &Environment, machines: &[Machine]) {
    match &fault.kind {
        FaultKind::Ghl(failure) => env.ghl.begin(*failure),
        FaultKind::Crash {
            machine,
            is_disk_lost,
        } => {
            machines[*machine].kill();
            if *is_disk_lost {
                machines[*machine].lose_disk();
            }
        }
        FaultKind::Pause { machine } => machines[*machine].pause(),
        FaultKind::StoreDown => env.store.set_down(true),
        FaultKind::StoreForgets { last } => {
            env.store.set_down(true);
            env.store.forget(*last);
        }
        FaultKind::Partition { machines } => {
            for machine in machines {
                env.partitions.cut(*machine, Peer::Store);
            }
        }
        FaultKind::Split { machines } => env.store.split(machines.clone()),
        FaultKind::ClockStep { millis } => env.store.step_clock(*millis),
        FaultKind::NodeDown { node } => env.nodes.set_down(*node, true),
        FaultKind::NodeForgets { node } => {
            env.nodes.wipe(*node);
            env.nodes.set_down(*node, true);
        }
        FaultKind::NodeCut { machine, node } => env.partitions.cut(*machine, Peer::Node(*node)),
    }
}

fn end(fault: &Fault, env: &Environment, machines: &[Machine]) {
    match &fault.kind {
        FaultKind::Ghl(failure) => env.ghl.end(*failure),
        FaultKind::Crash { machine, .. } => {
            // A concurrent fault may have started it again.
            machines[*machine].kill();
            machines[*machine].start();
        }
        FaultKind::Pause { machine } => machines[*machine].resume(),
        FaultKind::StoreDown | FaultKind::StoreForgets { .. } => env.store.set_down(false),
        FaultKind::Partition { machines } => {
            for machine in machines {
                env.partitions.mend(*machine, Peer::Store);
            }
        }
        FaultKind::Split { .. } => env.store.join(),
        FaultKind::ClockStep { .. } => {}
        FaultKind::NodeDown { node } => env.nodes.set_down(*node, false),
        FaultKind::NodeForgets { node } => {
            // It loses its locks now, not when it went down.
            env.nodes.wipe(*node);
        }
        FaultKind::NodeCut { machine, node } => env.partitions.mend(*machine, Peer::Node(*node)),
    }
}
