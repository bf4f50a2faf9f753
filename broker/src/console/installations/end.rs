//! The end of an installation: revoke and delete, each after a question that names the customer.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use store::UserType;
use store_writer::writer::Listed;

use super::change::{explained, find, parse};
use super::{PATH, Row, count_locations, path_of};
use crate::Broker;
use crate::api::admin::end as revoke_now;
use crate::api::admin::manage::remove;
use crate::api::error::Error;
use crate::api::extract::PathName;
use crate::console::{Administrator, Page, Section, done, problem, render};
use crate::diagnosis::facts::read;

#[derive(Template)]
#[template(path = "console/installation_end.html")]
struct Ask {
    page: Page,
    row: Row,
    /// The locations that end with it, if it is an agency.
    locations: Option<usize>,
    is_deletion: bool,
}

async fn ask(
    broker: Broker,
    id: String,
    Administrator(viewer): Administrator,
    is_deletion: bool,
) -> Result<Response, Error> {
    let id = parse(&id)?;
    let listed = read(&broker, &id).await?.ok_or_else(Error::not_found)?;
    let locations = match &listed {
        Listed::Readable(it) if it.installation.access.user_type == UserType::Company => {
            Some(count_locations(&broker, &id).await?)
        }
        Listed::Readable(_) | Listed::Unreadable { .. } => None,
    };
    let known = broker.0.worker.apps.current().known();
    let title = match is_deletion {
        true => "Delete an installation",
        false => "Revoke an installation",
    };
    Ok(render(&Ask {
        page: viewer.page(title, Section::Installations),
        row: Row::of(&listed, &known),
        locations,
        is_deletion,
    }))
}

pub(super) async fn ask_revoke(
    State(broker): State<Broker>,
    PathName(id): PathName,
    viewer: Administrator,
) -> Result<Response, Error> {
    ask(broker, id, viewer, false).await
}

pub(super) async fn ask_delete(
    State(broker): State<Broker>,
    PathName(id): PathName,
    viewer: Administrator,
) -> Result<Response, Error> {
    ask(broker, id, viewer, true).await
}

pub(super) async fn revoke(
    State(broker): State<Broker>,
    PathName(id): PathName,
    Administrator(viewer): Administrator,
) -> Result<Response, Error> {
    let id = parse(&id)?;
    let path = path_of(&id);
    Ok(match revoke_now(&broker, &viewer.requester, &id).await {
        Ok(()) => done(
            &path,
            "The installation is revoked. Its token is no longer served.",
        ),
        Err(error) => problem(&path, explained(&error)),
    })
}

pub(super) async fn delete(
    State(broker): State<Broker>,
    PathName(id): PathName,
    Administrator(viewer): Administrator,
) -> Result<Response, Error> {
    let id = parse(&id)?;
    let known = find(&broker, &id).await?;
    let deleted = remove(&broker, &viewer.requester, &known).await?;
    let locations = match deleted.locations {
        0 => String::new(),
        1 => " One location was deleted with it.".to_owned(),
        some => format!(" {some} locations were deleted with it."),
    };
    let at_ghl = match (deleted.uninstalled_at_ghl, &deleted.reason) {
        (true, _) => "The app is uninstalled at GHL.".to_owned(),
        (false, Some(reason)) => format!("The app is not uninstalled at GHL: {reason}."),
        (false, None) => "The app is not uninstalled at GHL.".to_owned(),
    };
    let text = format!("The installation is deleted.{locations} {at_ghl}");
    Ok(done(PATH, text))
}
