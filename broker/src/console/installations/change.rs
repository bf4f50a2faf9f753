//! Changes of an installation that need no question: a refresh, a link to connect again, tags and external id.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use store::{ExternalId, InstallationId, customer};
use store_writer::installation::Installation;

use super::path_of;
use crate::Broker;
use crate::api::admin::manage::change_customer;
use crate::api::admin::refresh_now;
use crate::api::connect::links::{self, Wanted};
use crate::api::error::Error;
use crate::api::extract::PathName;
use crate::console::{Administrator, Fields, Page, Section, Time, done, problem, render};

pub(super) async fn refresh(
    State(broker): State<Broker>,
    PathName(id): PathName,
    Administrator(viewer): Administrator,
    fields: Fields,
) -> Result<Response, Error> {
    let id = parse(&id)?;
    let path = path_of(&id);
    let refreshed = refresh_now(&broker, &viewer.requester, &id, fields.has("force")).await;
    Ok(match refreshed {
        Ok(_) => done(&path, "The token is fresh."),
        Err(error) => problem(&path, explained(&error)),
    })
}

/// A refused change, for the page that it was asked for on.
pub(super) fn explained(error: &Error) -> String {
    match error.hint {
        Some(hint) => format!("{}. To do: {hint}.", error.message.trim_end_matches('.')),
        None => format!("{}.", error.message.trim_end_matches('.')),
    }
}

/// The page with a one-time link.
#[derive(Template)]
#[template(path = "console/link_made.html")]
pub(in crate::console) struct LinkMade {
    pub(in crate::console) page: Page,
    pub(in crate::console) url: String,
    pub(in crate::console) expires_at: Option<Time>,
    /// The page to go back to, and its name.
    pub(in crate::console) back: (String, &'static str),
}

pub(super) async fn link(
    State(broker): State<Broker>,
    PathName(id): PathName,
    Administrator(viewer): Administrator,
) -> Result<Response, Error> {
    let id = parse(&id)?;
    let known = find(&broker, &id).await?;
    let apps = broker.0.worker.apps.current();
    let app = apps.chosen(Some(known.access.app.as_str()), None)?;
    let wanted = Wanted {
        // A customer reads mail later than in 30 minutes.
        expires_in: Some(24 * 3600),
        ..Wanted::again(&known.access)
    };
    let made = links::make(&broker, &viewer.requester, app, wanted).await?;
    Ok(render(&LinkMade {
        page: viewer.page("Link to connect again", Section::Installations),
        expires_at: Time::parse(&made.expires_at),
        url: made.url,
        back: (path_of(&id), "To the installation"),
    }))
}

pub(super) async fn customer(
    State(broker): State<Broker>,
    PathName(id): PathName,
    Administrator(viewer): Administrator,
    fields: Fields,
) -> Result<Response, Error> {
    let id = parse(&id)?;
    let path = path_of(&id);
    let tags = customer::parse_tags(tags_of(&fields));
    let external_id = fields
        .text("external_id")
        .map(|text| text.parse::<ExternalId>());
    let external_id = external_id.transpose().map_err(|error| error.to_string());
    Ok(match (tags, external_id) {
        (Ok(tags), Ok(external_id)) => {
            let change = (Some(external_id), Some(tags));
            change_customer(&broker, &viewer.requester, &id, change).await?;
            done(&path, "Tags and external id are as you entered them.")
        }
        (Err(reason), _) => problem(&path, reason.to_string()),
        (_, Err(reason)) => problem(&path, reason),
    })
}

/// The tags of a form: one a line, or separated by commas, which no tag has.
pub(in crate::console) fn tags_of(fields: &Fields) -> Vec<String> {
    let text = fields.text("tags").unwrap_or_default();
    let tags = text.split(['\n', '\r', ',']).map(str::trim);
    let tags = tags.filter(|tag| !tag.is_empty());
    tags.map(str::to_owned).collect()
}

/// # Errors
/// 400 if it is no id.
pub(super) fn parse(id: &str) -> Result<InstallationId, Error> {
    id.parse().map_err(|_| Error::not_found())
}

/// The record of an installation.
///
/// # Errors
/// 400 if there is none. 500 if it cannot be read.
pub(super) async fn find(broker: &Broker, id: &InstallationId) -> Result<Installation, Error> {
    let found = broker.0.writer.load(id).await?;
    found.map(|it| it.installation).ok_or_else(Error::not_found)
}
