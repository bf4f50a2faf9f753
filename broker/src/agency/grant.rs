//! The grant of an agency: whether tokens of its locations can be had with it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use store::{
    AppName, ClientId, CompanyId, Generation, InstallationId, LocationId, Status, Timestamp,
};
use store_writer::WriteError;
use store_writer::installation::Installation;
use store_writer::protocol::{self, AgencyLocation};
use store_writer::writer::{AgencyCall, CallPurpose, Snapshot, Wanted};
use tokio::time::{Instant, sleep};

use crate::refresh::outcome::Outcome;
use crate::refresh::worker::Worker;

/// A token with less time left is replaced before it is used.
const LEAST_LEFT: Duration = Duration::from_secs(10);
/// A refused token that is younger is not replaced.
const LEAST_AGE: Duration = Duration::from_secs(60);

/// An agency whose token works.
#[derive(Debug, Clone)]
pub(super) struct Agency {
    pub(super) id: InstallationId,
    pub(super) app: AppName,
    pub(super) client: Option<ClientId>,
    /// The id of the app at GHL.
    pub(super) app_id: String,
    pub(super) company: CompanyId,
    pub(super) token: SecretString,
    pub(super) generation: Generation,
    pub(super) scopes: String,
    /// When the agency consented.
    pub(super) consented_at: Timestamp,
}

/// Why there is no token of an agency.
#[derive(Debug)]
pub(super) enum NoAgency {
    /// It has not consented, must consent again, or has uninstalled the app.
    NotConnected,
    /// Nobody knows at the moment.
    Unknown(String),
}

/// The state of an agency's grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgencyState {
    Works,
    /// It has not consented yet, or GHL no longer accepts its refresh token.
    Gone,
    /// It has uninstalled the app, or an operator has revoked it, at this time.
    Revoked(Timestamp),
}

impl AgencyState {
    pub(crate) fn of(installation: &Installation) -> Self {
        match installation.access.status {
            Status::Active | Status::Paused => Self::Works,
            Status::Invalid | Status::Static => Self::Gone,
            Status::Revoked => Self::Revoked(protocol::revoked_at(installation)),
        }
    }
}

impl Agency {
    /// A location of this agency.
    pub(super) fn location(&self, location: &LocationId) -> AgencyLocation {
        AgencyLocation {
            parent: self.id.clone(),
            app: self.app.clone(),
            client: self.client.clone(),
            company: self.company.clone(),
            location: location.clone(),
            at: self.consented_at,
        }
    }
}

impl Worker {
    /// The state of an agency's grant.
    pub(crate) async fn agency_state(
        &self,
        id: &InstallationId,
    ) -> Result<AgencyState, WriteError> {
        let known = self.writer.load(id).await?;
        Ok(known.map_or(AgencyState::Gone, |known| {
            AgencyState::of(&known.installation)
        }))
    }

    /// An agency with a token that works. It is refreshed first if it has expired, or if it is of generation `refused`.
    pub(super) async fn agency(
        self: &Arc<Self>,
        id: &InstallationId,
        refused: Option<Generation>,
    ) -> Result<Agency, NoAgency> {
        let known = self.known_agency(id).await?;
        let access = &known.installation.access;
        let left = access
            .expires_at
            .map_or(Duration::MAX, |end| end.since(known.now));
        if left >= LEAST_LEFT && refused != Some(access.generation) {
            return self.opened(known);
        }
        let generation = access.generation;
        let age = known
            .installation
            .refreshed_at
            .map(|at| known.now.since(at));
        if refused.is_some() && age.is_some_and(|age| age < LEAST_AGE) {
            // A newer one would be refused, too. Each refresh is a risk for all locations of the agency.
            let reason = "GHL refuses the agency's token, although it is new";
            return Err(NoAgency::Unknown(reason.to_owned()));
        }
        let refreshed = self.refresh_agency(id, generation).await;
        let known = self.known_agency(id).await?;
        if known.installation.access.generation > generation {
            return self.opened(known);
        }
        if refreshed == Outcome::UnknownApp {
            // Nothing can be had with its grant here, and other agencies are asked instead.
            return Err(NoAgency::NotConnected);
        }
        Err(NoAgency::Unknown(match refreshed {
            Outcome::Unavailable(_, reason) => reason,
            other => format!("the agency's token could not be refreshed: {other:?}"),
        }))
    }

    /// Boxed, since the refresh of a location can begin that of its agency.
    fn refresh_agency<'a>(
        self: &'a Arc<Self>,
        id: &'a InstallationId,
        generation: Generation,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(self.refresh(id, Wanted::Past(generation)))
    }

    async fn known_agency(&self, id: &InstallationId) -> Result<Snapshot, NoAgency> {
        let known = self.writer.load(id).await;
        let known = known.map_err(|error| NoAgency::Unknown(error.to_string()))?;
        let known = known.ok_or(NoAgency::NotConnected)?;
        match AgencyState::of(&known.installation) {
            AgencyState::Works => Ok(known),
            AgencyState::Gone | AgencyState::Revoked(_) => Err(NoAgency::NotConnected),
        }
    }

    fn opened(&self, known: Snapshot) -> Result<Agency, NoAgency> {
        let installation = known.installation;
        let (id, consented_at) = (installation.id, installation.consented_at);
        let client = installation.client;
        let opened = installation.access.open(&id, &self.writer.rings().access);
        let access = opened.map_err(|error| NoAgency::Unknown(error.to_string()))?;
        Ok(Agency {
            company: access.company.ok_or(NoAgency::NotConnected)?,
            token: access.token,
            generation: access.generation,
            scopes: access.scopes,
            app_id: self.app_id(&access.app, client.as_ref())?,
            app: access.app,
            client,
            id,
            consented_at,
        })
    }

    /// The id at GHL of the app of a token. A token that an older build stored has no client id.
    fn app_id(&self, app: &AppName, client: Option<&ClientId>) -> Result<String, NoAgency> {
        let id = |client: &ClientId| client.app_id().to_owned();
        let named = || self.apps.named(app).map(|app| id(&app.client));
        let unknown = || NoAgency::Unknown(format!("this broker does not know the app {app}"));
        client.map(id).or_else(named).ok_or_else(unknown)
    }

    /// Counts a call for an agency, if GHL's limit allows it now.
    pub(super) async fn count_call(
        &self,
        agency: &Agency,
        purpose: CallPurpose,
    ) -> Result<(), Turn> {
        let _turn = self.agency_turns.take(&agency.company).await;
        let (of, now) = ((&agency.app, &agency.company), self.reader.now());
        let counted = self.writer.count_agency_call(of, purpose, now).await;
        match counted.map_err(Turn::Store)? {
            AgencyCall::Now => Ok(()),
            AgencyCall::Later(wait) => Err(Turn::Later(wait)),
        }
    }
}

/// Waits for the turn of a call. `None` if that takes longer than `patience`, counted from `since`.
pub(super) async fn wait_for_turn(
    wait: Duration,
    since: Instant,
    patience: Duration,
) -> Option<()> {
    if since.elapsed() + wait > patience {
        return None;
    }
    sleep(wait).await;
    Some(())
}

/// Why a call for an agency is not made now.
#[derive(Debug)]
pub(super) enum Turn {
    Later(Duration),
    Store(WriteError),
}
