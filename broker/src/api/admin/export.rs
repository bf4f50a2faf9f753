//! Export of installations with their tokens, in pages of one row a line. The import takes the same rows.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::audit::Action;
use store::{AppName, InstallationId};
use store_writer::writer::{Exported, ExportedTokens, LeftOut};
use tracing::info;
use utoipa::IntoParams;

use crate::Broker;
use crate::api::error::Error;
use crate::api::extract::QueryString;
use crate::audit::Requester;

/// The installations of a page if the query does not say.
const PAGE: usize = 200;
const LONGEST_PAGE: usize = 1000;
/// The `after` of the next page. Absent on the last one.
const NEXT: HeaderName = HeaderName::from_static("x-evergreen-next");
/// How many installations of the page were left out, by the reason.
const LEFT_OUT: HeaderName = HeaderName::from_static("x-evergreen-left-out");

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// Must be `true`, so that nobody exports tokens unawares.
    #[serde(default)]
    #[param(required)]
    with_tokens: bool,
    /// The `X-Evergreen-Next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<InstallationId>,
    /// The most installations. 200 if it is absent, and never more than 1000.
    limit: Option<usize>,
    /// Only installations of this app.
    #[param(value_type = Option<String>)]
    app: Option<AppName>,
}

/// Export installations with their tokens
///
/// **The tokens are in clear text.** Each line is a row, as the import takes it. The export ends with the page that has no
/// header `X-Evergreen-Next`.
#[utoipa::path(get, path = "/v1/installations/export", operation_id = "exportInstallations", params(ExportQuery), responses(
    (status = 200, description = "A page", body = String, content_type = "application/x-ndjson", headers(
        ("X-Evergreen-Next" = String, description = "The `after` of the next page. Absent on the last one"),
        ("X-Evergreen-Left-Out" = String, description = "How many installations of the page have no row, by the reason. `named`: how many of `agency` have an external id or tags"),
    )),
))]
pub(super) async fn export(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    QueryString(query): QueryString<ExportQuery>,
) -> Result<Response, Error> {
    if !query.with_tokens {
        return Err(Error::invalid(
            "An export has the tokens of customers, in clear text. Ask for them with with_tokens=true",
        )
        .with_hint("GET /v1/installations lists installations without their tokens"));
    }
    let limit = query.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE);
    let page = broker.0.writer.export(query.after.as_ref(), limit).await?;
    let next = page.last().filter(|_| page.len() == limit);
    let next = next.map(|last| last.id().to_string());
    let mut rows = String::new();
    let mut left_out = LeftOutCounts::default();
    let mut count = 0;
    for entry in &page {
        match entry {
            Exported::Tokens(tokens) => {
                let is_wanted = |app: &AppName| tokens.installation.access.app == *app;
                if query.app.as_ref().is_none_or(is_wanted) {
                    count += 1;
                    rows.push_str(&row(tokens).to_string());
                    rows.push('\n');
                }
            }
            Exported::LeftOut(_, why) => left_out.count(*why),
        }
    }
    // Before the tokens leave.
    let entry = requester.entry(broker.0.reader.now(), Action::InstallationsExported);
    let entry = entry.with(format!("{count} installations with their tokens"));
    broker.0.audit.record(entry).await;
    info!(count, "installations were exported with their tokens");
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let next = next.and_then(|next| HeaderValue::try_from(next).ok());
    headers.extend(next.map(|next| (NEXT, next)));
    let left_out = HeaderValue::try_from(left_out.to_string()).ok();
    headers.extend(left_out.map(|left_out| (LEFT_OUT, left_out)));
    Ok((headers, rows).into_response())
}

#[derive(Default)]
struct LeftOutCounts {
    of_agency: u64,
    /// Of these, with an external id or tags.
    named: u64,
    ended: u64,
    of_person: u64,
    unreadable: u64,
}

impl LeftOutCounts {
    fn count(&mut self, why: LeftOut) {
        let count = match why {
            LeftOut::OfAgency { is_named } => {
                self.named += u64::from(is_named);
                &mut self.of_agency
            }
            LeftOut::Ended => &mut self.ended,
            LeftOut::Static => &mut self.of_person,
            LeftOut::Unreadable => &mut self.unreadable,
        };
        *count += 1;
    }
}

impl std::fmt::Display for LeftOutCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            of_agency,
            named,
            ended,
            of_person,
            unreadable,
        } = self;
        write!(f, "agency={of_agency}, named={named}, ended={ended}, ")?;
        write!(f, "static={of_person}, unreadable={unreadable}")
    }
}

/// The row, with the names that GHL's token responses have.
fn row(tokens: &ExportedTokens) -> Value {
    let installation = &tokens.installation;
    let access = &installation.access;
    let mut row = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            row.insert(name.to_owned(), value);
        }
    };
    let access_token = tokens.access_token.expose_secret();
    let has_token = !access_token.is_empty();
    set("access_token", json!(has_token.then_some(access_token)));
    set("refresh_token", json!(tokens.refresh_token.expose_secret()));
    // To the millisecond, so that the row is not older than itself when it is imported again.
    let expires_at = access.expires_at.filter(|_| has_token);
    set("expires_at", json!(expires_at.map(|at| at.as_millis())));
    set("expires_in", json!(access.lifetime.as_secs()));
    set("scope", json!(access.scopes));
    set("userType", json!(access.user_type.as_str()));
    set("locationId", json!(access.location));
    set("companyId", json!(access.company));
    set("app", json!(access.app));
    set("clientId", json!(installation.client));
    set("external_id", json!(installation.customer.external_id));
    let tags = Some(&installation.customer.tags).filter(|tags| !tags.is_empty());
    set("tags", json!(tags));
    Value::Object(row)
}
