//! Mints the token of an agency's location.

mod decision;

use std::sync::Arc;
use std::time::Duration;

use ghl::{AgencyFailure, Owner, TokenResponse};
use store::{Generation, InstallationId, LocationId, Timestamp, UserType};
use store_writer::WriteError;
use store_writer::grant::Registration;
use store_writer::writer::{CallPurpose, MintOutcome, Snapshot, Wanted};
use tracing::debug;

use super::grant::{Agency, NoAgency, Turn};
use crate::metrics;
use crate::refresh::crash_point::{self, Step};
use crate::refresh::obstacle::Obstacle;
use crate::refresh::outcome::{FailureKind, Outcome};
use crate::refresh::refresh_log;
use crate::refresh::worker::{Worker, unavailable};
use decision::{Decision, decide};

/// The result for a location whose token is wanted.
#[derive(Debug)]
pub(crate) enum LocationRefresh {
    Done(Outcome),
    /// Nothing: the agency's grant is gone, and the location's own refresh token is to be spent.
    SpendOwnToken,
}

/// Why there is no token.
#[derive(Debug)]
pub(super) enum MintError {
    Agency(NoAgency),
    /// The rate limit of the agency allows the call after this time.
    Later(Duration),
    Store(WriteError),
    Ghl(AgencyFailure),
    /// GHL gave the token of another location.
    Foreign(String),
}

impl Worker {
    /// Mints a token for a location of an agency that is known and leased.
    pub(crate) async fn refresh_location(
        self: &Arc<Self>,
        id: &InstallationId,
        parent: &InstallationId,
        wanted: Wanted,
    ) -> LocationRefresh {
        let (known, agency) = match (self.writer.load(id).await, self.agency_state(parent).await) {
            (Ok(Some(known)), Ok(agency)) => (known, agency),
            (Ok(None), _) => return LocationRefresh::Done(Outcome::UnknownInstallation),
            (Err(error), _) | (_, Err(error)) => {
                return LocationRefresh::Done(unavailable(id, &error));
            }
        };
        LocationRefresh::Done(match decide(&known, agency, wanted) {
            Decision::Mint(location) => self.mint_known(&known, parent, &location).await,
            Decision::SpendOwnToken => return LocationRefresh::SpendOwnToken,
            Decision::Rest => match self.writer.rest(id).await {
                Ok(()) => Outcome::Superseded,
                Err(error) => unavailable(id, &error),
            },
            Decision::End => self.end_location(&known).await,
            Decision::Leave(outcome) => outcome,
        })
    }

    async fn mint_known(
        self: &Arc<Self>,
        known: &Snapshot,
        parent: &InstallationId,
        location: &LocationId,
    ) -> Outcome {
        let id = &known.installation.id;
        let minted = self.mint(parent, location, CallPurpose::Known).await;
        let stored = match minted {
            Ok((agency, token)) => {
                crash_point::reached(Step::Minted);
                let known = agency.location(location);
                self.writer
                    .store_minted(&known, &token)
                    .await
                    .map_err(MintError::Store)
            }
            Err(error) => Err(error),
        };
        match stored {
            Ok((_, MintOutcome::Stored(generation))) => {
                crash_point::reached(Step::MintStored);
                Outcome::Refreshed { generation }
            }
            Ok((_, MintOutcome::Superseded)) => Outcome::Superseded,
            Ok((_, MintOutcome::Revoked)) => Outcome::NotRefreshable(store::Status::Revoked),
            Err(error) => self.mint_failed(id, error).await,
        }
    }

    /// A token for a location, from GHL.
    pub(super) async fn mint(
        self: &Arc<Self>,
        parent: &InstallationId,
        location: &LocationId,
        purpose: CallPurpose,
    ) -> Result<(Agency, Registration), MintError> {
        let mut refused: Option<Generation> = None;
        loop {
            let agency = self
                .agency(parent, refused)
                .await
                .map_err(MintError::Agency)?;
            let answer = self.ask_for_token(&agency, location, purpose).await;
            match answer {
                // The agency's token may have been ended early. A newer one is tried once.
                Err(MintError::Ghl(AgencyFailure::TokenRefused(_))) if refused.is_none() => {
                    refused = Some(agency.generation);
                }
                Err(error) => {
                    metrics::minted(error.kind());
                    return Err(error);
                }
                Ok(token) => {
                    metrics::minted("ok");
                    return Ok((agency, token));
                }
            }
        }
    }

    async fn ask_for_token(
        &self,
        agency: &Agency,
        location: &LocationId,
        purpose: CallPurpose,
    ) -> Result<Registration, MintError> {
        self.count_call(agency, purpose)
            .await
            .map_err(|turn| match turn {
                Turn::Later(wait) => MintError::Later(wait),
                Turn::Store(error) => MintError::Store(error),
            })?;
        let asked_at = self.reader.now();
        let (company, location) = (agency.company.as_str(), location.as_str());
        let asked = self
            .agency_api()
            .location_token(&agency.token, company, location);
        let response = asked.await.map_err(MintError::Ghl)?;
        let owner = Owner {
            location: Some(location),
            company: Some(company),
            user_type: UserType::Location.as_str(),
        };
        let mismatch = owner.check(&response).err();
        if let Some(mismatch) = mismatch {
            return Err(MintError::Foreign(mismatch.to_string()));
        }
        Ok(registration(response, agency, location, asked_at))
    }

    /// Ends a location whose agency has uninstalled the app.
    async fn end_location(&self, known: &Snapshot) -> Outcome {
        let id = &known.installation.id;
        let ended = self
            .writer
            .revoke(id, "the agency uninstalled the app", known.now);
        match ended.await {
            Ok(_) => Outcome::NotRefreshable(store::Status::Revoked),
            Err(error) => unavailable(id, &error),
        }
    }

    async fn mint_failed(&self, id: &InstallationId, error: MintError) -> Outcome {
        let kind = match &error {
            MintError::Agency(NoAgency::NotConnected) | MintError::Agency(NoAgency::Unknown(_)) => {
                return Outcome::Unavailable(Obstacle::NoAgency, error.to_string());
            }
            MintError::Later(wait) => return Outcome::RateLimited(*wait),
            MintError::Store(error) => return unavailable(id, error),
            MintError::Foreign(_) => FailureKind::ForeignAnswer,
            MintError::Ghl(failure) => match failure {
                AgencyFailure::Unavailable(_)
                | AgencyFailure::RateLimited(_)
                | AgencyFailure::TokenRefused(_) => FailureKind::Transient,
                AgencyFailure::ScopeMissing { .. } => FailureKind::ScopeMissing,
                AgencyFailure::NotInstalled(_) => FailureKind::NotInstalled,
                AgencyFailure::LocationInactive => FailureKind::Paused,
                AgencyFailure::Unreadable(_) => FailureKind::UnreadableAnswer,
            },
        };
        let message = error.to_string();
        refresh_log::mint_failed(id, kind, &message);
        let recorded = self.writer.record_mint_failure(id, kind.as_str(), &message);
        if let Err(error) = recorded.await {
            debug!(installation = %id, error = &error as &dyn std::error::Error,
                "the failure could not be recorded");
        }
        Outcome::Failed(kind)
    }
}

fn registration(
    response: TokenResponse,
    agency: &Agency,
    location: &str,
    asked_at: Timestamp,
) -> Registration {
    let lifetime = response.lifetime().value;
    Registration {
        app: agency.app.clone(),
        client: agency.client.clone(),
        access_token: response.access_token,
        refresh_token: response.refresh_token,
        expires_at: Some(asked_at + lifetime),
        lifetime,
        scopes: response.scope.unwrap_or_else(|| agency.scopes.clone()),
        user_type: UserType::Location,
        location: location.parse().ok(),
        company: Some(agency.company.clone()),
    }
}

impl MintError {
    /// The label in metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::Agency(_) => "no_agency",
            Self::Later(_) => "rate_limited",
            Self::Store(_) => "store",
            Self::Foreign(_) => "foreign_answer",
            Self::Ghl(failure) => match failure {
                AgencyFailure::Unavailable(_) => "unavailable",
                AgencyFailure::RateLimited(_) => "rate_limited_by_ghl",
                AgencyFailure::TokenRefused(_) => "token_refused",
                AgencyFailure::ScopeMissing { .. } => "scope_missing",
                AgencyFailure::NotInstalled(_) => "not_installed",
                AgencyFailure::LocationInactive => "location_inactive",
                AgencyFailure::Unreadable(_) => "unreadable_answer",
            },
        }
    }
}

impl std::fmt::Display for MintError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agency(NoAgency::NotConnected) => f.write_str("the agency must connect (again)"),
            Self::Agency(NoAgency::Unknown(reason)) => f.write_str(reason),
            Self::Later(_) => f.write_str("the rate limit of the agency is used up"),
            Self::Store(error) => error.fmt(f),
            Self::Foreign(mismatch) => {
                write!(
                    f,
                    "GHL responded with the token of another location: {mismatch}"
                )
            }
            Self::Ghl(failure) => failure.fmt(f),
        }
    }
}
