//! Finds the installation that a backend names, if its key is for it.

use store::{AppName, Caller, InstallationId, LocationId, UserType};
use store_writer::installation::Installation;

use crate::Broker;
use crate::agency::{Lookup, Wanted};
use crate::api::error::{Error, ErrorKind};
use crate::api::status::Name;

/// The installation with this name. A location that GHL has not announced is looked up in the agencies that the key is
/// for.
///
/// # Errors
/// 400 if there is none, or the key is not for it. The caller must not learn which of the two is the case.
pub(super) async fn find(
    broker: &Broker,
    caller: &Caller,
    name: Name<'_>,
) -> Result<Installation, Error> {
    match find_stored(broker, caller, name).await {
        Err(error) if error.kind == ErrorKind::InstallationNotFound => {
            let id = look_up(broker, caller, name).await?.ok_or(error)?;
            let found = Name {
                name: id.as_str(),
                app: name.app,
            };
            find_stored(broker, caller, found).await
        }
        found => found,
    }
}

async fn find_stored(
    broker: &Broker,
    caller: &Caller,
    name: Name<'_>,
) -> Result<Installation, Error> {
    let may_see = |its: &Installation| {
        let access = &its.access;
        let is_of_app = name.app.is_none_or(|app| app == access.app.as_str());
        is_of_app && caller.may_use(&its.id, access.parent.as_ref(), &access.app)
    };
    let writer = &broker.0.writer;
    let id = name.resolve_among(writer, &may_see).await?;
    let found = writer.load(&id).await?.map(|known| known.installation);
    found.filter(may_see).ok_or_else(Error::not_found)
}

async fn look_up(
    broker: &Broker,
    caller: &Caller,
    name: Name<'_>,
) -> Result<Option<InstallationId>, Error> {
    let app: Option<AppName> = name.app.and_then(|app| app.parse().ok());
    let is_other_app = caller.app.is_some() && app.is_some() && caller.app != app;
    let is_id = name.name.parse::<InstallationId>().is_ok();
    let Ok(location) = name.name.parse::<LocationId>() else {
        return Ok(None);
    };
    if is_id || is_other_app {
        return Ok(None);
    }
    let agencies = match &caller.installations {
        None => Vec::new(),
        Some(allowed) => {
            let agencies = agencies_of(broker, allowed).await?;
            if agencies.is_empty() {
                return Ok(None);
            }
            agencies
        }
    };
    let wanted = Wanted {
        location,
        agencies,
        app: app.or_else(|| caller.app.clone()),
    };
    let inner = &broker.0;
    let found = inner.lookups.find(&inner.worker, &inner.shutdown, wanted);
    let unavailable = |reason: String| Error::new(ErrorKind::RefreshUnavailable, reason);
    match found.await {
        Lookup::Found(id) => Ok(Some(id)),
        Lookup::Unknown => Ok(None),
        Lookup::TooManyAgencies => Err(unavailable(Lookup::TOO_MANY_AGENCIES.to_owned())),
        Lookup::Unavailable(reason) => Err(unavailable(reason)),
    }
}

/// The agencies among these installations.
async fn agencies_of(
    broker: &Broker,
    allowed: &[InstallationId],
) -> Result<Vec<InstallationId>, Error> {
    let mut agencies = Vec::new();
    for id in allowed {
        let known = broker.0.writer.load(id).await?;
        if known.is_some_and(|it| it.installation.access.user_type == UserType::Company) {
            agencies.push(id.clone());
        }
    }
    Ok(agencies)
}
