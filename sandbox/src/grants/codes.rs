//! Authorization codes. They are valid once and for ten minutes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::millis;
use crate::token::Identity;

const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// A customer's consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consent {
    /// That of the grant that the exchange of the code begins.
    pub(crate) identity: Identity,
    pub(crate) redirect_uri: String,
}

#[derive(Debug, Default)]
pub(super) struct Codes {
    waiting: HashMap<String, (Consent, u64)>,
    /// The codes in the order of their expiry.
    order: VecDeque<(u64, String)>,
}

impl Codes {
    pub(super) fn keep(&mut self, code: String, consent: Consent, now_ms: u64) {
        while let Some((_, old)) = self.order.pop_front_if(|(expires, _)| *expires <= now_ms) {
            self.waiting.remove(&old);
        }
        let expires_ms = now_ms + millis(LIFETIME);
        self.order.push_back((expires_ms, code.clone()));
        self.waiting.insert(code, (consent, expires_ms));
    }

    /// The consent of a valid code.
    pub(super) fn peek(&self, code: &str, now_ms: u64) -> Option<&Consent> {
        self.waiting
            .get(code)
            .filter(|(_, expires_ms)| now_ms < *expires_ms)
            .map(|(consent, _)| consent)
    }

    /// Drops the codes for this app and location, or company with its locations.
    pub(super) fn forget(&mut self, app: &str, id: &str) {
        self.waiting.retain(|_, (consent, _)| {
            let identity = &consent.identity;
            let subject = &identity.subject;
            identity.app() != app || (**subject.id() != *id && **subject.company() != *id)
        });
    }

    pub(super) fn take(&mut self, code: &str) -> Option<Consent> {
        self.waiting.remove(code).map(|(consent, _)| consent)
    }
}
