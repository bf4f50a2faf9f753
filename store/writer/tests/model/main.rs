//! A model check of the refresh protocol in every reachable state. It has two brokers, one installation, two
//! refreshes (three with `EVERGREEN_LONG=1`), and any two faults at any two times.
//!
//! `store_writer::protocol` makes the decisions, as in a broker. The model adds the environment: steps
//! between which a broker can die, a store that loses writes, and lost responses.

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

use crate::faults::FaultKinds;
use crate::properties::{
    FORWARD, GHL_ENDS_NONE, HAS_COPY, ONE_FAULT, REPAIRED, SPENT_ONCE, SPENT_TWICE,
};
use crate::protocol::{Flaw, Protocol};

const PROTOCOL: Protocol = Protocol {
    refreshes: 3,
    faults: 2,
    grace: 2,
    kinds: FaultKinds::Machines,
    // The installation becomes invalid at the next refusal.
    refusals_before: 2,
    flaw: None,
};

/// GHL is slow or wrong, at most twice.
const GHL_FAULTS: Protocol = Protocol {
    kinds: FaultKinds::Ghl,
    refusals_before: 0,
    ..PROTOCOL
};

/// A check of every state. A third refresh takes six times as long.
fn whole() -> Protocol {
    let is_long = std::env::var("EVERGREEN_LONG").is_ok_and(|long| long == "1");
    Protocol {
        refreshes: if is_long { 3 } else { 2 },
        ..PROTOCOL
    }
}

#[test]
fn protocol_keeps_its_invariants() {
    let checker = check(whole(), HasDiscoveries::All);
    checker.assert_properties();
}

#[test]
fn without_a_grace_period_the_store_keeps_every_token_and_moves_forward() {
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
fn slow_responses_and_wrong_refusals_end_no_installation() {
    let checker = check(GHL_FAULTS, HasDiscoveries::All);
    checker.assert_properties();
}

#[test]
fn dropping_late_responses_loses_tokens() {
    violates_under(&GHL_FAULTS, Flaw::DropsLateResponses, GHL_ENDS_NONE);
}

#[test]
fn ending_at_the_first_refusal_trusts_a_wrong_one() {
    let hasty = Protocol {
        refusals_before: 2,
        ..GHL_FAULTS
    };
    let checker = check(hasty, HasDiscoveries::AnyOf([GHL_ENDS_NONE].into()));
    checker.assert_any_discovery(GHL_ENDS_NONE);
}

#[test]
fn call_without_intent_is_retried_past_its_response() {
    violates(Flaw::NoIntent, SPENT_ONCE);
}

#[test]
fn call_without_intent_is_not_retried_in_time() {
    violates(Flaw::NoIntent, SPENT_TWICE);
}

#[test]
fn lease_as_fence_admits_an_older_response() {
    violates(Flaw::LeaseFence, FORWARD);
}

#[test]
fn lease_as_fence_loses_the_only_valid_token() {
    violates(Flaw::LeaseFence, HAS_COPY);
}

#[test]
fn response_in_the_store_alone_is_lost_with_it() {
    violates(Flaw::ResponseNotSaved, HAS_COPY);
}

#[test]
fn response_forgotten_before_confirmation_is_lost_with_one_fault() {
    violates(Flaw::ForgottenBeforeConfirmed, ONE_FAULT);
}

#[test]
fn retry_without_the_store_after_the_grace_spends_a_token_twice() {
    violates(Flaw::RetriesForever, SPENT_TWICE);
}

/// Checks that the model detects the flaw: a protocol with it violates the promise.
fn violates(flaw: Flaw, promise: &'static str) {
    violates_under(&PROTOCOL, flaw, promise);
}

fn violates_under(protocol: &Protocol, flaw: Flaw, promise: &'static str) {
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
            println!("violated: {name}\n{}", trace::of(path));
        }
    }
    checker
}

const THREADS: usize = 2;
