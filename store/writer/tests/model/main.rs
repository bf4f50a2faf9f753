//! The refresh protocol, checked in every state it can get into: two brokers, one installation,
//! three refreshes, and any two faults at any two moments.
//!
//! What the record becomes is decided by `store_writer::protocol`, here as in a broker. What the
//! model adds is the world: steps between which a broker can die, a store that forgets, an answer
//! that gets lost.

mod faults;
mod ghl;
mod properties;
mod protocol;
mod record;
mod steps;
mod system;
mod trace;

use std::time::Instant;

use stateright::{Checker, Model};

use crate::protocol::Protocol;

const PROTOCOL: Protocol = Protocol {
    refreshes: 3,
    faults: 2,
    grace: 2,
    flaw: None,
};

#[test]
fn the_protocol_keeps_its_promises() {
    check(PROTOCOL);
}

fn check(protocol: Protocol) {
    let started = Instant::now();
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    println!(
        "{} states, {} deep, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    for (name, path) in checker.discoveries() {
        if checker.model().property(name).expectation.discovery_is_failure() {
            println!("{name}: no!\n{}", trace::of(path));
        }
    }
    assert!(checker.is_done());
    checker.assert_properties();
}
