//! The page of an installation: why it is as it is, what to do, and what has happened.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use store::{InstallationId, Timestamp};
use store_writer::installation::Installation;
use store_writer::writer::Listed;

use super::{Row, path_of};
use crate::Broker;
use crate::api::admin::diagnosis::{Explained, explain};
use crate::api::error::Error;
use crate::api::extract::PathName;
use crate::console::prose::Prose;
use crate::console::{Page, Section, Time, Viewer, render};
use crate::diagnosis::history::Source;
use crate::diagnosis::{Action, Step, Verdict};

#[derive(Template)]
#[template(path = "console/installation.html")]
struct Show {
    page: Page,
    row: Row,
    /// The class of the notice, and the verdict in words.
    verdict: (&'static str, &'static str),
    summary: Prose,
    why: Vec<Prose>,
    calls: Prose,
    steps: Vec<ShownStep>,
    facts: Vec<Fact>,
    /// Further facts of GHL's webhooks.
    details: Vec<(String, String)>,
    history: Vec<Entry>,
    history_since: Option<Time>,
    /// The tags, one a line, as the form has them.
    tags: String,
    is_readable: bool,
    is_refreshable: bool,
}

struct ShownStep {
    text: Prose,
    command: Option<String>,
    action: Option<Action>,
}

impl ShownStep {
    fn is_reconnect(&self) -> bool {
        self.action == Some(Action::Reconnect)
    }

    fn is_refresh(&self) -> bool {
        self.action == Some(Action::Refresh)
    }

    fn is_force(&self) -> bool {
        self.action == Some(Action::ForceRefresh)
    }

    /// The page to look at.
    fn opens(&self) -> Option<String> {
        match &self.action {
            Some(Action::Open(id)) => Some(path_of(id)),
            Some(Action::Reconnect | Action::Refresh | Action::ForceRefresh) | None => None,
        }
    }
}

/// A fact about it, with a time or a text.
struct Fact {
    name: &'static str,
    text: Prose,
}

struct Entry {
    at: Option<Time>,
    is_event: bool,
    text: Prose,
}

pub(super) async fn show(
    State(broker): State<Broker>,
    PathName(id): PathName,
    viewer: Viewer,
) -> Result<Response, Error> {
    let id: InstallationId = id.parse().map_err(|_| Error::not_found())?;
    let Explained {
        listed,
        diagnosis,
        history,
        ..
    } = explain(&broker, &id).await?;
    let known = broker.0.worker.apps.current().known();
    let row = Row::of(&listed, &known);
    let installation = match &listed {
        Listed::Readable(snapshot) => Some(&snapshot.installation),
        Listed::Unreadable { .. } => None,
    };
    let entries = history.entries.into_iter().map(|entry| Entry {
        at: Time::parse(&entry.at),
        is_event: entry.source == Source::Event,
        text: Prose::from(entry.text),
    });
    let details = installation.and_then(|it| it.details.as_ref());
    let details = details.map(|it| it.facts.clone().into_iter().collect());
    Ok(render(&Show {
        page: viewer.page(row.title().to_owned(), Section::Installations),
        verdict: verdict(diagnosis.verdict),
        summary: diagnosis.summary.into(),
        why: diagnosis.why.into_iter().map(Prose::from).collect(),
        calls: diagnosis.calls.into(),
        steps: diagnosis.to_do.into_iter().map(ShownStep::from).collect(),
        facts: installation.map(facts).unwrap_or_default(),
        details: details.unwrap_or_default(),
        history: entries.collect(),
        history_since: history.looked_back_to.map(Time::from),
        tags: row.tags.join("\n"),
        is_readable: installation.is_some(),
        is_refreshable: installation
            .is_some_and(|it| it.chain.is_some() || it.access.parent.is_some()),
        row,
    }))
}

impl From<Step> for ShownStep {
    fn from(step: Step) -> Self {
        Self {
            text: step.text.into(),
            command: step.command,
            action: step.action,
        }
    }
}

/// The class of a notice, and its first words.
const fn verdict(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Well => ("good", "It is well."),
        Verdict::Waiting => ("warn", "It ends by itself."),
        Verdict::Action => ("bad", "Something must be done."),
    }
}

fn facts(installation: &Installation) -> Vec<Fact> {
    let access = &installation.access;
    let time = |name: &'static str, at: Option<Timestamp>| {
        at.map(|at| Fact {
            name,
            text: at.to_string().into(),
        })
    };
    let text = |name: &'static str, text: String| {
        (!text.is_empty()).then(|| Fact {
            name,
            text: text.into(),
        })
    };
    let client = installation.client.as_ref().map(ToString::to_string);
    let list = installation.locations.as_ref();
    let facts = [
        time("Connected", Some(installation.consented_at)),
        time("First connected", Some(installation.installed_at)),
        time("Last refresh", installation.refreshed_at),
        time("Next refresh", installation.due),
        time("Token expires", access.expires_at),
        text("Generation", access.generation.to_string()),
        text("Failures in a row", installation.failures.to_string()),
        text("Scopes", access.scopes.clone()),
        text("Client id", client.unwrap_or_default()),
        time("Locations listed", list.and_then(|it| it.listed_at)),
        time("Locations are listed next", list.map(|it| it.due)),
    ];
    facts.into_iter().flatten().collect()
}
