//! Properties that must always hold, and states that must be reached so that the former are not vacuous.

use stateright::Property;
use store_writer::protocol::FailureClass;

use crate::faults::FaultKinds;
use crate::ghl::Reply;
use crate::protocol::Protocol;
use crate::system::{Call, Step, System};

pub(crate) const SPENT_ONCE: &str = "no token is spent again while its response can be found";
pub(crate) const SPENT_TWICE: &str = "one fault spends no token twice outside the grace period";
pub(crate) const HAS_COPY: &str = "every published token has a copy";
pub(crate) const NOT_TOO_EARLY: &str =
    "no installation becomes invalid while its token can be found";
pub(crate) const ONE_FAULT: &str = "one fault ends no installation";
pub(crate) const REPAIRED: &str = "in the end the store has the newest surviving token";
pub(crate) const GHL_ENDS_NONE: &str = "slow responses and wrong refusals end no installation";
pub(crate) const FORWARD: &str = "no write moves the chain backwards";

pub(crate) fn all(kinds: FaultKinds) -> Vec<Property<Protocol>> {
    let sights = match kinds {
        FaultKinds::Machines => seen_with_machine_faults(),
        FaultKinds::Ghl => seen_with_ghl_faults(),
    };
    [always(), sights].concat()
}

fn always() -> Vec<Property<Protocol>> {
    vec![
        Property::always(SPENT_ONCE, |_, system: &System| {
            !system.history.is_spent_past_response
        }),
        Property::always(SPENT_TWICE, |protocol: &Protocol, system: &System| {
            system.faults > protocol.harmless() || !system.history.is_spent_twice
        }),
        Property::always(HAS_COPY, |_, system: &System| {
            let newest = system.ghl.newest();
            system.history.published < newest || system.has_copy(newest)
        }),
        Property::always(NOT_TOO_EARLY, |_, system: &System| {
            !system.history.is_invalid_too_early
        }),
        Property::always(ONE_FAULT, |protocol: &Protocol, system: &System| {
            system.faults > protocol.harmless() || !system.is_invalid()
        }),
        Property::always(REPAIRED, |_, system: &System| {
            let newest = system.ghl.newest();
            let is_well = system.store.link.token == newest && !system.is_invalid();
            !system.is_quiet() || is_well || !system.has_copy(newest)
        }),
        Property::always(GHL_ENDS_NONE, |protocol: &Protocol, system: &System| {
            protocol.kinds != FaultKinds::Ghl || !system.is_quiet() || !system.is_invalid()
        }),
        Property::always(FORWARD, |_, system: &System| !system.history.is_set_back),
    ]
}

fn seen_with_machine_faults() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes(
            "all refreshes are done",
            |protocol: &Protocol, system: &System| system.store.link.token > protocol.refreshes,
        ),
        Property::sometimes("an attempt is taken over", |_, system: &System| {
            any_broker_at(
                system,
                |step| matches!(step, Step::Begun(attempt) if attempt.is_retry),
            )
        }),
        Property::sometimes(
            "a response is repeated within the grace period",
            |_, system: &System| {
                any_broker_at(system, |step| {
                    matches!(step, Step::Called(_, Call::Answered(Reply::Repeated(_))))
                })
            },
        ),
        Property::sometimes("a response is found in a journal", |_, system: &System| {
            any_broker_at(
                system,
                |step| matches!(step, Step::Safe(committing) if committing.is_from_journal),
            )
        }),
        Property::sometimes("a response is found in the escrow", |_, system: &System| {
            any_broker_at(system, |step| matches!(step, Step::Found(..)))
        }),
        Property::sometimes("a token is refused", |_, system: &System| {
            any_broker_at(system, |step| {
                matches!(step, Step::Failed(_, FailureClass::Refused))
            })
        }),
        Property::sometimes("an installation is lost", |_, system: &System| {
            system.is_invalid() && !system.has_copy(system.ghl.newest())
        }),
    ]
}

fn seen_with_ghl_faults() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes("a response comes late", |_, system: &System| {
            let mut brokers = system.brokers.iter();
            brokers.any(|broker| broker.awaits_late(system.ghl.newest()))
        }),
        Property::sometimes(
            "a suspect installation is refreshed",
            |_, system: &System| {
                let is_answered = |step: &Step| matches!(step, Step::Answered { .. });
                system.store.refusals > 0 && any_broker_at(system, is_answered)
            },
        ),
    ]
}

fn any_broker_at(system: &System, matches: impl Fn(&Step) -> bool) -> bool {
    system.brokers.iter().any(|broker| matches(&broker.step))
}

impl Protocol {
    /// The number of faults that must have no lasting effect. Without a grace period it is zero.
    fn harmless(&self) -> u8 {
        self.grace.min(1)
    }
}
