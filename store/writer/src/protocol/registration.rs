//! The start and the end of an installation.

use std::collections::BTreeMap;
use std::time::Duration;

use store::record::{Fields, Status, StoredAccess};
use store::seal::Sealed;
use store::{Customer, Generation, InstallationId, Timestamp, UserType};

use crate::grant::{Fingerprint, Registration};
use crate::installation::{Installation, LastError, LocationList, TokenChain};

use super::derived::REVOKED;

/// The facts that a registration needs of the record that it replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviousRecord {
    /// The generation of the record.
    pub generation: Generation,
    /// When the installation was first registered.
    pub installed_at: Timestamp,
}

impl PreviousRecord {
    /// Of a readable record.
    #[must_use]
    pub fn of(known: &Installation) -> Self {
        Self {
            generation: known.access.generation,
            installed_at: known.installed_at,
        }
    }

    /// Of a record that cannot be read as a whole, as far as its fields can be read.
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

/// The generation of a new registration: the next one, so that every cached copy is stale.
#[must_use]
pub fn generation_for(earlier: Option<PreviousRecord>) -> Generation {
    earlier.map_or(Generation::FIRST, |known| known.generation.next())
}

/// Starts a new chain named `consent` after a customer's consent, from any previous record.
///
/// An intent or an alternate of the previous chain is dropped, because GHL revoked that chain with the
/// consent.
#[must_use]
pub fn register(
    id: InstallationId,
    consent: &str,
    earlier: Option<PreviousRecord>,
    registration: &Registration,
    sealed: SealedTokens,
    due: Option<Timestamp>,
    now: Timestamp,
) -> Installation {
    let chain = match (&registration.refresh_token, sealed.refresh) {
        (Some(token), Some(sealed)) => Some(TokenChain {
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
    // GHL does not say with the consent which locations the agency has chosen.
    let is_agency = registration.user_type == UserType::Company && status == Status::Active;
    let locations = is_agency.then(|| LocationList::due_at(now));
    Installation {
        id,
        access: StoredAccess {
            token: sealed.access,
            expires_at: registration.expires_at,
            lifetime: registration.lifetime,
            generation: generation_for(earlier),
            status,
            app: registration.app.clone(),
            location: registration.location.clone(),
            company: registration.company.clone(),
            parent: None,
            user_type: registration.user_type,
            scopes: registration.scopes.clone(),
        },
        client: registration.client.clone(),
        chain,
        intent: None,
        alternates: BTreeMap::new(),
        failures: 0,
        refused: None,
        last_error: None,
        installed_at: earlier.map_or(now, |known| known.installed_at),
        consented_at: now,
        granted_at: Some(now),
        refreshed_at: Some(now),
        due,
        locations,
        details: None,
        customer: Customer::default(),
        setting: None,
    }
}

/// Whether a static token may replace the record. It never replaces a live consent.
#[must_use]
pub fn may_be_static(current: Option<&Installation>) -> bool {
    let lives = |known: &Installation| match known.access.status {
        Status::Active | Status::Paused => true,
        Status::Invalid | Status::Revoked | Status::Static => false,
    };
    !current.is_some_and(lives)
}

/// After this time a static token is to be replaced. GHL recommends it for private integration tokens.
pub const STATIC_TOKEN_AGE: Duration = Duration::from_secs(90 * 86_400);
/// Between two reminders that a static token is old.
const REMINDER_INTERVAL: Duration = Duration::from_secs(7 * 86_400);

/// Reminds of a static token that is old. `None` if it is not, or there was a reminder a few days ago.
#[must_use]
pub fn remind(current: &Installation, now: Timestamp) -> Option<Installation> {
    current.due.filter(|due| *due <= now)?;
    match current.access.status {
        Status::Static => {}
        Status::Active | Status::Paused | Status::Invalid | Status::Revoked => return None,
    }
    let mut next = current.clone();
    next.due = Some(now + REMINDER_INTERVAL);
    Some(next)
}

/// The tokens of a registration, sealed for the generation that they get.
#[derive(Debug)]
pub struct SealedTokens {
    /// The access token.
    pub access: Sealed,
    /// The refresh token; `None`: static.
    pub refresh: Option<Sealed>,
}

/// Revokes an installation, because the app was uninstalled or an operator ended it. A new consent revives
/// it.
///
/// `told_at` is the time of the event. `None` if the customer consented after it.
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
    next.last_error = Some(LastError::new(REVOKED, reason, told_at.min(now)));
    Some(next)
}
