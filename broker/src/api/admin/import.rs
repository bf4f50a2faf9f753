//! Import of installations: rows of tokens that another backend has kept.
//!
//! The rows of a request are written concurrently, but those of one owner in their order. A request may be repeated.

mod row;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use axum::extract::{Request, State};
use axum::{Extension, Json};
use futures_util::future::join_all;
use ghl::token_row::{Entry, Place, split, split_lines};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use store::AppName;
use store::audit::{Action, Outcome};
use store_writer::WriteError;
use store_writer::protocol::Unchanged;
use store_writer::writer::{ImportMode, ImportOutcome, ImportRow, Imported};
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use crate::Broker;
use crate::api::error::{Error, ErrorKind, remedy};
use crate::api::extract::QueryString;
use crate::apps::identity::NotUsable;
use crate::audit::Requester;

/// The longest body, in bytes. It is a thousand rows with tokens of 2 KiB each, and memory is reserved for it.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// The most rows of a request.
const MAX_ROWS: usize = 5000;
/// The writes at a time. Redis takes them over one connection, and a file syncs them together.
const LANES: usize = 64;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportQuery {
    /// The app of all rows.
    app: Option<String>,
    /// Whether only to say what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// The result of a row.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ImportedRow)]
struct RowResult {
    /// Where the row is in the request, such as `line 3`.
    at: String,
    /// `imported`, `unchanged` or `refused`.
    #[schema(value_type = String)]
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    installation_id: Option<String>,
    /// Of the installation's tokens now.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<String>,
    /// Whether the row's refresh token was spent since it was imported. Absent if the installation does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<bool>,
}

/// The results of an import.
#[derive(Serialize, ToSchema)]
#[schema(as = ImportResults)]
pub(super) struct Results {
    /// In the order of the rows.
    results: Vec<RowResult>,
    imported: usize,
    unchanged: usize,
    refused: usize,
}

/// Import tokens that another backend has kept
///
/// The body is a JSON array of rows, a map of location ids to rows, or one row a line. `docs/import.md` has the members of
/// a row. At most 5000 rows and 4 MiB. A request may be repeated, because a row that is not newer than the stored
/// token changes nothing.
#[utoipa::path(post, path = "/v1/installations", operation_id = "importInstallations", params(ImportQuery), request_body(
    content((Vec<Object> = "application/json"), (String = "application/x-ndjson")),
    description = "The rows",
), responses(
    (status = 200, description = "The result of each row", body = Results),
))]
pub(super) async fn import(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    QueryString(query): QueryString<ImportQuery>,
    request: Request,
) -> Result<Json<Results>, Error> {
    let is_lines = is_lines(request.headers())?;
    let app = query.app.as_deref().map(str::parse::<AppName>).transpose();
    let app = app.map_err(|error| Error::invalid(format!("`app`: {error}")))?;
    let apps = broker.0.worker.apps.current();
    if let Some(app) = &app
        && apps.named(app).is_none()
    {
        let message = format!("There is no app {app} in the settings of this broker");
        return Err(Error::new(ErrorKind::AppUnknown, message));
    }
    broker.0.worker.watch.ensure_verified()?;
    let memory = &broker.0.receive_memory;
    let body = memory.receive(request.into_body(), MAX_BYTES, requester.address);
    let body = body.await?;
    let text = std::str::from_utf8(&body.bytes);
    let text = text.map_err(|_| Error::invalid("The body is not UTF-8"))?;
    let entries = match is_lines {
        true => split_lines(text),
        false => split(text).map_err(|error| Error::invalid(format!("The body: {error}")))?,
    };
    if entries.len() > MAX_ROWS {
        let message = format!("The body has more than {MAX_ROWS} rows");
        return Err(Error::new(ErrorKind::BodyTooLarge, message));
    }
    let mode = match query.dry_run {
        true => ImportMode::DryRun,
        false => ImportMode::Write,
    };
    let (results, failed) = Rows::parse(&broker, entries, app.as_ref())
        .await?
        .write(&broker, mode)
        .await;
    let count = |kind: &str| results.iter().filter(|row| row.result == kind).count();
    let (imported, unchanged, refused) = (count(IMPORTED), count(UNCHANGED), count(REFUSED));
    if mode == ImportMode::Write {
        broker.0.lookups.forget_unknown();
        info!(imported, unchanged, refused, "rows were imported");
        let entry = requester.entry(broker.0.reader.now(), Action::InstallationsImported);
        let mut entry = entry.with(format!(
            "{imported} imported, {unchanged} unchanged, {refused} refused"
        ));
        if failed.is_some() {
            entry.outcome = Outcome::Failed;
        }
        broker.0.audit.record(entry).await;
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(Json(Results {
            results,
            imported,
            unchanged,
            refused,
        })),
    }
}

/// Whether the body has one row a line.
fn is_lines(headers: &HeaderMap) -> Result<bool, Error> {
    let kind = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let kind = kind
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default();
    match kind.trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(false),
        "application/x-ndjson" | "application/jsonl" => Ok(true),
        _ => Err(Error::new(
            ErrorKind::ContentTypeUnsupported,
            "Send rows as application/json or application/x-ndjson",
        )),
    }
}

const IMPORTED: &str = "imported";
const UNCHANGED: &str = "unchanged";
const REFUSED: &str = "refused";

/// The rows of a request: to be written, or why not.
struct Rows(Vec<(Place, Result<ImportRow, String>)>);

impl Rows {
    async fn parse(
        broker: &Broker,
        entries: Vec<Entry<'_>>,
        app: Option<&AppName>,
    ) -> Result<Self, Error> {
        let apps = broker.0.worker.apps.current();
        let now = broker.0.reader.now();
        let mut unusable: HashMap<AppName, Option<String>> = HashMap::new();
        let mut rows = Vec::with_capacity(entries.len());
        for entry in entries {
            let parsed = row::parse(&entry, app, &apps, now);
            let row = match parsed {
                Ok((app, row)) => {
                    if !unusable.contains_key(&app.name) {
                        let usable = app.ensure_usable(&broker.0.writer).await;
                        let problem = match usable {
                            Ok(()) => None,
                            Err(NotUsable::Store(error)) => return Err(error.into()),
                            Err(taken @ NotUsable::NameTaken { .. }) => Some(taken.to_string()),
                        };
                        unusable.insert(app.name.clone(), problem);
                    }
                    match unusable.get(&app.name).cloned().flatten() {
                        Some(problem) => Err(problem),
                        None => Ok(row),
                    }
                }
                Err(reason) => Err(reason),
            };
            rows.push((entry.place, row));
        }
        Ok(Self(rows))
    }

    /// Writes the rows until the store fails. The results are in the order of the rows.
    async fn write(
        self,
        broker: &Broker,
        mode: ImportMode,
    ) -> (Vec<RowResult>, Option<WriteError>) {
        let mut lanes: Vec<Vec<(usize, Place, ImportRow)>> = vec![Vec::new(); LANES];
        let mut results = Vec::with_capacity(self.0.len());
        for (index, (place, row)) in self.0.into_iter().enumerate() {
            match row {
                Ok(row) => lanes[lane(row.owner())].push((index, place, row)),
                Err(reason) => results.push((index, refused(&place, reason))),
            }
        }
        let written = join_all(lanes.into_iter().map(|lane| write_lane(broker, lane, mode)));
        let mut failed = None;
        for (of_lane, error) in written.await {
            results.extend(of_lane);
            failed = failed.or(error);
        }
        results.sort_by_key(|(index, _)| *index);
        (results.into_iter().map(|(_, row)| row).collect(), failed)
    }
}

fn lane(owner: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    owner.hash(&mut hasher);
    usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default()
}

async fn write_lane(
    broker: &Broker,
    lane: Vec<(usize, Place, ImportRow)>,
    mode: ImportMode,
) -> (Vec<(usize, RowResult)>, Option<WriteError>) {
    let mut results = Vec::with_capacity(lane.len());
    for (index, place, row) in lane {
        match broker.0.writer.import(&row, mode).await {
            Ok(imported) => results.push((index, result(&place, &imported))),
            Err(WriteError::Unreadable { source, .. }) => {
                let reason = format!("its stored record cannot be read: {}", remedy(&source));
                results.push((index, refused(&place, reason)));
            }
            Err(error @ WriteError::Unwritable { .. }) => {
                results.push((index, refused(&place, error.to_string())));
            }
            Err(
                error @ (WriteError::Unavailable(_)
                | WriteError::Refused(_)
                | WriteError::Contended(_)
                | WriteError::Unknown(_)
                | WriteError::Unconfirmed(_)),
            ) => return (results, Some(error)),
        }
    }
    (results, None)
}

fn refused(place: &Place, reason: String) -> RowResult {
    RowResult {
        at: place.to_string(),
        result: REFUSED,
        reason: Some(reason),
        installation_id: None,
        generation: None,
        verified: None,
    }
}

fn result(place: &Place, imported: &Imported) -> RowResult {
    const TAKEN: &str =
        "its external id was not stored: another installation has it, or this one has another";
    let (result, reason, verified) = match imported.outcome {
        ImportOutcome::Imported => (IMPORTED, None, Some(false)),
        ImportOutcome::Unchanged(why) => {
            let verified = match why {
                Unchanged::ImportedBefore { is_refreshed } => Some(is_refreshed),
                Unchanged::Current => Some(false),
                Unchanged::StoredIsNewer | Unchanged::OfAgency => None,
            };
            (UNCHANGED, Some(why.as_str()), verified)
        }
        ImportOutcome::Refused(why) => (REFUSED, Some(why.as_str()), None),
    };
    let taken = imported.is_external_id_taken.then_some(TAKEN);
    let reasons: Vec<_> = reason.into_iter().chain(taken).collect();
    RowResult {
        at: place.to_string(),
        result,
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        installation_id: imported.id.as_ref().map(ToString::to_string),
        generation: imported
            .id
            .as_ref()
            .map(|_| imported.generation.to_string()),
        verified,
    }
}
