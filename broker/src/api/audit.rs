//! `/v1/audit`: operators read the audit log, and gateways report to it.

use axum::extract::{Request, State};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::client_address::last_noted;
use service::handler::Peer;
use store::Timestamp;
use store::audit::{Action, BodyHash, MAX_REPORT_BYTES, MOST_ENTRIES, Pass, Report};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::QueryString;
use crate::api::status::Name;

/// The entries of an answer if the query has no limit.
const DEFAULT_LIMIT: usize = 100;
/// The digits of a key's hash in an entry.
const KEY_DIGITS: usize = 8;

/// For operators.
pub(crate) fn routes() -> OpenApiRouter<Broker> {
    OpenApiRouter::default().routes(routes!(list))
}

/// For gateways.
pub(crate) fn reports() -> Router<Broker> {
    Router::new().route("/v1/audit", post(report))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Its id, location or company.
    installation: Option<String>,
    /// Its app. Needed for a location or company that has several.
    app: Option<String>,
    /// The name of a key, or the first 8 digits or more of its id.
    key: Option<String>,
    /// Only entries with this action, such as `key_revoked`. `docs/audit-log.md` lists the actions.
    #[param(value_type = Option<String>)]
    action: Option<Action>,
    /// The most entries. 100 if it is absent, and never more than 10,000.
    limit: Option<usize>,
}

/// Entries of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntries)]
struct Entries {
    /// The newest first. `docs/audit-log.md` has their members.
    #[schema(value_type = Vec<Object>)]
    entries: Vec<Value>,
}

/// Read the audit log
///
/// The log records fetches of tokens, and changes of keys and installations. The newest entry comes first.
#[utoipa::path(get, path = "/v1/audit", operation_id = "listAuditEntries", params(ListQuery), responses(
    (status = 200, description = "The entries", body = Entries),
))]
async fn list(
    State(broker): State<Broker>,
    QueryString(query): QueryString<ListQuery>,
) -> Result<Json<Entries>, Error> {
    let filter = Filter {
        installation: found(&broker, query.installation.as_deref(), query.app.as_deref()).await?,
        key: query.key,
        action: query.action.map(|action| json!(action)),
    };
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MOST_ENTRIES);
    let entries = read(&broker, &filter, 0, limit).await?;
    Ok(Json(Entries { entries }))
}

/// The id of an installation by one of its names.
async fn found(
    broker: &Broker,
    name: Option<&str>,
    app: Option<&str>,
) -> Result<Option<String>, Error> {
    let Some(name) = name else {
        return Ok(None);
    };
    let id = Name { name, app }.resolve(&broker.0.writer).await?;
    Ok(Some(id.to_string()))
}

/// At most `limit` entries after the first `from`, the newest first. The filter: action, installation and key.
///
/// # Errors
/// 400 if there is no such installation, or if its location has several apps. 503 if the store is unavailable.
pub(crate) async fn entries(
    broker: &Broker,
    [action, installation, key]: [Option<String>; 3],
    from: usize,
    limit: usize,
) -> Result<Vec<Value>, Error> {
    let filter = Filter {
        installation: found(broker, installation.as_deref(), None).await?,
        key,
        action: action.map(Value::from),
    };
    read(broker, &filter, from, limit).await
}

async fn read(
    broker: &Broker,
    filter: &Filter,
    from: usize,
    limit: usize,
) -> Result<Vec<Value>, Error> {
    let last = from.saturating_add(limit);
    let read = if filter.is_empty() { last } else { usize::MAX };
    let entries = broker.0.writer.audit(read).await?;
    let matching = entries.into_iter().filter(|entry| filter.matches(entry));
    Ok(matching.skip(from).take(limit).collect())
}

/// Which entries are wanted.
struct Filter {
    installation: Option<String>,
    key: Option<String>,
    action: Option<Value>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.installation.is_none() && self.key.is_none() && self.action.is_none()
    }

    fn matches(&self, entry: &Value) -> bool {
        let is_about = |id: &String| entry["installation"] == **id;
        let is_key = |wanted: &String| {
            let keys = [&entry["by"], &entry["key"]];
            keys.into_iter().any(|key| names(key, wanted))
        };
        let is_kind = |wanted: &Value| entry["action"] == *wanted;
        self.installation.as_ref().is_none_or(is_about)
            && self.key.as_ref().is_none_or(is_key)
            && self.action.as_ref().is_none_or(is_kind)
    }
}

/// Whether `wanted` is the key's name, or its id as far as the entry has it.
fn names(key: &Value, wanted: &str) -> bool {
    let id = key["id"].as_str().unwrap_or_default();
    key["name"] == wanted
        || (wanted.len() >= KEY_DIGITS && !id.is_empty() && wanted.starts_with(id))
}

#[derive(Deserialize)]
struct ReportQuery {
    /// When it was sent, in milliseconds of the store's time.
    at: i64,
    /// The hash of the body.
    sha256: String,
}

async fn report(
    State(broker): State<Broker>,
    QueryString(query): QueryString<ReportQuery>,
    request: Request,
) -> Result<StatusCode, Error> {
    let (parts, body) = request.into_parts();
    let pass = Pass {
        at: Timestamp::from_millis(query.at),
        body: query.sha256.into(),
    };
    let mac = parts.headers.get(AUTHORIZATION);
    let mac = mac.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let ring = &broker.0.writer.rings().access;
    if !pass.verify(ring, mac, broker.0.reader.now()) {
        return Err(not_allowed());
    }
    let from = last_noted(Peer::of(&parts.extensions), &parts.headers);
    let memory = &broker.0.receive_memory;
    let body = memory.receive(body, MAX_REPORT_BYTES, from).await?;
    if BodyHash::of(&body.bytes) != pass.body {
        return Err(not_allowed());
    }
    let mut report: Report = serde_json::from_slice(&body.bytes)
        .map_err(|_| Error::new(ErrorKind::RequestInvalid, "This is no report of a gateway"))?;
    if let Some(gateway) = report.gateway.take() {
        broker.0.statistics.take(gateway);
    }
    if !report.events.is_empty() || !report.used.is_empty() {
        broker.0.audit.take(report).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn not_allowed() -> Error {
    Error::new(ErrorKind::ReportNotAllowed, "This is for gateways").with_hint(
        "only a gateway with the same EVERGREEN_ACCESS_KEYS may report, within two minutes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_installation_and_by_either_key() {
        let entry = json!({
            "by": { "kind": "key", "id": "0123abcd", "name": "ops" },
            "key": { "id": "89abcdef", "name": "crm" },
            "installation": "install_1",
            "action": "key_revoked",
        });
        let filter = |installation: Option<&str>, key: Option<&str>| Filter {
            installation: installation.map(str::to_owned),
            key: key.map(str::to_owned),
            action: None,
        };
        for key in ["ops", "crm", "0123abcd", "89abcdef", "89abcdef00"] {
            assert!(filter(None, Some(key)).matches(&entry), "{key}");
            assert!(filter(Some("install_1"), Some(key)).matches(&entry));
            assert!(!filter(Some("install_2"), Some(key)).matches(&entry));
        }
        for key in ["op", "", "0123abc", "0123abce"] {
            assert!(!filter(None, Some(key)).matches(&entry), "{key}");
        }
        let of_a_webhook = json!({ "by": { "kind": "webhook" } });
        assert!(!filter(None, Some("89abcdef")).matches(&of_a_webhook));
        assert!(filter(None, None).matches(&of_a_webhook));
        for (action, expected) in [("key_revoked", true), ("key_created", false)] {
            let action = Some(json!(action));
            let filter = Filter {
                action,
                ..filter(None, None)
            };
            assert_eq!(filter.matches(&entry), expected);
        }
    }
}
