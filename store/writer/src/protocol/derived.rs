//! The locations of an agency. Their access tokens are minted with the agency's token.
//!
//! A mint spends nothing that is valid once. So it needs no intent, and a repeated one is harmless.

use std::collections::BTreeMap;
use std::time::Duration;

use store::record::{Status, StoredAccess};
use store::seal::Sealed;
use store::{
    AppName, ClientId, CompanyId, Generation, InstallationId, LocationId, Timestamp, UserType,
};

use crate::grant::{Fingerprint, Registration};
use crate::installation::{Installation, LastError, TokenChain};
use crate::protocol::SealedTokens;

/// The lifetime in the record of a location that has never had a token.
const USUAL_LIFETIME: Duration = Duration::from_secs(86_399);

/// A location of an agency with the app, as GHL lists or announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgencyLocation {
    /// The agency's installation.
    pub parent: InstallationId,
    /// The app that the agency has installed.
    pub app: AppName,
    /// The client id of the agency's grant. A refresh token of the location works with it, too.
    pub client: Option<ClientId>,
    /// The agency.
    pub company: CompanyId,
    /// The location.
    pub location: LocationId,
    /// When the app was installed there: the time of the announcement, or else of the agency's consent. A list says only
    /// that GHL has not ended it. So it undoes no revocation since the consent.
    pub at: Timestamp,
}

/// The effect of a location that GHL lists or announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// The record to store: a new location, or one that has the app again.
    Write(Box<Installation>),
    /// It is known, or it has a grant of its own.
    Known,
    /// The app was uninstalled there later.
    Uninstalled,
}

/// Decides what to store for a location that GHL lists or announces. It sleeps until it is called.
#[must_use]
pub fn list_location(
    id: &InstallationId,
    current: Option<&Installation>,
    known: &AgencyLocation,
    now: Timestamp,
) -> Listed {
    let Some(current) = current else {
        return Listed::Write(Box::new(asleep(id, None, known, now)));
    };
    let again = || Listed::Write(Box::new(asleep(id, Some(current), known, now)));
    match (current.access.status, &current.access.parent) {
        (Status::Revoked, _) if revoked_at(current) >= known.at => Listed::Uninstalled,
        // Its own grant may be refused wrongly, and is tried again. A later consent of the agency replaces it.
        (Status::Invalid, None) if current.consented_at >= known.at => Listed::Known,
        (Status::Revoked | Status::Invalid, _) => again(),
        (Status::Active, Some(_)) if is_waiting(current) => again(),
        (Status::Active | Status::Paused, Some(parent)) if *parent == known.parent => Listed::Known,
        (Status::Active | Status::Paused, Some(_)) => again(),
        // Its own grant works.
        (Status::Active | Status::Paused | Status::Static, None) | (Status::Static, Some(_)) => {
            Listed::Known
        }
    }
}

/// Whether the tokens of an agency's locations can be minted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgencyGrant {
    /// The agency is connected.
    Works,
    /// It has not consented, has uninstalled the app, or GHL refuses its refresh token.
    Missing,
}

/// As [`list_location`], after an announcement of an installation. An uninstallation from before it no longer counts.
/// While the agency's grant is missing, the location waits for it, or for a consent of its own, and nothing says that it
/// is connected.
#[must_use]
pub fn announce_location(
    id: &InstallationId,
    current: Option<&Installation>,
    known: &AgencyLocation,
    grant: AgencyGrant,
    now: Timestamp,
) -> Listed {
    match (list_location(id, current, known, now), current) {
        (Listed::Known, Some(current)) if is_waiting(current) => Listed::Known,
        (Listed::Known, Some(current)) if current.consented_at < known.at => {
            let mut next = current.clone();
            next.consented_at = known.at;
            Listed::Write(Box::new(next))
        }
        (Listed::Write(next), current) => match (grant, current.map(|it| it.access.status)) {
            (AgencyGrant::Works, _) => Listed::Write(next),
            (AgencyGrant::Missing, None | Some(Status::Revoked)) => {
                Listed::Write(Box::new(waiting(*next, now)))
            }
            // It would only lose what it has.
            (
                AgencyGrant::Missing,
                Some(Status::Active | Status::Paused | Status::Static | Status::Invalid),
            ) => Listed::Known,
        },
        (listed, _) => listed,
    }
}

/// Whether a location was announced and has had no token since. Nobody has been told that it is connected.
#[must_use]
pub fn is_waiting(current: &Installation) -> bool {
    let last = current.last_error.as_ref();
    last.is_some_and(|error| error.kind == AWAITS_CONSENT)
}

/// The kind of error of a location that waits for a consent.
const AWAITS_CONSENT: &str = "awaits_consent";

fn waiting(mut asleep: Installation, now: Timestamp) -> Installation {
    let message = "GHL has announced the installation, and neither the agency nor the location has consented yet";
    asleep.last_error = Some(LastError::new(AWAITS_CONSENT, message, now));
    asleep
}

fn asleep(
    id: &InstallationId,
    earlier: Option<&Installation>,
    known: &AgencyLocation,
    now: Timestamp,
) -> Installation {
    Installation {
        id: id.clone(),
        access: StoredAccess {
            token: Sealed::from_bytes(Vec::new()),
            expires_at: Some(now),
            lifetime: USUAL_LIFETIME,
            generation: earlier.map_or(Generation::NONE, |it| it.access.generation.next()),
            status: Status::Active,
            app: known.app.clone(),
            location: Some(known.location.clone()),
            company: Some(known.company.clone()),
            parent: Some(known.parent.clone()),
            user_type: UserType::Location,
            // They come with a token. Without them, Redis keeps the record in its compact form.
            scopes: String::new(),
        },
        client: None,
        chain: None,
        intent: None,
        alternates: BTreeMap::new(),
        failures: 0,
        refused: None,
        last_error: None,
        installed_at: earlier.map_or(now, |it| it.installed_at),
        refreshed_at: None,
        consented_at: known.at.min(now),
        granted_at: None,
        due: None,
        locations: None,
        details: earlier.and_then(|it| it.details.clone()),
        customer: earlier.map(|it| it.customer.clone()).unwrap_or_default(),
        setting: None,
    }
}

/// When an installation was revoked. The far past if it was not.
#[must_use]
pub fn revoked_at(current: &Installation) -> Timestamp {
    let last = current.last_error.as_ref();
    last.filter(|error| error.kind == REVOKED)
        .map_or(Timestamp::from_millis(0), |error| error.at)
}

/// The kind of error of an installation that was revoked.
pub(super) const REVOKED: &str = "revoked";

/// The effect of a minted token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Minted {
    /// It becomes the current token, once this is stored.
    Apply(Box<Installation>),
    /// The location has a newer token, or a grant of its own.
    Superseded,
    /// The app was uninstalled meanwhile.
    Revoked,
}

/// Decides the effect of a token that was minted for a location. `base` is its record before the mint, or a new one.
/// `consent` names the chain of its refresh token, which is kept for the case that the agency's grant ends. If GHL gave
/// none, `sealed` has the earlier one, sealed for the next generation, and its chain goes on.
#[must_use]
pub fn mint(
    current: Option<&Installation>,
    id: &InstallationId,
    known: &AgencyLocation,
    consent: &str,
    (registration, sealed): (&Registration, SealedTokens),
    now: Timestamp,
) -> Minted {
    let mut next = match current {
        None => asleep(id, None, known, now),
        Some(current) => match (current.access.status, &current.access.parent) {
            (Status::Revoked, _) => return Minted::Revoked,
            (Status::Active | Status::Paused | Status::Static, None) | (Status::Static, _) => {
                return Minted::Superseded;
            }
            (Status::Active | Status::Paused, Some(_)) => current.clone(),
            (Status::Invalid, _) => asleep(id, Some(current), known, now),
        },
    };
    let expires_at = registration
        .expires_at
        .map(|end| end.min(now + registration.lifetime));
    next.access.token = sealed.access;
    next.access.generation = generation_after(current);
    next.access.expires_at = expires_at;
    next.access.lifetime = registration.lifetime;
    next.access.status = Status::Active;
    next.access.parent = Some(known.parent.clone());
    next.access.scopes.clone_from(&registration.scopes);
    if registration.refresh_token.is_some() {
        next.client.clone_from(&known.client);
    }
    next.chain = match (&registration.refresh_token, sealed.refresh) {
        (Some(token), Some(sealed)) => Some(TokenChain {
            consent: consent.to_owned(),
            fingerprint: Fingerprint::of(token),
            refresh_token: sealed,
        }),
        (None, Some(sealed)) => next.chain.take().map(|earlier| TokenChain {
            refresh_token: sealed,
            ..earlier
        }),
        (Some(_) | None, None) => None,
    };
    next.intent = None;
    next.alternates.clear();
    next.refused = None;
    next.failures = 0;
    next.last_error = None;
    next.refreshed_at = Some(now);
    // It falls asleep then, unless it was minted again.
    next.due = expires_at;
    Minted::Apply(Box::new(next))
}

/// The generation of the token that is minted next.
#[must_use]
pub fn generation_after(current: Option<&Installation>) -> Generation {
    current.map_or(Generation::FIRST, |it| it.access.generation.next())
}

/// Removes the access token of a location if it has expired, so that the record takes less memory. The next call mints, also
/// if the location was paused or invalid while it lived on its own refresh token. If the token is valid, only its place in
/// the schedule changes. `None` if nothing changes.
#[must_use]
pub fn rest(current: &Installation, now: Timestamp) -> Option<Installation> {
    let mut next = current.clone();
    let has_expired = current.access.expires_at.is_none_or(|end| end <= now);
    match current.access.status {
        Status::Active | Status::Paused | Status::Invalid if has_expired => {
            next.access.token = Sealed::from_bytes(Vec::new());
            next.access.status = Status::Active;
            next.intent = None;
            next.refused = None;
            next.due = None;
        }
        Status::Active | Status::Paused | Status::Invalid => next.due = current.access.expires_at,
        Status::Revoked | Status::Static => next.due = None,
    }
    (next != *current).then_some(next)
}

/// Records that a mint failed. `None` if the location needs none any more.
#[must_use]
pub fn fail_mint(current: &Installation, error: LastError) -> Option<Installation> {
    if current.access.status == Status::Revoked || current.access.parent.is_none() {
        return None;
    }
    let mut next = current.clone();
    next.failures = next.failures.saturating_add(1);
    let is_waiting = is_waiting(current);
    let last = next.last_error.insert(error);
    if is_waiting {
        AWAITS_CONSENT.clone_into(&mut last.kind);
    }
    Some(next)
}

/// How long the list of an agency's locations is left to one broker. It renews its claim with every page. If it dies,
/// another one begins again.
pub const LIST_CLAIM: Duration = Duration::from_secs(30);

/// Claims the list of an agency's locations if it is due and the agency's token is not.
#[must_use]
pub fn claim_list(current: &Installation, now: Timestamp) -> Option<Installation> {
    let is_token_due = current.due.is_some_and(|due| due <= now);
    let list = current.locations.as_ref().filter(|list| list.due <= now)?;
    if is_token_due || current.wake_at() != Some(list.due) {
        return None;
    }
    let mut next = current.clone();
    next.locations.as_mut()?.due = now + LIST_CLAIM;
    Some(next)
}

/// Until when a failed mint is not repeated: a second after the first failure, and at most a minute. A failure in the
/// future is from before the clock was set back.
#[must_use]
pub fn mint_pause_ends(current: &Installation, now: Timestamp) -> Option<Timestamp> {
    const FIRST_PAUSE: Duration = Duration::from_secs(1);
    const LONGEST_PAUSE: Duration = Duration::from_secs(60);
    let error = current
        .last_error
        .as_ref()
        .filter(|_| current.failures > 0)?;
    let doubled = FIRST_PAUSE * 2_u32.saturating_pow(current.failures.saturating_sub(1).min(6));
    Some(error.at.min(now) + doubled.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests;
