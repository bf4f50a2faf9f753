//! How an installation begins and ends.

use std::collections::BTreeMap;

use store::record::{Fields, Status, StoredAccess};
use store::seal::Sealed;
use store::{Generation, InstallationId, Timestamp};

use crate::grant::{Enrolment, Fingerprint};
use crate::installation::{Chain, Installation, LastError};

/// What an enrolment must know of the record whose place it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    pub generation: Generation,
    pub installed_at: Timestamp,
}

impl Earlier {
    #[must_use]
    pub fn of(known: &Installation) -> Self {
        Self {
            generation: known.access.generation,
            installed_at: known.installed_at,
        }
    }

    /// As far as it can be told of a record that cannot be read as a whole.
    #[must_use]
    pub fn of_fields(access: &Fields, refresh: &Fields, now: Timestamp) -> Self {
        Self {
            generation: access.parse("gen").unwrap_or(Generation::FIRST),
            installed_at: refresh
                .parse("made")
                .map_or(now, Timestamp::from_millis)
                .min(now),
        }
    }
}

/// The generation that an enrolment would have: the next one, so that every cached copy is older.
#[must_use]
pub fn generation_for(earlier: Option<Earlier>) -> Generation {
    earlier.map_or(Generation::FIRST, |known| known.generation.next())
}

/// A customer consented: a new chain named `consent` begins, whatever was before.
///
/// An intent or alternate of the former chain is dropped: GHL revoked that chain with the consent.
#[must_use]
pub fn enrol(
    id: InstallationId,
    consent: &str,
    earlier: Option<Earlier>,
    enrolment: &Enrolment,
    sealed: SealedTokens,
    due: Option<Timestamp>,
    now: Timestamp,
) -> Installation {
    let chain = match (&enrolment.refresh_token, sealed.refresh) {
        (Some(token), Some(sealed)) => Some(Chain {
            consent: consent.to_owned(),
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
            generation: generation_for(earlier),
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
        refused: None,
        last_error: None,
        installed_at: earlier.map_or(now, |known| known.installed_at),
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
