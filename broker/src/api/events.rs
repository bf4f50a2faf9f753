//! Events, endpoints and dead letters, for operators and for callers that poll.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::audit::Action;
use store::{AppName, Timestamp};
use store_writer::events::{Event, EventType};
use store_writer::outbox::{EventPosition, Publication, Subject};

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::{JsonBody, QueryString};
use crate::audit::Requester;
use crate::events::delivery::DeadLetter;
use crate::events::endpoint::{Endpoint, Wants};
use crate::events::message::{payload, resent};

/// The most entries of one page.
const MOST: usize = 1000;
/// How many of the newest events a resend looks through for the ids that it gets.
const SEARCHED: usize = 20_000;

pub(super) fn routes() -> Router<Broker> {
    Router::new()
        .route("/v1/events", get(list))
        .route("/v1/events/resend", post(resend))
        .route("/v1/event-endpoints", get(endpoints))
        .route("/v1/event-endpoints/{id}/test", post(test))
        .route("/v1/dead-letters", get(dead_letters))
}

/// The query of a list of events.
#[derive(Deserialize)]
struct Page {
    /// The `next` of an earlier page. Without it the list begins with the oldest event.
    after: Option<String>,
    limit: Option<usize>,
    /// Whether to show the newest events, the newest first, in place of a page.
    #[serde(default)]
    newest: bool,
}

/// `GET /v1/events`
async fn list(
    State(broker): State<Broker>,
    QueryString(page): QueryString<Page>,
) -> Result<Json<Value>, Error> {
    let limit = page.limit.unwrap_or(100).clamp(1, MOST);
    let writer = &broker.0.writer;
    let after = page.after.as_deref().map(parse_position).transpose()?;
    let after = after.unwrap_or_default();
    let events = match page.newest {
        true => writer.newest_events(limit).await?,
        false => writer.events(after, limit).await?,
    };
    let last = events.last().map_or(after, |event| event.position);
    let next = (!page.newest).then(|| position_text(last));
    let apps = &broker.0.worker.apps;
    let shown: Vec<Value> = events
        .iter()
        .filter_map(|stored| serde_json::from_str::<Event>(&stored.json).ok())
        .map(|event| payload(&event, apps))
        .collect();
    Ok(Json(json!({ "events": shown, "next": next })))
}

fn position_text(position: EventPosition) -> String {
    format!("{}-{}", position.at.as_millis(), position.partition)
}

fn parse_position(text: &str) -> Result<EventPosition, Error> {
    let parsed = text.split_once('-').and_then(|(at, partition)| {
        Some(EventPosition {
            at: Timestamp::from_millis(at.parse().ok()?),
            partition: partition.parse().ok()?,
        })
    });
    parsed.ok_or_else(|| Error::invalid("`after` is the `next` of an earlier page"))
}

/// The JSON for an endpoint. The path and the query of its URL may be secret.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointView {
    id: String,
    host: Option<String>,
    kind: &'static str,
    types: Vec<String>,
    /// Installations, or other subjects, with messages that are not delivered yet.
    waiting: u64,
    /// Those of them whose first message failed at least once.
    failing: u64,
    /// Seconds until the next probe, if this broker finds the endpoint down.
    next_probe_in: Option<u64>,
}

/// `GET /v1/event-endpoints`
async fn endpoints(State(broker): State<Broker>) -> Result<Json<Value>, Error> {
    let mut shown = Vec::new();
    for (endpoint, pause) in broker.0.deliveries.endpoints() {
        let id = endpoint.id.to_string();
        let count = broker.0.writer.count_deliveries(&id).await?;
        let (kind, types) = match &endpoint.wants {
            Wants::Events { types, .. } => {
                let types = types.iter().map(ToString::to_string);
                ("events", types.collect())
            }
            Wants::Webhooks { types, .. } => ("webhooks", types.clone()),
        };
        shown.push(EndpointView {
            id,
            host: endpoint.url.host_str().map(str::to_owned),
            kind,
            types,
            waiting: count.queues,
            failing: count.failing,
            next_probe_in: pause.map(|pause| pause.as_secs()),
        });
    }
    Ok(Json(json!({ "endpoints": shown })))
}

/// `POST /v1/event-endpoints/{id}/test` sends a test message at once, outside the outbox.
async fn test(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    known(&broker, &id)?;
    let now = broker.0.reader.now();
    let event = Event::about_app(AppName::default(), EventType::Test, None, now);
    let sent = broker.0.deliveries.send_now(&id, &event, now).await;
    let entry = requester.entry(now, Action::EventSent).with(id);
    broker.0.audit.record(entry).await;
    let error = sent.err();
    Ok(Json(
        json!({ "id": event.id, "delivered": error.is_none(), "error": error }),
    ))
}

/// The query of the list of dead letters.
#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

/// `GET /v1/dead-letters`
async fn dead_letters(
    State(broker): State<Broker>,
    QueryString(query): QueryString<Limit>,
) -> Result<Json<Value>, Error> {
    let limit = query.limit.unwrap_or(100).clamp(1, MOST);
    let letters = letters(&broker, limit).await?;
    let shown: Vec<Value> = letters.iter().map(view).collect();
    Ok(Json(json!({ "deadLetters": shown })))
}

async fn letters(broker: &Broker, limit: usize) -> Result<Vec<DeadLetter>, Error> {
    let texts = broker.0.writer.dead_letters(limit).await?;
    let read = texts
        .iter()
        .filter_map(|text| serde_json::from_str(text).ok());
    Ok(read.collect())
}

fn view(letter: &DeadLetter) -> Value {
    let event: Option<Event> = serde_json::from_str(&letter.message).ok();
    json!({
        "id": letter.id,
        "endpoint": letter.endpoint,
        "subject": letter.subject,
        "type": event.map(|event| event.kind),
        "givenUpAt": letter.given_up_at.to_string(),
        "attempts": letter.attempts,
        "error": letter.error,
    })
}

/// The body of a request to send again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resend {
    endpoint: String,
    /// The ids of events.
    #[serde(default)]
    events: Vec<String>,
    /// Whether to send all dead letters of the endpoint.
    #[serde(default)]
    dead_letters: bool,
}

/// `POST /v1/events/resend`
async fn resend(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    JsonBody(request): JsonBody<Resend>,
) -> Result<Json<Value>, Error> {
    let endpoint = known(&broker, &request.endpoint)?;
    if request.events.is_empty() && !request.dead_letters {
        return Err(Error::invalid(
            "name `events` by their ids, or set `dead_letters` to true",
        ));
    }
    if !request.events.is_empty() && matches!(endpoint.wants, Wants::Webhooks { .. }) {
        return Err(Error::invalid(
            "the endpoint is for GHL's webhooks, and gets no events",
        ));
    }
    let now = broker.0.reader.now();
    let mut found: Vec<(String, Subject, String)> = Vec::new();
    if request.dead_letters {
        for letter in letters(&broker, MOST).await? {
            if letter.endpoint == request.endpoint {
                found.push((letter.id, subject(&letter.subject), letter.message));
            }
        }
        // The oldest first, as they were written.
        found.reverse();
    }
    if !request.events.is_empty() {
        let newest = broker.0.writer.newest_events(SEARCHED).await?;
        for stored in newest.into_iter().rev() {
            let Ok(event) = serde_json::from_str::<Event>(&stored.json) else {
                continue;
            };
            if request.events.contains(&event.id) {
                found.push((event.id.clone(), Subject::of_event(&event), stored.json));
            }
        }
    }
    let mut sent = Vec::new();
    for (id, subject, message) in found {
        let publication = Publication {
            message: resent(&message, now),
            is_event: false,
            endpoints: vec![request.endpoint.clone()],
        };
        broker.0.writer.publish(&subject, publication).await?;
        sent.push(id);
    }
    let missing = request.events.iter().filter(|id| !sent.contains(id));
    let missing: Vec<&String> = missing.collect();
    let entry = requester.entry(now, Action::EventSent);
    let entry = entry.with(request.endpoint.clone());
    broker.0.audit.record(entry).await;
    Ok(Json(json!({ "queued": sent, "notFound": missing })))
}

fn subject(name: &str) -> Subject {
    match name.parse() {
        Ok(id) => Subject::installation(&id),
        Err(_) => Subject::named(name),
    }
}

fn known(broker: &Broker, id: &str) -> Result<Arc<Endpoint>, Error> {
    let mut all = broker.0.deliveries.endpoints().into_iter();
    let found = all.find(|(endpoint, _)| endpoint.id.as_str() == id);
    let unknown = || {
        let unknown = ErrorKind::EndpointUnknown;
        Error::new(unknown, "This broker has no such endpoint")
            .with_hint("`evergreen events endpoints` lists them")
    };
    found.map(|(endpoint, _)| endpoint).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_is_read_as_it_is_written() {
        let position = EventPosition {
            at: Timestamp::from_millis(1_700_000_000_123),
            partition: 255,
        };
        let text = position_text(position);
        assert_eq!(parse_position(&text).unwrap(), position);
        for bad in ["", "1", "x-1", "1-256", "1-2-3"] {
            assert!(parse_position(bad).is_err(), "{bad}");
        }
    }
}
