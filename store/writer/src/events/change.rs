//! Decides which event a change of a record causes.

use store::{Generation, Status};

use super::EventType;
use crate::details::Details;
use crate::installation::Installation;
use crate::protocol;

/// The fact that names the customer's plan.
const PLAN: &str = "planId";

/// The event that a change causes. `None` if it causes none, as a refresh does.
#[must_use]
pub fn event_of(before: Option<&Installation>, after: &Installation) -> Option<EventType> {
    // GHL has announced it, and it has no token yet.
    if protocol::is_waiting(after) {
        return None;
    }
    let Some(before) = before else {
        return of_first_token(after, EventType::Connected);
    };
    if protocol::is_waiting(before) {
        let had_token = before.access.generation > Generation::NONE;
        let of_consent = if had_token {
            EventType::Reconnected
        } else {
            EventType::Connected
        };
        return of_first_token(after, of_consent);
    }
    let of_status = match (before.access.status, after.access.status) {
        (Status::Revoked, Status::Active | Status::Paused | Status::Static)
        | (Status::Invalid, Status::Static) => Some(EventType::Reconnected),
        (Status::Active | Status::Paused | Status::Static, Status::Active)
            if has_new_consent(before, after) =>
        {
            of_consent(before, after)
        }
        (Status::Invalid, Status::Active) if has_new_consent(before, after) => {
            Some(EventType::Reconnected)
        }
        (Status::Invalid | Status::Paused, Status::Active) if falls_asleep(before, after) => None,
        (Status::Invalid, Status::Active) => Some(EventType::Recovered),
        (Status::Paused, Status::Active) => Some(EventType::Resumed),
        (Status::Active | Status::Invalid | Status::Static, Status::Paused) => {
            Some(EventType::Paused)
        }
        (Status::Active | Status::Paused | Status::Static | Status::Revoked, Status::Invalid) => {
            Some(EventType::NeedsConsent)
        }
        (Status::Active | Status::Paused | Status::Invalid | Status::Static, Status::Revoked) => {
            Some(EventType::Uninstalled)
        }
        (Status::Active | Status::Static, Status::Active)
        | (Status::Active | Status::Paused | Status::Static, Status::Static)
        | (Status::Paused, Status::Paused)
        | (Status::Invalid, Status::Invalid)
        | (Status::Revoked, Status::Revoked) => None,
    };
    of_status.or_else(|| of_facts(before, after))
}

/// The event of an installation that was not there before, or only announced.
fn of_first_token(after: &Installation, event: EventType) -> Option<EventType> {
    match after.access.status {
        Status::Active | Status::Paused | Status::Static => Some(event),
        Status::Invalid | Status::Revoked => None,
    }
}

/// Whether the customer has consented again. The chain of a location of an agency begins anew with each token.
fn has_new_consent(before: &Installation, after: &Installation) -> bool {
    let name = |of: &Installation| of.chain.as_ref().map(|chain| chain.consent.clone());
    let is_imported = name(after).is_some_and(|name| protocol::is_import(&name));
    let is_own = after.access.parent.is_none() && after.chain.is_some();
    is_own && !is_imported && name(before) != name(after)
}

/// The event of a new consent for an installation that works. A webhook may have connected a location of an agency
/// before its own consent came. Then the consent causes an event only if it brings the customer's id.
fn of_consent(before: &Installation, after: &Installation) -> Option<EventType> {
    let was_of_agency = before.access.parent.is_some();
    let is_named_anew = before.customer.external_id != after.customer.external_id;
    match (before.access.status, was_of_agency, is_named_anew) {
        (Status::Active, true, true) => Some(EventType::Connected),
        (Status::Active, true, false) => None,
        (Status::Active, false, _)
        | (Status::Paused | Status::Static | Status::Invalid | Status::Revoked, _, _) => {
            Some(EventType::Reconnected)
        }
    }
}

/// Whether a location of an agency loses its expired token, and nothing says that it works. While the agency's grant is
/// gone, a location with a refresh token of its own lives on that one. So if it falls asleep, its agency works again.
fn falls_asleep(before: &Installation, after: &Installation) -> bool {
    after.access.parent.is_some()
        && after.access.token.is_empty()
        && before.consented_at == after.consented_at
        && before.chain.is_none()
}

fn of_facts(before: &Installation, after: &Installation) -> Option<EventType> {
    let plan = |of: &Installation| {
        let told = of.details.as_ref();
        told.and_then(|told: &Details| told.facts.get(PLAN).cloned())
    };
    let facts = |of: &Installation| of.details.as_ref().map(|told| told.facts.clone());
    if plan(before).is_some() && plan(before) != plan(after) {
        Some(EventType::PlanChanged)
    } else if facts(before) != facts(after) || before.customer != after.customer {
        Some(EventType::Updated)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
