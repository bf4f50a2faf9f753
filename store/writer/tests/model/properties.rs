//! What always holds, and what is to be seen at least once, lest it hold of nothing.

use stateright::Property;
use store_writer::protocol::Refusal;

use crate::faults::Kinds;
use crate::ghl::Reply;
use crate::protocol::Protocol;
use crate::system::{Call, Step, System};

pub(crate) const SPENT_ONCE: &str = "no token is spent again past an answer that can be found";
pub(crate) const SPENT_TWICE: &str = "one fault spends no token twice outside the grace";
pub(crate) const HAS_COPY: &str = "what was published has a copy somewhere";
pub(crate) const NOT_TOO_EARLY: &str = "none is given up while its token can be found";
pub(crate) const ONE_FAULT: &str = "one fault ends no installation";
pub(crate) const REPAIRED: &str = "in the end the store has the newest token that survived";
pub(crate) const GHL_ENDS_NONE: &str = "slow answers and wrong refusals end no installation";
pub(crate) const FORWARD: &str = "no write sets the chain back";

pub(crate) fn all(kinds: Kinds) -> Vec<Property<Protocol>> {
    let sights = match kinds {
        Kinds::Machines => seen_when_machines_die(),
        Kinds::Ghl => seen_in_bad_hours(),
    };
    [always(), sights].concat()
}

fn always() -> Vec<Property<Protocol>> {
    vec![
        Property::always(SPENT_ONCE, |_, system: &System| {
            !system.history.is_spent_past_its_answer
        }),
        Property::always(SPENT_TWICE, |protocol: &Protocol, system: &System| {
            system.faults > protocol.harmless() || !system.history.is_spent_twice
        }),
        Property::always(HAS_COPY, |_, system: &System| {
            let newest = system.ghl.newest();
            system.history.published < newest || system.has_copy(newest)
        }),
        Property::always(NOT_TOO_EARLY, |_, system: &System| {
            !system.history.is_given_up_too_early
        }),
        Property::always(ONE_FAULT, |protocol: &Protocol, system: &System| {
            system.faults > protocol.harmless() || !system.is_given_up()
        }),
        Property::always(REPAIRED, |_, system: &System| {
            let newest = system.ghl.newest();
            let is_well = system.store.link.token == newest && !system.is_given_up();
            !system.is_quiet() || is_well || !system.has_copy(newest)
        }),
        Property::always(GHL_ENDS_NONE, |protocol: &Protocol, system: &System| {
            protocol.kinds != Kinds::Ghl || !system.is_quiet() || !system.is_given_up()
        }),
        Property::always(FORWARD, |_, system: &System| !system.history.is_set_back),
    ]
}

fn seen_when_machines_die() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes(
            "all refreshes are done",
            |protocol: &Protocol, system: &System| system.store.link.token > protocol.refreshes,
        ),
        Property::sometimes("an attempt is taken over", |_, system: &System| {
            is_at(
                system,
                |step| matches!(step, Step::Begun(attempt) if attempt.is_repeat),
            )
        }),
        Property::sometimes(
            "an answer is repeated inside the grace",
            |_, system: &System| {
                is_at(system, |step| {
                    matches!(step, Step::Called(_, Call::Answered(Reply::Repeated(_))))
                })
            },
        ),
        Property::sometimes("an answer is found in a journal", |_, system: &System| {
            is_at(
                system,
                |step| matches!(step, Step::Safe(committing) if committing.is_from_journal),
            )
        }),
        Property::sometimes("an answer is found in the escrow", |_, system: &System| {
            is_at(system, |step| matches!(step, Step::Found(..)))
        }),
        Property::sometimes("a token is refused", |_, system: &System| {
            is_at(system, |step| {
                matches!(step, Step::Failed(_, Refusal::Refused))
            })
        }),
        Property::sometimes("an installation is lost", |_, system: &System| {
            system.is_given_up() && !system.has_copy(system.ghl.newest())
        }),
    ]
}

fn seen_in_bad_hours() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes("an answer comes late", |_, system: &System| {
            let mut brokers = system.brokers.iter();
            brokers.any(|broker| broker.waits_for(system.ghl.newest()))
        }),
        Property::sometimes("a suspect is refreshed", |_, system: &System| {
            let is_answered = |step: &Step| matches!(step, Step::Answered { .. });
            system.store.refusals > 0 && is_at(system, is_answered)
        }),
    ]
}

fn is_at(system: &System, is_it: impl Fn(&Step) -> bool) -> bool {
    system.brokers.iter().any(|broker| is_it(&broker.step))
}

impl Protocol {
    /// How many faults change nothing in the end: without a grace, none.
    fn harmless(&self) -> u8 {
        self.grace.min(1)
    }
}
