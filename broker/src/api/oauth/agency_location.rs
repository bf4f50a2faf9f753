//! The location that a link asked for, if its agency has consented instead. An app with bulk installation gets the
//! agency's token even if the user has chosen one location.

use store::{InstallationId, LocationId, Status};

use super::exchange::Connected;
use crate::Broker;
use crate::agency::{Lookup, Wanted};
use crate::api::error::{Error, ErrorKind};
use crate::connect::Context;

/// The installation that the link asked for, if `connected` is of its agency. It gets the external id and the tags.
///
/// # Errors
/// If GHL does not say whether the location is the agency's. The agency is connected then.
pub(super) async fn choose(
    broker: &Broker,
    context: &Context,
    connected: Connected,
) -> Result<Connected, Error> {
    let wanted: Option<LocationId> = context.owner.as_ref().and_then(|it| it.parse().ok());
    let Some(wanted) = wanted.filter(|_| !connected.is_wanted && connected.location.is_none())
    else {
        return Ok(connected);
    };
    let Some(id) = find(broker, &wanted, &connected).await? else {
        return Ok(connected);
    };
    name(broker, &connected, &id, context).await?;
    Ok(Connected {
        id,
        location: Some(wanted),
        is_wanted: true,
        ..connected
    })
}

async fn find(
    broker: &Broker,
    location: &LocationId,
    agency: &Connected,
) -> Result<Option<InstallationId>, Error> {
    let wanted = Wanted {
        location: location.clone(),
        agencies: vec![agency.id.clone()],
        app: Some(agency.app.clone()),
    };
    let inner = &broker.0;
    let found = inner.lookups.find(&inner.worker, &inner.shutdown, wanted);
    let id = match found.await {
        Lookup::Found(id) => id,
        Lookup::Unknown | Lookup::TooManyAgencies => return Ok(None),
        Lookup::Unavailable(reason) => {
            return Err(Error::new(ErrorKind::ConsentFailed, reason));
        }
    };
    let known = inner.writer.load(&id).await?.map(|it| it.installation);
    let is_usable = known.is_some_and(|known| {
        let works = matches!(known.access.status, Status::Active | Status::Paused);
        works && known.access.parent.as_ref() == Some(&agency.id)
    });
    Ok(is_usable.then_some(id))
}

async fn name(
    broker: &Broker,
    agency: &Connected,
    id: &InstallationId,
    context: &Context,
) -> Result<(), Error> {
    let wanted = &context.customer;
    if wanted.customer.is_empty() {
        return Ok(());
    }
    let writer = &broker.0.writer;
    writer.attach_customer(&agency.app, id, wanted).await?;
    Ok(())
}
