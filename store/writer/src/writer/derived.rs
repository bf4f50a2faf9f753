//! The locations of agencies: see [`crate::protocol::derived`](crate::protocol).

use std::time::Duration;

use store::seal::Sealed;
use store::{AppName, CompanyId, Generation, InstallationId, Timestamp, keys};
use tracing::warn;

use super::{Decision, StoreWriter, WriteError};
use crate::grant::Registration;
use crate::installation::{Installation, LastError, LocationList, refresh_label};
use crate::protocol::{self, AgencyGrant, AgencyLocation, Listed, SealedTokens};

/// The calls of all brokers for one agency within [`WINDOW`]. GHL allows 100 for each app and agency, and gateways call
/// GHL for the agency, too.
const CALLS_PER_WINDOW: usize = 90;
/// The part of them that questions about unknown locations may use. Strangers choose how many there are, and the calls of
/// known locations must not wait for them.
const CALLS_FOR_UNKNOWN: usize = CALLS_PER_WINDOW / 2;
const WINDOW: Duration = Duration::from_secs(10);
/// The attempts to count a call while other brokers count theirs.
const COUNT_ATTEMPTS: usize = 10;

/// The reason why a broker calls GHL for an agency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPurpose {
    /// It is about a location that has an installation, or about the list of locations.
    Known,
    /// It asks for a location that may be nobody's.
    Unknown,
}

impl CallPurpose {
    /// How many calls of any purpose there may be within [`WINDOW`] with this one.
    const fn limit(self) -> usize {
        match self {
            Self::Known => CALLS_PER_WINDOW,
            Self::Unknown => CALLS_FOR_UNKNOWN,
        }
    }
}

/// Whether a broker may call GHL for an agency now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgencyCall {
    /// Yes. It is counted.
    Now,
    /// After this time.
    Later(Duration),
}

/// How a location was stored that GHL lists or announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocationNews {
    /// It is new, or has the app again.
    Added,
    /// Nothing has changed.
    Known,
    /// The app was uninstalled there later.
    Uninstalled,
}

/// How a minted token was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MintOutcome {
    /// It is the current token, of this generation.
    Stored(Generation),
    /// The location has a newer token.
    Superseded,
    /// The app was uninstalled meanwhile.
    Revoked,
}

impl StoreWriter {
    /// Stores a location that GHL lists.
    ///
    /// # Errors
    /// When the store is unavailable, or the record of the location cannot be read.
    pub async fn list_location(
        &self,
        known: &AgencyLocation,
    ) -> Result<(InstallationId, LocationNews), WriteError> {
        self.put_location(known, protocol::list_location).await
    }

    /// Stores a location that GHL announces. `grant` is that of its agency.
    ///
    /// # Errors
    /// As [`StoreWriter::list_location`].
    pub async fn announce_location(
        &self,
        known: &AgencyLocation,
        grant: AgencyGrant,
    ) -> Result<(InstallationId, LocationNews), WriteError> {
        let decide = |id: &_, current: Option<&_>, known: &_, now| {
            protocol::announce_location(id, current, known, grant, now)
        };
        self.put_location(known, decide).await
    }

    async fn put_location(
        &self,
        known: &AgencyLocation,
        decide: impl Fn(&InstallationId, Option<&Installation>, &AgencyLocation, Timestamp) -> Listed,
    ) -> Result<(InstallationId, LocationNews), WriteError> {
        let id = self.id_of_location(known).await?;
        let decided = self.decide(&id, |current, now| match decide(&id, current, known, now) {
            Listed::Write(next) => Decision::Write(next, LocationNews::Added),
            Listed::Known => Decision::Leave(LocationNews::Known),
            Listed::Uninstalled => Decision::Leave(LocationNews::Uninstalled),
        });
        let news = decided.await?;
        Ok((id, news))
    }

    /// Stores a token that was minted for a location. Creates the location's installation if there is none.
    ///
    /// # Errors
    /// As [`StoreWriter::list_location`].
    pub async fn store_minted(
        &self,
        known: &AgencyLocation,
        minted: &Registration,
    ) -> Result<(InstallationId, MintOutcome), WriteError> {
        let id = self.id_of_location(known).await?;
        let consent = InstallationId::random();
        let decided = self.decide(&id, |current, now| {
            // A repetition of this write, whose acknowledgement was lost.
            if let Some(current) = current.filter(|it| it.is_from_consent(&consent)) {
                return Decision::Leave(MintOutcome::Stored(current.access.generation));
            }
            let generation = protocol::generation_after(current);
            let sealed = self.seal_minted(&id, generation, current, minted);
            let tokens = (minted, sealed);
            match protocol::mint(current, &id, known, consent.as_str(), tokens, now) {
                protocol::Minted::Apply(next) => {
                    Decision::Write(next, MintOutcome::Stored(generation))
                }
                protocol::Minted::Superseded => Decision::Leave(MintOutcome::Superseded),
                protocol::Minted::Revoked => Decision::Leave(MintOutcome::Revoked),
            }
        });
        let outcome = decided.await?;
        Ok((id, outcome))
    }

    fn seal_minted(
        &self,
        id: &InstallationId,
        generation: Generation,
        current: Option<&Installation>,
        minted: &Registration,
    ) -> SealedTokens {
        let label = refresh_label(id, generation);
        let refresh = match &minted.refresh_token {
            Some(token) => Some(self.rings.seal_refresh(label, token)),
            None => current.and_then(|current| self.seal_again(current, generation)),
        };
        SealedTokens {
            access: self.rings.seal_access(id, generation, &minted.access_token),
            refresh,
        }
    }

    /// The refresh token of a location, sealed for its next generation. `None` if there is none that can be read. Its loss
    /// is no reason to refuse the minted token.
    fn seal_again(&self, current: &Installation, next: Generation) -> Option<Sealed> {
        let chain = current.chain.as_ref()?;
        let label = refresh_label(&current.id, current.access.generation);
        match self.rings.refresh.open_token(label, &chain.refresh_token) {
            Ok(token) => Some(
                self.rings
                    .seal_refresh(refresh_label(&current.id, next), &token),
            ),
            Err(error) => {
                warn!(installation = %current.id, error = &error as &dyn std::error::Error,
                    "GHL gave no refresh token with a minted token, and the earlier one cannot be read");
                None
            }
        }
    }

    /// Removes the tokens of a location whose access token has expired.
    ///
    /// # Errors
    /// When there is no such installation, or the store is unavailable.
    pub async fn rest(&self, id: &InstallationId) -> Result<(), WriteError> {
        self.decide_known(id, |current, now| match protocol::rest(current, now) {
            Some(next) => Decision::Write(Box::new(next), ()),
            None => Decision::Write(Box::new(current.clone()), ()),
        })
        .await
    }

    /// Records that a mint failed.
    ///
    /// # Errors
    /// When there is no such installation, or the store is unavailable.
    pub async fn record_mint_failure(
        &self,
        id: &InstallationId,
        kind: &str,
        message: &str,
    ) -> Result<(), WriteError> {
        self.decide_known(id, |current, now| {
            let error = LastError::new(kind, message, now);
            match protocol::fail_mint(current, error) {
                Some(next) => Decision::Write(Box::new(next), ()),
                None => Decision::Leave(()),
            }
        })
        .await
    }

    /// Records what is known about an agency's locations. `of` is the consent that the list belongs to: nothing is
    /// recorded after a newer one.
    ///
    /// # Errors
    /// When there is no such installation, or the store is unavailable.
    pub async fn record_list(
        &self,
        id: &InstallationId,
        of: Timestamp,
        list: &LocationList,
    ) -> Result<(), WriteError> {
        self.decide_known(id, |current, _| {
            if current.consented_at != of || current.locations.is_none() {
                return Decision::Leave(());
            }
            let mut next = current.clone();
            next.locations = Some(list.clone());
            Decision::Write(Box::new(next), ())
        })
        .await
    }

    /// Lists the locations of an agency as soon as possible.
    ///
    /// # Errors
    /// When there is no such installation, or the store is unavailable.
    pub async fn request_list(&self, id: &InstallationId) -> Result<(), WriteError> {
        self.decide_known(id, |current, now| {
            let mut next = current.clone();
            match next.locations.as_mut().filter(|list| list.due > now) {
                Some(list) => list.due = now,
                None => return Decision::Leave(()),
            }
            Decision::Write(Box::new(next), ())
        })
        .await
    }

    /// The id that the installation of an agency has, or will have once the agency has consented.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn id_of_agency(
        &self,
        app: &AppName,
        company: &CompanyId,
    ) -> Result<InstallationId, WriteError> {
        let fresh = InstallationId::random();
        self.reserved_id(app, company.as_str(), fresh).await
    }

    /// The installations of all agencies.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn agencies(&self) -> Result<Vec<InstallationId>, WriteError> {
        self.backend.family(keys::AGENCIES).await
    }

    /// The locations of an agency's installation. Some may belong to another installation by now.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn children(
        &self,
        parent: &InstallationId,
    ) -> Result<Vec<InstallationId>, WriteError> {
        self.backend.family(parent.as_str()).await
    }

    /// Counts a call of a broker to GHL for an agency.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn count_agency_call(
        &self,
        (app, company): (&AppName, &CompanyId),
        purpose: CallPurpose,
        now: Timestamp,
    ) -> Result<AgencyCall, WriteError> {
        let key = keys::agency_rate(app, company.as_str());
        let limit = purpose.limit();
        for _ in 0..COUNT_ATTEMPTS {
            let held = self.backend.get(&key).await?;
            let mut calls = recent_calls(held.as_deref().unwrap_or_default(), now);
            if calls.len() >= limit {
                let first = calls[calls.len() - limit];
                return Ok(AgencyCall::Later((first + WINDOW).since(now)));
            }
            calls.push(now);
            let next: Vec<String> = calls.iter().map(|at| at.as_millis().to_string()).collect();
            let next = next.join(" ");
            let set = self
                .backend
                .compare_and_set(&key, held.as_deref(), Some(&next), WINDOW);
            if set.await? {
                return Ok(AgencyCall::Now);
            }
        }
        // Other brokers were faster each time.
        Ok(AgencyCall::Later(WINDOW / 100))
    }

    async fn id_of_location(&self, known: &AgencyLocation) -> Result<InstallationId, WriteError> {
        let fresh = InstallationId::random();
        self.reserved_id(&known.app, known.location.as_str(), fresh)
            .await
    }
}

/// The times of the calls in the window before `now`, the earliest first. A time in the future is from before the clock
/// was set back.
fn recent_calls(held: &str, now: Timestamp) -> Vec<Timestamp> {
    let times = held.split(' ').filter_map(|text| text.parse().ok());
    let times = times.map(|at| Timestamp::from_millis(at).min(now));
    times.filter(|at| now.since(*at) < WINDOW).collect()
}

#[cfg(test)]
mod tests;
