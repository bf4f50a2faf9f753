//! The keys of callers: the list, and what may be done with one.

mod create;

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use secrecy::ExposeSecret;
use serde::Deserialize;
use store::{Caller, KeyHash, Scope, Timestamp};

use super::{Administrator, Console, Fields, Page, Section, Time, Viewer, done, problem, render};
use crate::Broker;
use crate::api::admin::{NewKeyView, end_key, replace_key, unknown_key};
use crate::api::error::Error;
use crate::api::extract::{PathName, QueryString};

const PATH: &str = "/console/keys";

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route(PATH, get(list))
        .route("/console/keys/new", get(create::form).post(create::create))
        .route("/console/keys/{key}/rotate", get(ask_rotate).post(rotate))
        .route("/console/keys/{key}/revoke", get(ask_revoke).post(revoke))
}

/// A row of the list.
struct Row {
    id: String,
    name: String,
    scopes: Vec<&'static str>,
    /// To which installations and calls it is limited.
    limits: Vec<String>,
    /// The state in words, and the class of its badge.
    state: (&'static str, &'static str),
    is_live: bool,
    created_at: Time,
    expires_at: Option<Time>,
    last_used_on: Option<String>,
}

impl Row {
    fn of(hash: &KeyHash, caller: &Caller, now: Timestamp) -> Self {
        Self {
            id: hash.to_string(),
            name: caller.name.clone(),
            scopes: caller.scopes.iter().copied().map(Scope::as_str).collect(),
            limits: limits(caller),
            state: state(caller, now),
            is_live: caller.is_live(now),
            created_at: caller.created_at.into(),
            expires_at: caller.expires_at.map(Time::from),
            last_used_on: None,
        }
    }

    /// As other commands and pages show it.
    fn short_id(&self) -> &str {
        self.id.get(..8).unwrap_or_default()
    }
}

fn state(caller: &Caller, now: Timestamp) -> (&'static str, &'static str) {
    if caller.revoked_at.is_some() {
        ("revoked", "")
    } else if !caller.is_live(now) {
        ("expired", "")
    } else if caller.expires_at.is_some_and(|at| at.since(now) < SOON) {
        ("expires soon", "warn")
    } else {
        ("works", "good")
    }
}

/// How long before its end a key expires soon.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

fn limits(caller: &Caller) -> Vec<String> {
    let app = caller.app.as_ref().map(|app| format!("app {app}"));
    let installations = caller.installations.as_ref().map(|some| match some.len() {
        1 => "1 installation".to_owned(),
        count => format!("{count} installations"),
    });
    let calls = caller.calls.as_ref().map(|some| match some.len() {
        1 => "1 call".to_owned(),
        count => format!("{count} calls"),
    });
    let quota = caller.quota.map(|quota| quota.to_string());
    [app, installations, calls, quota]
        .into_iter()
        .flatten()
        .collect()
}

#[derive(Template)]
#[template(path = "console/keys.html")]
struct List {
    page: Page,
    keys: Vec<Row>,
    /// How many have ended, and are not shown.
    ended: usize,
    shows_ended: bool,
}

#[derive(Deserialize)]
struct ListQuery {
    ended: Option<String>,
}

async fn list(
    State(broker): State<Broker>,
    QueryString(query): QueryString<ListQuery>,
    viewer: Viewer,
) -> Result<Response, Error> {
    let now = broker.0.reader.now();
    let used = broker.0.writer.key_uses().await?;
    let callers = broker.0.writer.callers().await?;
    let mut keys: Vec<Row> = callers
        .iter()
        .map(|(hash, caller)| Row {
            last_used_on: used.get(hash).map(ToString::to_string),
            ..Row::of(hash, caller, now)
        })
        .collect();
    let ended = keys.iter().filter(|key| !key.is_live).count();
    let shows_ended = query.ended.is_some();
    keys.retain(|key| shows_ended || key.is_live);
    keys.sort_by(|a, b| {
        let rank = |row: &Row| (!row.is_live, row.name.to_lowercase());
        rank(a).cmp(&rank(b))
    });
    Ok(render(&List {
        page: viewer.page("Keys", Section::Keys),
        keys,
        ended,
        shows_ended,
    }))
}

/// The page that shows a new key, once.
#[derive(Template)]
#[template(path = "console/key_made.html")]
struct Made<'a> {
    page: Page,
    name: &'a str,
    key: &'a str,
    /// When the old key of a rotated one ends.
    old_ends_at: Option<Time>,
}

fn made(viewer: &Viewer, made: &NewKeyView) -> Response {
    render(&Made {
        page: viewer.page("New key", Section::Keys),
        name: made.name(),
        key: made.key().expose_secret(),
        old_ends_at: made.old_ends_at().and_then(Time::parse),
    })
}

/// A question about a key.
#[derive(Template)]
#[template(path = "console/key_revoke.html")]
struct AskRevoke {
    page: Page,
    key: Row,
    is_own: bool,
}

#[derive(Template)]
#[template(path = "console/key_rotate.html")]
struct AskRotate {
    page: Page,
    key: Row,
}

/// The key with this id.
async fn find(broker: &Broker, id: &str) -> Result<(KeyHash, Row), Error> {
    let hash: KeyHash = id.parse().map_err(|()| unknown_key())?;
    let caller = broker.0.reader.caller(&hash).await?;
    let caller = caller.ok_or_else(unknown_key)?;
    Ok((hash, Row::of(&hash, &caller, broker.0.reader.now())))
}

async fn ask_revoke(
    State(broker): State<Broker>,
    PathName(id): PathName,
    Administrator(viewer): Administrator,
) -> Result<Response, Error> {
    let (hash, key) = find(&broker, &id).await?;
    Ok(render(&AskRevoke {
        page: viewer.page("Revoke a key", Section::Keys),
        key,
        is_own: hash == viewer.key,
    }))
}

async fn revoke(
    State(broker): State<Broker>,
    PathName(id): PathName,
    Administrator(viewer): Administrator,
) -> Result<Response, Error> {
    let name = end_key(&broker, &viewer.requester, &id).await?;
    Ok(done(PATH, format!("The key {name} is revoked.")))
}

async fn ask_rotate(
    State(broker): State<Broker>,
    PathName(id): PathName,
    Administrator(viewer): Administrator,
) -> Result<Response, Error> {
    let (_, key) = find(&broker, &id).await?;
    Ok(render(&AskRotate {
        page: viewer.page("Rotate a key", Section::Keys),
        key,
    }))
}

async fn rotate(
    State(broker): State<Broker>,
    PathName(id): PathName,
    Administrator(viewer): Administrator,
    fields: Fields,
) -> Result<Response, Error> {
    let overlap = fields.text("overlap").and_then(|it| it.parse::<u64>().ok());
    let Some(hours) = overlap.filter(|hours| *hours <= LONGEST_OVERLAP) else {
        return Ok(problem(PATH, "Choose how long the old key still works."));
    };
    let overlap = Duration::from_secs(hours * 3600);
    let rotated = replace_key(&broker, &viewer.requester, &id, overlap).await?;
    Ok(made(&viewer, &rotated))
}

/// The longest overlap that the form offers, in hours.
const LONGEST_OVERLAP: u64 = 720;

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller {
            name: "crm".to_owned(),
            scopes: vec![Scope::Proxy],
            app: None,
            installations: None,
            calls: None,
            quota: None,
            created_at: Timestamp::from_millis(0),
            expires_at: None,
            revoked_at: None,
        }
    }

    #[test]
    fn state_of_a_key_is_in_words() {
        let now = Timestamp::from_millis(1000);
        let mut key = caller();
        assert_eq!(state(&key, now).0, "works");
        key.expires_at = Some(now + SOON);
        assert_eq!(state(&key, now).0, "works");
        key.expires_at = Some(now + SOON / 2);
        assert_eq!(state(&key, now).0, "expires soon");
        key.expires_at = Some(now);
        assert_eq!(state(&key, now).0, "expired");
        key.revoked_at = Some(now);
        assert_eq!(state(&key, now).0, "revoked");
    }

    #[test]
    fn limits_of_a_key_are_counted() {
        let mut key = caller();
        assert!(limits(&key).is_empty());
        key.app = Some("staging".parse().unwrap());
        key.installations = Some(vec![store::InstallationId::random()]);
        key.calls = Some(vec!["GET /a".parse().unwrap(), "GET /b".parse().unwrap()]);
        let expected = ["app staging", "1 installation", "2 calls"];
        assert_eq!(limits(&key), expected);
    }
}
