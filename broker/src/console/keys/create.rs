//! The form for a new key.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use store::{InstallationId, Scope};

use super::made;
use crate::Broker;
use crate::api::admin::{NewKey, make_key};
use crate::api::error::{Error, ErrorKind};
use crate::console::{Administrator, Fields, Page, Section, Viewer, render};

/// The scopes, and what each allows.
const SCOPES: [(Scope, &str); 6] = [
    (Scope::Proxy, "call GHL through evergreen"),
    (Scope::Tokens, "fetch access tokens"),
    (
        Scope::Connect,
        "make one-time links and browser keys, as the backend of an app",
    ),
    (Scope::Metrics, "read metrics, and nothing else"),
    (Scope::View, "see the console, and change nothing"),
    (Scope::Admin, "everything, also create keys"),
];

/// How long a key works: the value of the field in days, and its label. 0 stands for ever.
const LIVES: [(u64, &str); 6] = [
    (0, "for ever"),
    (1, "1 day"),
    (7, "7 days"),
    (30, "30 days"),
    (90, "90 days"),
    (365, "1 year"),
];

/// A checkbox, or an entry of a list.
struct Choice {
    value: String,
    label: String,
    is_chosen: bool,
}

#[derive(Template)]
#[template(path = "console/key_new.html")]
struct Form {
    page: Page,
    /// Why no key was made. Empty at first.
    problem: String,
    name: String,
    scopes: Vec<Choice>,
    apps: Vec<Choice>,
    installations: String,
    calls: String,
    quota: String,
    lives: Vec<Choice>,
}

/// The form with what the person has entered.
fn filled(broker: &Broker, viewer: &Viewer, fields: &Fields, problem: String) -> Response {
    let text = |name: &str| fields.text(name).unwrap_or_default().to_owned();
    let scopes = SCOPES.into_iter().map(|(scope, label)| Choice {
        value: scope.to_string(),
        label: label.to_owned(),
        is_chosen: fields.all("scope").any(|it| it == scope.as_str()),
    });
    let lives = LIVES.into_iter().map(|(days, label)| Choice {
        value: days.to_string(),
        label: label.to_owned(),
        is_chosen: fields.text("days") == Some(&days.to_string()),
    });
    let apps = broker.0.worker.apps.current();
    let apps = apps.apps.iter().map(|app| Choice {
        value: app.name.to_string(),
        label: app.name.to_string(),
        is_chosen: fields.text("app") == Some(app.name.as_str()),
    });
    render(&Form {
        page: viewer.page("Create a key", Section::Keys),
        problem,
        name: text("name"),
        scopes: scopes.collect(),
        apps: apps.collect(),
        installations: text("installations"),
        calls: text("calls"),
        quota: text("quota"),
        lives: lives.collect(),
    })
}

pub(super) async fn form(
    State(broker): State<Broker>,
    Administrator(viewer): Administrator,
) -> Response {
    filled(&broker, &viewer, &Fields::default(), String::new())
}

pub(super) async fn create(
    State(broker): State<Broker>,
    Administrator(viewer): Administrator,
    fields: Fields,
) -> Result<Response, Error> {
    let request = wanted(&fields).map(|(mut request, life)| {
        let now = broker.0.reader.now();
        request.expires_at_ms = life.map(|life| (now + life).as_millis());
        request
    });
    let created = match request {
        Ok(request) => make_key(&broker, &viewer.requester, request).await,
        Err(reason) => Err(Error::invalid(reason)),
    };
    match created {
        Ok(created) => Ok(made(&viewer, &created)),
        Err(error) if error.kind == ErrorKind::RequestInvalid => {
            let mut response = filled(&broker, &viewer, &fields, error.message);
            *response.status_mut() = StatusCode::BAD_REQUEST;
            Ok(response)
        }
        Err(error) => Err(error),
    }
}

/// The key that the form asks for, and how long it works. `None` stands for ever.
fn wanted(fields: &Fields) -> Result<(NewKey, Option<Duration>), String> {
    let scopes: Vec<String> = fields.all("scope").map(str::to_owned).collect();
    if scopes.is_empty() {
        return Err("choose at least one scope".to_owned());
    }
    let days = fields.text("days").unwrap_or("0").parse::<u64>();
    let days = days
        .ok()
        .filter(|days| LIVES.iter().any(|(it, _)| it == days));
    let days = days.ok_or("choose how long the key works")?;
    let request = NewKey {
        name: fields.text("name").unwrap_or_default().to_owned(),
        scopes,
        app: fields.text("app").map(str::to_owned),
        installations: installations(fields.text("installations").unwrap_or_default())?,
        calls: calls(fields.text("calls").unwrap_or_default()),
        quota: fields.text("quota").map(str::to_owned),
        expires_at_ms: None,
    };
    let life = (days > 0).then(|| Duration::from_secs(days * 24 * 3600));
    Ok((request, life))
}

fn installations(text: &str) -> Result<Option<Vec<InstallationId>>, String> {
    let ids = text.split([',', ' ', '\r', '\n', '\t']);
    let ids = ids.filter(|id| !id.is_empty()).map(|id| {
        let parsed = id.parse::<InstallationId>();
        parsed.map_err(|_| format!("`{id}` is not the id of an installation"))
    });
    let ids: Vec<InstallationId> = ids.collect::<Result<_, _>>()?;
    Ok((!ids.is_empty()).then_some(ids))
}

fn calls(text: &str) -> Option<Vec<String>> {
    let calls = text.lines().map(str::trim).filter(|call| !call.is_empty());
    let calls: Vec<String> = calls.map(str::to_owned).collect();
    (!calls.is_empty()).then_some(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_becomes_a_request() {
        let id = InstallationId::random();
        let body = format!(
            "name=+crm+&scope=proxy&scope=tokens&app=&installations={id}%0D%0A&calls=GET+/a%0D%0APOST+/b&days=7&quota="
        );
        let (request, life) = wanted(&Fields::parse(body.as_bytes())).unwrap();
        assert_eq!(request.name, "crm");
        assert_eq!(request.scopes, ["proxy", "tokens"]);
        assert_eq!(request.installations, Some(vec![id]));
        let calls = ["GET /a", "POST /b"].map(str::to_owned);
        assert_eq!(request.calls.as_deref(), Some(calls.as_slice()));
        assert!(request.app.is_none() && request.quota.is_none());
        assert_eq!(life, Some(Duration::from_secs(7 * 24 * 3600)));
    }

    #[test]
    fn form_without_a_scope_or_with_other_values_is_refused() {
        for body in [
            "name=crm",
            "name=crm&scope=proxy&days=8",
            "name=crm&scope=proxy&installations=install_",
        ] {
            assert!(wanted(&Fields::parse(body.as_bytes())).is_err(), "{body}");
        }
        let (_, life) = wanted(&Fields::parse(b"name=crm&scope=proxy")).unwrap();
        assert_eq!(life, None);
    }
}
