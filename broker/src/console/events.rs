//! Events: the endpoints and what waits for them, messages that were given up, and the newest events.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use store::InstallationId;
use store_writer::events::{Event, EventType};

use super::installations::path_of;
use super::{Administrator, Console, Fields, Page, Section, Time, Viewer, done, problem, render};
use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::events::{
    EndpointView, Resend, all_endpoints, letters, send_again, send_letter_again, send_test,
};
use crate::api::extract::QueryString;
use crate::api::status::Name;
use crate::events::attempts::DeadLetter;

const PATH: &str = "/console/events";
/// The most events and dead letters of the page.
const ROWS: usize = 100;
/// How many of the newest events are looked at for those of a type.
const SEARCHED: usize = 2_000;

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route(PATH, get(list))
        .route("/console/events/test", post(test))
        .route("/console/events/resend", post(resend))
        .route("/console/events/resend-all", post(resend_all))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Query {
    #[serde(rename = "type")]
    kind: String,
    /// The name of an installation.
    installation: String,
}

struct Endpoint {
    id: String,
    host: Option<String>,
    kind: &'static str,
    types: String,
    waiting: u64,
    failing: u64,
    dead: u64,
    next_probe_in: Option<u64>,
}

impl Endpoint {
    /// The state in words, and the class of its badge.
    fn state(&self) -> (String, &'static str) {
        match (self.next_probe_in, self.failing) {
            (Some(seconds), _) => (format!("down, tried again in {seconds} s"), "bad"),
            (None, failing) if failing > 0 => ("fails for some".to_owned(), "warn"),
            (None, _) => ("works".to_owned(), "good"),
        }
    }
}

impl From<EndpointView> for Endpoint {
    fn from(view: EndpointView) -> Self {
        let types = match view.types.is_empty() {
            true => "all types".to_owned(),
            false => view.types.join(", "),
        };
        Self {
            id: view.id,
            host: view.host,
            kind: view.kind,
            types,
            waiting: view.waiting,
            failing: view.failing,
            dead: view.dead_letters,
            next_probe_in: view.next_probe_in,
        }
    }
}

struct Letter {
    id: String,
    endpoint: String,
    kind: String,
    subject: String,
    /// The page of the installation that it is about.
    path: Option<String>,
    given_up_at: Time,
    attempts: u32,
    error: String,
}

impl From<DeadLetter> for Letter {
    fn from(letter: DeadLetter) -> Self {
        let event: Option<Event> = serde_json::from_str(&letter.message).ok();
        let about = letter.subject.parse::<InstallationId>();
        Self {
            id: letter.id,
            endpoint: letter.endpoint,
            kind: event.map_or_else(|| "a webhook of GHL".to_owned(), |event| event.kind),
            path: about.ok().map(|id| path_of(&id)),
            subject: letter.subject,
            given_up_at: letter.given_up_at.into(),
            attempts: letter.attempts,
            error: letter.error,
        }
    }
}

struct Row {
    at: Option<Time>,
    id: String,
    kind: String,
    app: String,
    about: String,
    path: Option<String>,
    reason: String,
}

impl From<Event> for Row {
    fn from(event: Event) -> Self {
        let installation = event.installation.as_ref();
        let location = installation.and_then(|it| it.location_id.as_ref());
        let company = installation.and_then(|it| it.company_id.as_ref());
        let about = location
            .map(ToString::to_string)
            .or_else(|| company.map(ToString::to_string))
            .or_else(|| installation.map(|it| it.id.to_string()));
        let reason = installation.and_then(|it| it.reason.clone());
        Self {
            at: Time::parse(&event.time),
            about: about.unwrap_or_default(),
            path: installation.map(|it| path_of(&it.id)),
            reason: reason.or(event.reason).unwrap_or_default(),
            id: event.id,
            kind: event.kind,
            app: event.app.to_string(),
        }
    }
}

#[derive(Template)]
#[template(path = "console/events.html")]
struct List {
    page: Page,
    query: Query,
    kinds: Vec<&'static str>,
    endpoints: Vec<Endpoint>,
    /// The endpoints that an event can be sent to again.
    targets: Vec<String>,
    letters: Vec<Letter>,
    events: Vec<Row>,
    /// Why there are no events. Empty if there is no problem.
    problem: String,
}

async fn list(
    State(broker): State<Broker>,
    QueryString(query): QueryString<Query>,
    viewer: Viewer,
) -> Result<Response, Error> {
    let (events, problem) = match newest(&broker, &query).await {
        Ok(events) => (events, String::new()),
        // The name of an installation that a person has mistyped.
        Err(error) if error.status().is_client_error() => {
            (Vec::new(), format!("{}.", error.message))
        }
        Err(error) => return Err(error),
    };
    let endpoints = all_endpoints(&broker).await?;
    let dead = letters(&broker, ROWS).await?;
    let endpoints: Vec<Endpoint> = endpoints.into_iter().map(Endpoint::from).collect();
    let targets = endpoints.iter().filter(|it| it.kind == "events");
    Ok(render(&List {
        page: viewer.page("Events", Section::Events),
        kinds: EventType::ALL.map(EventType::as_str).to_vec(),
        targets: targets.map(|it| it.id.clone()).collect(),
        endpoints,
        letters: dead.into_iter().map(Letter::from).collect(),
        events: events.into_iter().map(Row::from).collect(),
        query,
        problem,
    }))
}

/// The newest events that the query asks for.
async fn newest(broker: &Broker, query: &Query) -> Result<Vec<Event>, Error> {
    let writer = &broker.0.writer;
    let name = query.installation.trim();
    let mut events = if name.is_empty() {
        let most = match query.kind.is_empty() {
            true => ROWS,
            false => SEARCHED,
        };
        let stored = writer.newest_events(most).await?;
        let events = stored.iter();
        events
            .filter_map(|stored| serde_json::from_str::<Event>(&stored.json).ok())
            .collect()
    } else {
        let id = Name { name, app: None }.resolve(writer).await?;
        writer.newest_events_about(&id, SEARCHED).await?.events
    };
    if !query.kind.is_empty() {
        events.retain(|event| event.kind == query.kind);
    }
    events.truncate(ROWS);
    Ok(events)
}

/// The endpoint of a form.
fn endpoint(fields: &Fields) -> Result<&str, Error> {
    let endpoint = fields.text("endpoint");
    endpoint.ok_or_else(|| {
        Error::new(
            ErrorKind::EndpointUnknown,
            "This broker has no such endpoint",
        )
    })
}

async fn test(
    State(broker): State<Broker>,
    Administrator(viewer): Administrator,
    fields: Fields,
) -> Result<Response, Error> {
    let id = endpoint(&fields)?;
    let sent = send_test(&broker, &viewer.requester, id.to_owned()).await?;
    Ok(match sent.error {
        None => done(PATH, format!("{id} took the test message.")),
        Some(error) => problem(
            PATH,
            format!("{id} did not take the test message: {error}."),
        ),
    })
}

async fn resend(
    State(broker): State<Broker>,
    Administrator(viewer): Administrator,
    fields: Fields,
) -> Result<Response, Error> {
    let id = endpoint(&fields)?;
    let is_queued = match (fields.text("letter"), fields.text("event")) {
        (Some(letter), _) => send_letter_again(&broker, &viewer.requester, (id, letter)).await?,
        (None, Some(event)) => {
            let request = Resend {
                endpoint: id.to_owned(),
                events: vec![event.to_owned()],
                dead_letters: false,
            };
            let sent = send_again(&broker, &viewer.requester, request).await?;
            sent.not_found.is_empty()
        }
        (None, None) => return Err(Error::invalid("The form names no message")),
    };
    Ok(match is_queued {
        true => done(PATH, format!("The message is sent to {id} again.")),
        false => problem(
            PATH,
            "The message is no longer there. Perhaps somebody else has sent it again.",
        ),
    })
}

async fn resend_all(
    State(broker): State<Broker>,
    Administrator(viewer): Administrator,
    fields: Fields,
) -> Result<Response, Error> {
    let id = endpoint(&fields)?;
    let request = Resend {
        endpoint: id.to_owned(),
        events: Vec::new(),
        dead_letters: true,
    };
    let sent = send_again(&broker, &viewer.requester, request).await?;
    let count = sent.queued.len();
    let text = match sent.dead_letters_left {
        0 => format!("{count} messages are sent to {id} again."),
        left => format!("{count} messages are sent to {id} again. {left} are left: repeat it."),
    };
    Ok(done(PATH, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(next_probe_in: Option<u64>, failing: u64) -> &'static str {
        let endpoint = Endpoint {
            id: "crm".to_owned(),
            host: None,
            kind: "events",
            types: String::new(),
            waiting: 0,
            failing,
            dead: 0,
            next_probe_in,
        };
        endpoint.state().1
    }

    #[test]
    fn state_of_an_endpoint_is_the_worst_that_is_known() {
        assert_eq!(with(None, 0), "good");
        assert_eq!(with(None, 3), "warn");
        assert_eq!(with(Some(9), 0), "bad");
    }
}
