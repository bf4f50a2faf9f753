//! Events, endpoints and dead letters, for operators and for callers that poll.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::audit::Action;
use store::{AppName, Timestamp};
use store_writer::StoreWriter;
use store_writer::events::{Event, EventType};
use store_writer::outbox::{EventPosition, StoredEvent, Subject};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::{JsonBody, PathName, QueryString};
use crate::audit::Requester;
use crate::events::attempts::DeadLetter;
use crate::events::endpoint::{Endpoint, Wants};
use crate::events::message::{payload, resent};

/// The most entries of one page.
const MOST: usize = 1000;
/// How many of the newest events a resend looks through for the ids that it gets.
const SEARCHED: usize = 20_000;

pub(super) fn routes() -> OpenApiRouter<Broker> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(resend))
        .routes(routes!(endpoints))
        .routes(routes!(test))
        .routes(routes!(dead_letters))
}

/// The query of a list of events.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Page {
    /// The `next` of an earlier page. Without it the list begins with the oldest event.
    after: Option<String>,
    /// The most events. 100 if it is absent, and never more than 1000.
    limit: Option<usize>,
    /// Whether to show the newest events, the newest first, in place of a page.
    #[serde(default)]
    newest: bool,
}

/// A page of events.
#[derive(Serialize, ToSchema)]
struct Events {
    /// As endpoints get them. `docs/events.md` has their members.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Value>,
    /// The `after` of the next page. `null` for the newest events.
    next: Option<String>,
}

/// Read events
///
/// Events report changes of installations. The oldest comes first. This route is for programs that poll.
#[utoipa::path(get, path = "/v1/events", operation_id = "listEvents", params(Page), responses(
    (status = 200, description = "A page", body = Events),
))]
async fn list(
    State(broker): State<Broker>,
    QueryString(page): QueryString<Page>,
) -> Result<Json<Events>, Error> {
    let limit = page.limit.unwrap_or(100).clamp(1, MOST);
    let writer = &broker.0.writer;
    let after = page.after.as_deref().map(parse_position).transpose()?;
    let after = after.unwrap_or_default();
    let events = match page.newest {
        true => writer.newest_events(limit).await?,
        false => writer.events(after, limit).await?,
    };
    let last = events.last().map_or(after, |event| event.position);
    let next = (!page.newest).then(|| last.to_string());
    let apps = &broker.0.worker.apps;
    let events: Vec<Value> = events
        .iter()
        .filter_map(|stored| serde_json::from_str::<Event>(&stored.json).ok())
        .map(|event| payload(&event, apps))
        .collect();
    Ok(Json(Events { events, next }))
}

fn parse_position(text: &str) -> Result<EventPosition, Error> {
    EventPosition::parse(text)
        .ok_or_else(|| Error::invalid("`after` is the `next` of an earlier page"))
}

/// The JSON for an endpoint. The path and the query of its URL may be secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventEndpoint)]
pub(crate) struct EndpointView {
    pub(crate) id: String,
    pub(crate) host: Option<String>,
    /// `events`, or `webhooks` for those of GHL that are forwarded.
    #[schema(value_type = String)]
    pub(crate) kind: &'static str,
    /// The types that it gets. Empty for all.
    pub(crate) types: Vec<String>,
    /// Installations, or other subjects, with messages that are not delivered yet.
    pub(crate) waiting: u64,
    /// Those of them whose first message failed at least once.
    pub(crate) failing: u64,
    /// Messages that were given up.
    pub(crate) dead_letters: u64,
    /// Seconds until the next probe, if this broker finds the endpoint down.
    pub(crate) next_probe_in: Option<u64>,
}

/// All endpoints.
#[derive(Serialize, ToSchema)]
#[schema(as = EventEndpoints)]
struct Endpoints {
    endpoints: Vec<EndpointView>,
}

/// List the endpoints of events
///
/// Those of this broker's settings, with what waits for them.
#[utoipa::path(get, path = "/v1/event-endpoints", operation_id = "listEventEndpoints", responses(
    (status = 200, description = "All endpoints", body = Endpoints),
))]
async fn endpoints(State(broker): State<Broker>) -> Result<Json<Endpoints>, Error> {
    let endpoints = all_endpoints(&broker).await?;
    Ok(Json(Endpoints { endpoints }))
}

/// All endpoints of this broker, with what waits for them.
///
/// # Errors
/// 503 if the store is unavailable.
pub(crate) async fn all_endpoints(broker: &Broker) -> Result<Vec<EndpointView>, Error> {
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
            dead_letters: count.dead_letters,
            next_probe_in: pause.map(|pause| pause.as_secs()),
        });
    }
    Ok(shown)
}

/// The result of a test message.
#[derive(Serialize, ToSchema)]
#[schema(as = EventTest)]
pub(crate) struct Tested {
    /// The id of the message.
    id: String,
    delivered: bool,
    /// Why it was not delivered.
    pub(crate) error: Option<String>,
}

/// Send a test message to an endpoint
///
/// The message is sent at once, and is not retried.
#[utoipa::path(post, path = "/v1/event-endpoints/{id}/test", operation_id = "testEventEndpoint", params(
    ("id" = String, Path, description = "The id of the endpoint"),
), responses(
    (status = 200, description = "The result", body = Tested),
    (status = 404, description = "This broker has no such endpoint"),
))]
async fn test(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    PathName(id): PathName,
) -> Result<Json<Tested>, Error> {
    Ok(Json(send_test(&broker, &requester, id).await?))
}

/// Sends a test message to an endpoint, and records it.
///
/// # Errors
/// 404 if this broker has no such endpoint.
pub(crate) async fn send_test(
    broker: &Broker,
    requester: &Requester,
    id: String,
) -> Result<Tested, Error> {
    known(broker, &id)?;
    let now = broker.0.reader.now();
    let event = Event::about_app(AppName::default(), EventType::Test, None, now);
    let sent = broker.0.deliveries.send_now(&id, &event, now).await;
    let entry = requester.entry(now, Action::EventSent).with(id);
    broker.0.audit.record(entry).await;
    let error = sent.err();
    Ok(Tested {
        id: event.id,
        delivered: error.is_none(),
        error,
    })
}

/// The query of the list of dead letters.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Limit {
    /// The most messages. 100 if it is absent, and never more than 1000.
    limit: Option<usize>,
}

/// Messages that were given up.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeadLetters {
    dead_letters: Vec<DeadLetterView>,
}

/// A message that was given up.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetter)]
struct DeadLetterView {
    /// The id of the message.
    id: String,
    /// The endpoint that did not take it.
    endpoint: String,
    /// The installation or other subject that it is about.
    subject: String,
    /// The type of the event. `null` for a webhook of GHL.
    #[serde(rename = "type")]
    kind: Option<String>,
    given_up_at: String,
    attempts: u32,
    /// The error of the last attempt.
    error: String,
}

/// List the messages that were given up
///
/// Those of this broker's endpoints, the newest first.
#[utoipa::path(get, path = "/v1/dead-letters", operation_id = "listDeadLetters", params(Limit), responses(
    (status = 200, description = "The messages", body = DeadLetters),
))]
async fn dead_letters(
    State(broker): State<Broker>,
    QueryString(query): QueryString<Limit>,
) -> Result<Json<DeadLetters>, Error> {
    let limit = query.limit.unwrap_or(100).clamp(1, MOST);
    let letters = letters(&broker, limit).await?;
    let dead_letters = letters.into_iter().map(view).collect();
    Ok(Json(DeadLetters { dead_letters }))
}

/// The newest messages that were given up, the newest first.
///
/// # Errors
/// 503 if the store is unavailable.
pub(crate) async fn letters(broker: &Broker, limit: usize) -> Result<Vec<DeadLetter>, Error> {
    let mut letters: Vec<DeadLetter> = Vec::new();
    for (endpoint, _) in broker.0.deliveries.endpoints() {
        let id = endpoint.id.as_str();
        let texts = broker.0.writer.dead_letters(id, limit).await?;
        let read = texts.iter();
        letters.extend(read.filter_map(|text| serde_json::from_str(text).ok()));
    }
    letters.sort_by_key(|letter| std::cmp::Reverse(letter.given_up_at));
    letters.truncate(limit);
    Ok(letters)
}

fn view(letter: DeadLetter) -> DeadLetterView {
    let event: Option<Event> = serde_json::from_str(&letter.message).ok();
    DeadLetterView {
        id: letter.id,
        endpoint: letter.endpoint,
        subject: letter.subject,
        kind: event.map(|event| event.kind),
        given_up_at: letter.given_up_at.to_string(),
        attempts: letter.attempts,
        error: letter.error,
    }
}

/// The body of a request to send again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MessagesToResend)]
pub(crate) struct Resend {
    /// The id of the endpoint.
    pub(crate) endpoint: String,
    /// The ids of events.
    #[serde(default)]
    pub(crate) events: Vec<String>,
    /// Whether to send the oldest 1000 dead letters of the endpoint. They are dead letters no more then.
    #[serde(default)]
    pub(crate) dead_letters: bool,
}

/// The messages of a resend.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ResentMessages)]
pub(crate) struct Resent {
    /// The ids of the messages that are sent again.
    pub(crate) queued: Vec<String>,
    /// The ids that are not among the newest events.
    pub(crate) not_found: Vec<String>,
    /// How many dead letters of the endpoint are left.
    pub(crate) dead_letters_left: u64,
}

/// Send messages again
///
/// Events by their ids, or the oldest messages of an endpoint that were given up. Repeat the latter until none is left.
#[utoipa::path(post, path = "/v1/events/resend", operation_id = "resendEvents", request_body = Resend, responses(
    (status = 200, description = "The messages that are sent again", body = Resent),
    (status = 404, description = "This broker has no such endpoint"),
))]
async fn resend(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    JsonBody(request): JsonBody<Resend>,
) -> Result<Json<Resent>, Error> {
    Ok(Json(send_again(&broker, &requester, request).await?))
}

/// Sends messages again, and records it.
///
/// # Errors
/// 404 if this broker has no such endpoint. 503 if the store is unavailable.
pub(crate) async fn send_again(
    broker: &Broker,
    requester: &Requester,
    request: Resend,
) -> Result<Resent, Error> {
    let endpoint = known(broker, &request.endpoint)?;
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
    let writer = &broker.0.writer;
    let mut queued = Vec::new();
    if request.dead_letters {
        queued = resend_dead_letters(writer, &request.endpoint, now).await?;
    }
    if !request.events.is_empty() {
        // The oldest first, as they were written.
        for stored in writer.newest_events(SEARCHED).await?.into_iter().rev() {
            let Ok(event) = serde_json::from_str::<Event>(&stored.json) else {
                continue;
            };
            if request.events.contains(&event.id) {
                let subject = Subject::of_event(&event);
                let again = resent(&stored.json, now);
                writer
                    .publish_again(&subject, again, &request.endpoint)
                    .await?;
                queued.push(event.id);
            }
        }
    }
    let missing = request.events.into_iter().filter(|id| !queued.contains(id));
    let not_found = missing.collect();
    let left = writer.count_deliveries(&request.endpoint).await?;
    let entry = requester.entry(now, Action::EventSent);
    let entry = entry.with(request.endpoint);
    broker.0.audit.record(entry).await;
    Ok(Resent {
        queued,
        not_found,
        dead_letters_left: left.dead_letters,
    })
}

/// Sends one dead letter of an endpoint again, and records it. False if it is not among the newest ones.
///
/// # Errors
/// 404 if this broker has no such endpoint. 503 if the store is unavailable.
pub(crate) async fn send_letter_again(
    broker: &Broker,
    requester: &Requester,
    (endpoint, id): (&str, &str),
) -> Result<bool, Error> {
    known(broker, endpoint)?;
    let (writer, now) = (&broker.0.writer, broker.0.reader.now());
    let letters = writer.newest_dead_letters(endpoint, MOST).await?;
    let is_it = |stored: &StoredEvent| {
        let letter = serde_json::from_str::<DeadLetter>(&stored.json);
        letter.is_ok_and(|letter| letter.id == id)
    };
    let Some(stored) = letters.into_iter().find(is_it) else {
        return Ok(false);
    };
    let queued = resend_letters(writer, endpoint, vec![stored], now).await?;
    let entry = requester.entry(now, Action::EventSent);
    let entry = entry.with(format!("{endpoint}: {}", queued.join(", ")));
    broker.0.audit.record(entry).await;
    Ok(!queued.is_empty())
}

/// Sends the oldest dead letters of an endpoint again. Returns their ids.
async fn resend_dead_letters(
    writer: &StoreWriter,
    endpoint: &str,
    now: Timestamp,
) -> Result<Vec<String>, Error> {
    let letters = writer.oldest_dead_letters(endpoint, MOST).await?;
    resend_letters(writer, endpoint, letters, now).await
}

async fn resend_letters(
    writer: &StoreWriter,
    endpoint: &str,
    letters: Vec<StoredEvent>,
    now: Timestamp,
) -> Result<Vec<String>, Error> {
    let mut queued = Vec::new();
    for stored in letters {
        let Ok(letter) = serde_json::from_str::<DeadLetter>(&stored.json) else {
            continue;
        };
        let subject = Subject::of_name(&letter.subject);
        let again = resent(&letter.message, now);
        writer.publish_again(&subject, again, endpoint).await?;
        // If this fails, it is sent once more with the next request.
        writer.remove_dead_letter(endpoint, &stored).await?;
        queued.push(letter.id);
    }
    Ok(queued)
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
