//! How an installation begins and ends.

use std::collections::BTreeMap;

use store::record::{Status, StoredAccess};
use store::seal::Sealed;
use store::{Generation, InstallationId, Timestamp};

use crate::grant::{Enrolment, Fingerprint};
use crate::installation::{Chain, Installation, LastError};

/// The generation that an enrolment would have: the next one, so that every cached copy is older.
#[must_use]
pub fn generation_for(current: Option<&Installation>) -> Generation {
    current.map_or(Generation::FIRST, |known| known.access.generation.next())
}

/// A customer consented: a new chain begins, whatever was before.
///
/// An intent or alternate of the former chain is dropped: GHL revoked that chain with the consent.
#[must_use]
pub fn enrol(
    id: InstallationId,
    current: Option<&Installation>,
    enrolment: &Enrolment,
    sealed: SealedTokens,
    due: Option<Timestamp>,
    now: Timestamp,
) -> Installation {
    let chain = match (&enrolment.refresh_token, sealed.refresh) {
        (Some(token), Some(sealed)) => Some(Chain {
            consent: store::random::hex::<8>(),
            fingerprint: Fingerprint::of(token),
            refresh_token: sealed,
        }),
        (None, _) | (Some(_), None) => None,
    };
    let status = match chain {
        Some(_) => Status::Active,
        None => Status::Static,
    };
    Installation {
        id,
        access: StoredAccess {
            token: sealed.access,
            expires_at: enrolment.expires_at,
            lifetime: enrolment.lifetime,
            generation: generation_for(current),
            status,
            location: enrolment.location.clone(),
            company: enrolment.company.clone(),
            user_type: enrolment.user_type,
            scopes: enrolment.scopes.clone(),
        },
        chain,
        intent: None,
        alternates: BTreeMap::new(),
        failures: 0,
        last_error: None,
        installed_at: current.map_or(now, |known| known.installed_at),
        consented_at: now,
        refreshed_at: Some(now),
        due,
    }
}

/// Whether a static token may take an installation's place: never that of a consent that lives.
#[must_use]
pub fn may_be_static(current: Option<&Installation>) -> bool {
    let lives = |known: &Installation| match known.access.status {
        Status::Active | Status::Paused => true,
        Status::Invalid | Status::Revoked | Status::Static => false,
    };
    !current.is_some_and(lives)
}

/// The tokens of an enrolment, sealed for the generation they will have.
#[derive(Debug)]
pub struct SealedTokens {
    pub access: Sealed,
    pub refresh: Option<Sealed>,
}

/// The app was uninstalled, or an operator ended it. A consent revives it.
///
/// `told_at`: when that was said. News from before the last consent are old: `None`.
#[must_use]
pub fn revoke(
    current: &Installation,
    reason: &str,
    told_at: Timestamp,
    now: Timestamp,
) -> Option<Installation> {
    if told_at < current.consented_at {
        return None;
    }
    let mut next = current.clone();
    next.access.status = Status::Revoked;
    next.intent = None;
    next.due = None;
    next.last_error = Some(LastError::new("revoked", reason, now));
    Some(next)
}
