//! `GET /v1/installations/{name}/diagnosis`: why an installation does not work, and what to do.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use store::InstallationId;
use store_writer::writer::Listed;
use utoipa::ToSchema;

use super::AppQuery;
use crate::Broker;
use crate::api::error::Error;
use crate::api::extract::{PathName, QueryString};
use crate::api::status::AnyView;
use crate::diagnosis::facts::{collect, read};
use crate::diagnosis::history::{self, History};
use crate::diagnosis::{Action, Diagnosis, Step, diagnose, of_unreadable};

/// The explanation of an installation.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Diagnosis)]
pub(super) struct DiagnosisView {
    installation: AnyView,
    /// `well` (calls work and go on to work), `waiting` (something fails, and ends by itself) or `action` (a person must
    /// act).
    #[schema(value_type = String)]
    verdict: &'static str,
    /// The status in words.
    summary: String,
    /// The causes, each in whole sentences.
    why: Vec<String>,
    /// The effect on calls now.
    calls: String,
    /// The steps to take, in this order. Empty if there is nothing to do.
    to_do: Vec<StepView>,
    /// Events and entries of the audit log about it, the newest first, at most 50. Events are kept for 30 days.
    history: Vec<EntryView>,
    /// If older events were not looked at: the time of the oldest one that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    history_since: Option<String>,
}

/// One thing to do.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DiagnosisStep)]
struct StepView {
    text: String,
    /// The command that does it. `null` if there is none.
    command: Option<String>,
    /// `reconnect`, `refresh`, `force_refresh` or `open`: the button of the console that does it.
    #[schema(value_type = Option<String>)]
    action: Option<&'static str>,
    /// The installation to look at, for `open`.
    #[serde(skip_serializing_if = "Option::is_none")]
    installation_id: Option<String>,
}

/// Something that has happened to an installation.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryEntry)]
struct EntryView {
    at: String,
    /// `event` or `audit`
    #[schema(value_type = String)]
    source: &'static str,
    /// The type of the event, or the action of the entry.
    #[serde(rename = "type")]
    kind: String,
    /// In words.
    text: String,
}

/// Explain an installation
///
/// Its status in words, why it is so, what it means for calls, what to do, and what has happened to it lately.
#[utoipa::path(get, path = "/v1/installations/{name}/diagnosis", operation_id = "diagnoseInstallation", params(
    ("name" = String, Path, description = "Its id, its location, its company or its external id"), AppQuery,
), responses(
    (status = 200, description = "The explanation", body = DiagnosisView),
))]
pub(super) async fn show(
    State(broker): State<Broker>,
    PathName(name): PathName,
    QueryString(query): QueryString<AppQuery>,
) -> Result<Json<DiagnosisView>, Error> {
    let id = query.name(&name).resolve(&broker.0.writer).await?;
    let explained = explain(&broker, &id).await?;
    Ok(Json(explained.into()))
}

/// An installation with its explanation.
pub(crate) struct Explained {
    pub(crate) listed: Listed,
    pub(crate) view: AnyView,
    pub(crate) diagnosis: Diagnosis,
    pub(crate) history: History,
}

/// Explains an installation.
///
/// # Errors
/// 400 if there is none. 503 if the store is unavailable.
pub(crate) async fn explain(broker: &Broker, id: &InstallationId) -> Result<Explained, Error> {
    let writer = &broker.0.writer;
    let (listed, history) = tokio::try_join!(read(broker, id), history::of(writer, id))?;
    let listed = listed.ok_or_else(Error::not_found)?;
    let apps = broker.0.worker.apps.current();
    let known = apps.known();
    let diagnosis = match &listed {
        Listed::Readable(snapshot) => diagnose(&collect(broker, snapshot, (&apps, &known)).await?),
        Listed::Unreadable { source, .. } => of_unreadable(source),
    };
    Ok(Explained {
        view: AnyView::of(&listed, &known),
        listed,
        diagnosis,
        history,
    })
}

impl From<Explained> for DiagnosisView {
    fn from(explained: Explained) -> Self {
        let Explained {
            view,
            diagnosis,
            history,
            ..
        } = explained;
        let entries = history.entries.into_iter();
        Self {
            installation: view,
            verdict: diagnosis.verdict.as_str(),
            summary: diagnosis.summary,
            why: diagnosis.why,
            calls: diagnosis.calls,
            to_do: diagnosis.to_do.into_iter().map(StepView::from).collect(),
            history: entries
                .map(|entry| EntryView {
                    at: entry.at,
                    source: entry.source.as_str(),
                    kind: entry.kind,
                    text: entry.text,
                })
                .collect(),
            history_since: history.looked_back_to.map(|at| at.to_string()),
        }
    }
}

impl From<Step> for StepView {
    fn from(step: Step) -> Self {
        Self {
            text: step.text,
            command: step.command,
            action: step.action.as_ref().map(Action::as_str),
            installation_id: match step.action {
                Some(Action::Open(id)) => Some(id.to_string()),
                Some(Action::Reconnect | Action::Refresh | Action::ForceRefresh) | None => None,
            },
        }
    }
}
