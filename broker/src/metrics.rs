//! The broker's metrics. All of their names are in this module, by subject.
//!
//! Each series of a counter exists before its first event, so that an alert on its increase sees that event.

mod events;
mod fleet;
mod refresh;
mod store;

pub(crate) use events::{
    audit_lost, consent_ended, delivered, dropped, endpoint_configured, minted, webhook_received,
};
pub(crate) use fleet::{count_fleet, watch_unclaimed};
pub use refresh::TOKEN_ENDPOINT_BUCKETS;
pub(crate) use refresh::{
    WINDOW, app_is_gone, attempt, breaker, claimed, containment, in_flight, late_answer,
    lease_asked, lease_expired, lost_response, obstructed, recovered, refused_for_all, taken_over,
    token_endpoint_answered,
};
pub(crate) use store::{
    escrow_missed, file_ready, restored, store_error, store_findings, watch_journal,
    watch_lock_nodes,
};

/// Registers every metric with its description and its initial value.
pub(crate) fn describe() {
    refresh::describe();
    store::describe();
    events::describe();
    fleet::describe();
}
