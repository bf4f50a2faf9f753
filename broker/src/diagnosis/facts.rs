//! Collects the facts that a diagnosis needs.

use std::time::Duration;

use store::key_list::RingKind;
use store::seal::OpenError;
use store::{AppName, InstallationId};
use store_writer::installation::Installation;
use store_writer::writer::{KnownApps, Listed, Snapshot};
use store_writer::{Rings, WriteError};

use crate::Broker;
use crate::agency::AgencyState;
use crate::apps::AppSet;
use crate::refresh::breaker::PauseReason;

/// The known facts about an installation and its surroundings.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// The apps of this broker.
    pub(crate) known: &'a KnownApps,
    /// Why refreshes with the credentials of its app pause. `None` if they do not, or if the app is not known.
    pub(crate) pause: Option<PauseReason>,
    /// Whether the store has the name of its app for another app at GHL than the settings.
    pub(crate) is_name_taken: bool,
    /// Whether an outage of GHL forbids to spend new refresh tokens.
    pub(crate) is_contained: bool,
    /// Whether GHL refuses the tokens of many installations.
    pub(crate) is_refusing_all: bool,
    /// How much longer this broker spends no token, because the store may have lost writes.
    pub(crate) restoring: Option<Duration>,
    /// The rings whose keys do not open what the record has.
    pub(crate) unopened: Vec<(RingKind, OpenError)>,
    /// The agency of a location whose tokens come from it.
    pub(crate) agency: Option<AgencyFact>,
}

/// The agency of a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgencyFact {
    pub(crate) id: InstallationId,
    pub(crate) state: Agency,
}

/// The state of an agency, as its locations need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agency {
    Works,
    /// It has never connected, or is forgotten.
    Absent,
    /// GHL refuses its refresh token.
    NeedsConsent,
    Revoked,
    Unreadable,
}

impl Facts<'_> {
    pub(crate) fn installation(&self) -> &Installation {
        &self.snapshot.installation
    }

    pub(crate) fn id(&self) -> &InstallationId {
        &self.snapshot.installation.id
    }

    pub(crate) fn app(&self) -> &AppName {
        &self.snapshot.installation.access.app
    }
}

impl AgencyFact {
    /// Whether tokens of its locations can be had.
    pub(crate) fn works(&self) -> bool {
        match self.state {
            Agency::Works => true,
            Agency::Absent | Agency::NeedsConsent | Agency::Revoked | Agency::Unreadable => false,
        }
    }
}

/// The facts about an installation.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn collect<'a>(
    broker: &Broker,
    snapshot: &'a Snapshot,
    (apps, known): (&AppSet, &'a KnownApps),
) -> Result<Facts<'a>, WriteError> {
    let worker = &broker.0.worker;
    let installation = &snapshot.installation;
    let access = &installation.access;
    let of_token = worker
        .apps
        .of_token(&access.app, installation.client.as_ref());
    let named = apps.named(&access.app);
    let agency = match &access.parent {
        Some(parent) => Some(agency(broker, parent).await?),
        None => None,
    };
    Ok(Facts {
        snapshot,
        known,
        pause: of_token.and_then(|app| app.breaker.pause_reason()),
        is_name_taken: named.is_some_and(|app| app.identity.is_taken()),
        is_contained: worker.outage.is_contained(),
        is_refusing_all: worker.outage.is_refusing_all(),
        restoring: worker.watch.pause_left(),
        unopened: unopened(installation, broker.0.writer.rings()),
        agency,
    })
}

async fn agency(broker: &Broker, id: &InstallationId) -> Result<AgencyFact, WriteError> {
    let state = match broker.0.writer.load(id).await {
        Ok(None) => Agency::Absent,
        Ok(Some(known)) => match AgencyState::of(&known.installation) {
            AgencyState::Works => Agency::Works,
            AgencyState::Gone => Agency::NeedsConsent,
            AgencyState::Revoked(_) => Agency::Revoked,
        },
        Err(WriteError::Unreadable { .. }) => Agency::Unreadable,
        Err(error) => return Err(error),
    };
    let id = id.clone();
    Ok(AgencyFact { id, state })
}

/// The first value of each ring that its keys do not open.
fn unopened(installation: &Installation, rings: &Rings) -> Vec<(RingKind, OpenError)> {
    let first = |kind: RingKind| {
        let values = installation.sealed_values(kind).into_iter();
        let mut errors =
            values.filter_map(|(label, sealed)| rings.of(kind).open(label, sealed).err());
        Some((kind, errors.next()?))
    };
    [RingKind::Access, RingKind::Refresh]
        .into_iter()
        .filter_map(first)
        .collect()
}

/// The record of an installation, also if it cannot be read. `None` if there is none.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn read(
    broker: &Broker,
    id: &InstallationId,
) -> Result<Option<Listed>, WriteError> {
    match broker.0.writer.load(id).await {
        Ok(found) => Ok(found.map(|found| Listed::Readable(Box::new(found)))),
        Err(WriteError::Unreadable { id, source }) => Ok(Some(Listed::Unreadable { id, source })),
        Err(error) => Err(error),
    }
}
