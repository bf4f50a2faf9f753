//! Leases inside one process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use store::InstallationId;
use store::clock::Moment;

use super::NotLeased;

/// Who holds what, until when.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<InstallationId, Ticket>>);

/// Tells one holder from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    until: Moment,
    nonce: [u8; 8],
}

impl Held {
    pub(super) fn take(
        &self,
        installation: &InstallationId,
        ttl: Duration,
    ) -> Result<Ticket, NotLeased> {
        let now = Moment::now();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held
            .get(installation)
            .is_some_and(|ticket| now < ticket.until)
        {
            return Err(NotLeased::Held);
        }
        let ticket = Ticket {
            until: now + ttl,
            nonce: store::random::bytes(),
        };
        held.insert(installation.clone(), ticket);
        Ok(ticket)
    }

    pub(super) fn release(&self, installation: &InstallationId, ticket: Ticket) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(installation) == Some(&ticket) {
            held.remove(installation);
        }
    }
}
