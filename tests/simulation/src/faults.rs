//! Carries out the faults of a plan.

use std::time::Duration;

use super::machine::{Machine, Scene};
use super::network::Peer;
use super::plan::{Fault, Plan, What};

/// Begin or end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Begin,
    End,
}

/// What was under way when a fault began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Began {
    /// Calls of GHL by all brokers.
    pub(super) open: usize,
    /// Calls of GHL by the machine that the fault is about.
    pub(super) own: usize,
    /// How many refreshes all brokers dared to have in flight.
    pub(super) window: usize,
}

/// What a broker has in flight at once before GHL has proved well.
const START: usize = 4;

/// Until all faults have ended.
pub(super) async fn carry_out(plan: &Plan, scene: &Scene, machines: &[Machine]) -> Vec<Began> {
    let mut edges: Vec<(Duration, Edge, usize)> = Vec::new();
    for (index, fault) in plan.faults.iter().enumerate() {
        edges.push((fault.at, Edge::Begin, index));
        edges.push((fault.at + fault.lasts, Edge::End, index));
    }
    edges.sort_unstable();
    let mut began = vec![Began::default(); plan.faults.len()];
    for (at, edge, index) in edges {
        scene.world.sleep_until(at).await;
        let fault = &plan.faults[index];
        match edge {
            Edge::Begin => {
                began[index] = under_way(fault, plan, scene);
                scene.world.log(format_args!(
                    "fault: {:?} for {} s, {} calls open, a window of {}",
                    fault.what,
                    fault.lasts.as_secs(),
                    began[index].open,
                    began[index].window
                ));
                begin(fault, scene, machines);
            }
            Edge::End => {
                scene
                    .world
                    .log(format_args!("fault ends: {:?}", fault.what));
                end(fault, scene, machines);
            }
        }
    }
    began
}

fn under_way(fault: &Fault, plan: &Plan, scene: &Scene) -> Began {
    let own = match &fault.what {
        What::Crash { machine, .. } | What::Pause { machine } => scene.ghl.open(Some(*machine)),
        What::Ghl(_)
        | What::StoreDown
        | What::StoreForgets { .. }
        | What::Partition { .. }
        | What::Split { .. }
        | What::ClockStep { .. }
        | What::NodeDown { .. }
        | What::NodeForgets { .. }
        | What::NodeCut { .. } => 0,
    };
    Began {
        open: scene.ghl.open(None),
        own,
        window: (0..plan.brokers)
            .map(|machine| window(machine, scene))
            .sum(),
    }
}

/// A window grows while at least half of it is used.
fn window(machine: usize, scene: &Scene) -> usize {
    let peak = scene.ghl.peak(machine);
    START.max(peak + peak / 2)
}

fn begin(fault: &Fault, scene: &Scene, machines: &[Machine]) {
    match &fault.what {
        What::Ghl(mood) => scene.ghl.begin(*mood),
        What::Crash {
            machine,
            is_disk_lost,
        } => {
            machines[*machine].kill();
            if *is_disk_lost {
                machines[*machine].lose_disk();
            }
        }
        What::Pause { machine } => machines[*machine].stop(),
        What::StoreDown => scene.store.set_down(true),
        What::StoreForgets { last } => {
            scene.store.set_down(true);
            scene.store.forget(*last);
        }
        What::Partition { machines } => {
            for machine in machines {
                scene.cuts.cut(*machine, Peer::Store);
            }
        }
        What::Split { machines } => scene.store.split(machines.clone()),
        What::ClockStep { millis } => scene.store.step_clock(*millis),
        What::NodeDown { node } => scene.nodes.set_down(*node, true),
        What::NodeForgets { node } => {
            scene.nodes.wipe(*node);
            scene.nodes.set_down(*node, true);
        }
        What::NodeCut { machine, node } => scene.cuts.cut(*machine, Peer::Node(*node)),
    }
}

fn end(fault: &Fault, scene: &Scene, machines: &[Machine]) {
    match &fault.what {
        What::Ghl(mood) => scene.ghl.end(*mood),
        What::Crash { machine, .. } => {
            // A fault beside this one may have killed it again.
            machines[*machine].kill();
            machines[*machine].start();
        }
        What::Pause { machine } => machines[*machine].cont(),
        What::StoreDown | What::StoreForgets { .. } => scene.store.set_down(false),
        What::Partition { machines } => {
            for machine in machines {
                scene.cuts.mend(*machine, Peer::Store);
            }
        }
        What::Split { .. } => scene.store.join(),
        What::ClockStep { .. } => {}
        What::NodeDown { node } => scene.nodes.set_down(*node, false),
        What::NodeForgets { node } => {
            // Its memory of locks ends now, not when it went.
            scene.nodes.wipe(*node);
        }
        What::NodeCut { machine, node } => scene.cuts.mend(*machine, Peer::Node(*node)),
    }
}
