//! `INSTALL`: the app was installed on a location or by an agency. It can arrive before the consent.

use ghl::webhook::Event;
use store::{CompanyId, InstallationId, LocationId, Timestamp};
use store_writer::WriteError;
use store_writer::protocol::{AgencyGrant, AgencyLocation};
use tracing::{debug, info, warn};

use crate::Broker;
use crate::agency::{AgencyState, Lookup, Wanted};
use crate::api::error::{Error, ErrorKind};
use crate::apps::App;

/// Stores the location that GHL announces. Its installation waits for the consent of its agency if there is none yet.
pub(super) async fn announced(broker: &Broker, app: &App, event: &Event) -> Result<(), Error> {
    broker.0.lookups.forget_unknown();
    let company = event
        .company_id
        .as_deref()
        .and_then(|id| id.parse::<CompanyId>().ok());
    let location = event
        .location_id
        .as_deref()
        .and_then(|id| id.parse::<LocationId>().ok());
    match (location, company) {
        (Some(location), Some(company)) => {
            location_of_agency(broker, app, event, location, company).await
        }
        (Some(location), None) => location_of_unknown_agency(broker, app, event, location).await,
        (None, Some(company)) => agency(broker, app, &company).await,
        (None, None) => {
            debug!("an INSTALL that names neither a location nor a company was ignored");
            Ok(())
        }
    }
}

async fn location_of_agency(
    broker: &Broker,
    app: &App,
    event: &Event,
    location: LocationId,
    company: CompanyId,
) -> Result<(), Error> {
    let writer = &broker.0.writer;
    let parent = writer.id_of_agency(&app.name, &company).await?;
    announce(broker, app, event, parent, location, company).await
}

/// GHL may leave out the company. The agency is that of an earlier installation, or the one that gets a token.
async fn location_of_unknown_agency(
    broker: &Broker,
    app: &App,
    event: &Event,
    location: LocationId,
) -> Result<(), Error> {
    let writer = &broker.0.writer;
    if let Some(id) = writer.resolve_in(&app.name, location.as_str()).await?
        && let Some(known) = writer.load(&id).await?
    {
        let access = known.installation.access;
        return match (access.parent, access.company) {
            (Some(parent), Some(company)) => {
                announce(broker, app, event, parent, location, company).await
            }
            // Its consent has registered it.
            (None, _) | (Some(_), None) => Ok(()),
        };
    }
    let inner = &broker.0;
    let wanted = Wanted {
        location,
        agencies: Vec::new(),
        app: Some(app.name.clone()),
    };
    let found = inner.lookups.find(&inner.worker, &inner.shutdown, wanted);
    match found.await {
        Lookup::Found(_) => Ok(()),
        // GHL sends it again, with growing pauses. The consent may come until then.
        Lookup::Unknown => Err(Error::new(
            ErrorKind::RefreshUnavailable,
            "It is not known yet whose location this is",
        )),
        // It would be the same the next time.
        Lookup::TooManyAgencies => list_all_agencies(broker).await,
        Lookup::Unavailable(reason) => Err(Error::new(ErrorKind::RefreshUnavailable, reason)),
    }
}

/// One of the lists has the location, unless its agency has not consented yet. Its consent requests the list then.
async fn list_all_agencies(broker: &Broker) -> Result<(), Error> {
    let writer = &broker.0.writer;
    let agencies = writer.agencies().await?;
    info!(
        agencies = agencies.len(),
        "an installation was announced without its agency: all lists are read again"
    );
    for id in agencies {
        match list_if_connected(broker, &id).await {
            Ok(()) => {}
            // One damaged record must not stop the others.
            Err(error @ WriteError::Unreadable { .. }) => {
                warn!(installation = %id, error = &error as &dyn std::error::Error,
                    "the locations of an agency are not listed");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn list_if_connected(broker: &Broker, id: &InstallationId) -> Result<(), WriteError> {
    match broker.0.worker.agency_state(id).await? {
        AgencyState::Works => broker.0.writer.request_list(id).await,
        AgencyState::Gone | AgencyState::Revoked(_) => Ok(()),
    }
}

async fn announce(
    broker: &Broker,
    app: &App,
    event: &Event,
    parent: InstallationId,
    location: LocationId,
    company: CompanyId,
) -> Result<(), Error> {
    let writer = &broker.0.writer;
    let now = broker.0.reader.now();
    let known = AgencyLocation {
        parent,
        app: app.name.clone(),
        client: Some(app.client.clone()),
        company,
        location,
        // A clock that is ahead must not outlive uninstallations of the future.
        at: event
            .at_ms
            .map_or(now, |at| Timestamp::from_millis(at).min(now)),
    };
    let grant = match broker.0.worker.agency_state(&known.parent).await? {
        AgencyState::Works => AgencyGrant::Works,
        AgencyState::Gone | AgencyState::Revoked(_) => AgencyGrant::Missing,
    };
    let (id, news) = writer.announce_location(&known, grant).await?;
    info!(installation = %id, location = %known.location, parent = %known.parent, ?news, ?grant,
        "GHL announced an installation");
    Ok(())
}

/// The agency may have chosen other locations than before.
async fn agency(broker: &Broker, app: &App, company: &CompanyId) -> Result<(), Error> {
    let writer = &broker.0.writer;
    if let Some(id) = writer.resolve_in(&app.name, company.as_str()).await?
        && writer.load(&id).await?.is_some()
    {
        writer.request_list(&id).await?;
    }
    Ok(())
}
