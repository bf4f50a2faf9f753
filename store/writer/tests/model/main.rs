//! The refresh protocol, checked in every state it can get into: two brokers, one installation,
//! two refreshes (three with `EVERGREEN_LONG=1`), and any two faults at any two moments.
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

use stateright::{Checker, HasDiscoveries, Model};

use crate::faults::Kinds;
use crate::properties::{
    FORWARD, GHL_ENDS_NONE, HAS_COPY, ONE_FAULT, REPAIRED, SPENT_ONCE, SPENT_TWICE,
};
use crate::protocol::{Flaw, Protocol};

const PROTOCOL: Protocol = Protocol {
    refreshes: 3,
    faults: 2,
    grace: 2,
    kinds: Kinds::Machines,
    // The next refusal is the last.
    refusals_before: 2,
    flaw: None,
};

/// GHL is slow or wrong, up to two times.
const BAD_HOURS: Protocol = Protocol {
    kinds: Kinds::Ghl,
    refusals_before: 0,
    ..PROTOCOL
};

/// Every state of it is visited, so a third refresh takes six times as long.
fn whole() -> Protocol {
    let is_long = std::env::var("EVERGREEN_LONG").is_ok_and(|long| long == "1");
    Protocol {
        refreshes: if is_long { 3 } else { 2 },
        ..PROTOCOL
    }
}

#[test]
fn the_protocol_keeps_its_promises() {
    let checker = check(whole(), HasDiscoveries::All);
    checker.assert_properties();
}

#[test]
fn without_a_grace_the_store_forgets_nothing_and_goes_forward() {
    let strict = Protocol {
        grace: 0,
        ..whole()
    };
    let checker = check(strict, HasDiscoveries::All);
    for promise in [HAS_COPY, FORWARD, SPENT_TWICE, ONE_FAULT, REPAIRED] {
        checker.assert_no_discovery(promise);
    }
}

#[test]
fn slow_answers_and_wrong_refusals_end_no_installation() {
    let checker = check(BAD_HOURS, HasDiscoveries::All);
    checker.assert_properties();
}

#[test]
fn a_broker_that_hangs_up_loses_what_comes_late() {
    breaks_under(&BAD_HOURS, Flaw::HangsUp, GHL_ENDS_NONE);
}

#[test]
fn an_end_at_the_first_refusal_believes_a_wrong_one() {
    let hasty = Protocol {
        refusals_before: 2,
        ..BAD_HOURS
    };
    let checker = check(hasty, HasDiscoveries::AnyOf([GHL_ENDS_NONE].into()));
    checker.assert_any_discovery(GHL_ENDS_NONE);
}

#[test]
fn a_call_without_an_intent_is_repeated_past_its_answer() {
    breaks(Flaw::NoIntent, SPENT_ONCE);
}

#[test]
fn a_call_without_an_intent_is_not_repeated_in_time() {
    breaks(Flaw::NoIntent, SPENT_TWICE);
}

#[test]
fn a_lease_is_no_fence_against_an_older_answer() {
    breaks(Flaw::LeaseFence, FORWARD);
}

#[test]
fn a_lease_that_ran_out_costs_the_only_good_token() {
    breaks(Flaw::LeaseFence, HAS_COPY);
}

#[test]
fn an_answer_that_is_in_the_store_alone_is_lost_with_it() {
    breaks(Flaw::NothingWritten, HAS_COPY);
}

#[test]
fn an_answer_that_is_forgotten_before_it_is_confirmed_is_lost_with_one_fault() {
    breaks(Flaw::Unconfirmed, ONE_FAULT);
}

#[test]
fn a_repeat_without_the_store_is_not_for_after_the_grace() {
    breaks(Flaw::EndlessDoubt, SPENT_TWICE);
}

/// That the check would notice: a protocol with the flaw breaks the promise.
fn breaks(flaw: Flaw, promise: &'static str) {
    breaks_under(&PROTOCOL, flaw, promise);
}

fn breaks_under(protocol: &Protocol, flaw: Flaw, promise: &'static str) {
    let flawed = Protocol {
        flaw: Some(flaw),
        ..protocol.clone()
    };
    let checker = check(flawed, HasDiscoveries::AnyOf([promise].into()));
    checker.assert_any_discovery(promise);
}

/// Visits every state, or as many as it takes to find `wanted`.
fn check(protocol: Protocol, wanted: HasDiscoveries) -> impl Checker<Protocol> {
    let started = Instant::now();
    let checker = protocol.checker().finish_when(wanted).threads(THREADS);
    let checker = checker.spawn_bfs().join();
    assert!(checker.is_done());
    println!(
        "{:?}: {} states, {} steps deep, in {:.1} s",
        checker.model(),
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    for (name, path) in checker.discoveries() {
        let property = checker.model().property(name);
        if property.expectation.discovery_is_failure() {
            println!("not so: {name}\n{}", trace::of(path));
        }
    }
    checker
}

const THREADS: usize = 2;
