//! The pages that a customer sees after a consent. They name the app, and neither GHL nor evergreen.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};

use super::install::path_of;
use super::{error_response, no_store};
use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::PathName;
use crate::api::html::{self, Paragraph};
use crate::apps::App;
use crate::connect::Outcome;
use crate::connect::outcome::Status;

/// Show how a consent went
///
/// The page of a signed outcome. It may be reloaded at any time.
#[utoipa::path(get, path = "/oauth/result/{outcome}", operation_id = "showConsentResult", params(
    ("outcome" = String, Path, description = "The outcome, signed by evergreen"),
), responses(
    (status = 200, description = "The page", body = String, content_type = "text/html"),
    (status = 404, description = "There is no such page"),
))]
pub(super) async fn show(
    State(broker): State<Broker>,
    headers: HeaderMap,
    segment: Result<PathName, Error>,
) -> Response {
    let ring = &broker.0.writer.rings().access;
    let outcome = segment.ok();
    let outcome = outcome.and_then(|PathName(segment)| Outcome::of_page(ring, &segment));
    let Some(outcome) = outcome else {
        let error = Error::new(ErrorKind::RouteNotFound, "There is no such page");
        return no_store(error_response(&broker, &headers, None, error));
    };
    let apps = broker.0.worker.apps.current();
    let app = apps.named(&outcome.app).map(AsRef::as_ref);
    no_store(page(app, &outcome))
}

fn page(app: Option<&App>, outcome: &Outcome) -> Response {
    let again = outcome.may_begin_again.then(|| path_of(app));
    let code = outcome.code.as_deref();
    match outcome.status {
        Status::Connected => render(app, StatusCode::OK, "Connected", CONNECTED, None),
        Status::Denied => render(
            app,
            StatusCode::OK,
            "Not connected",
            DENIED,
            again.as_deref(),
        ),
        Status::Error if outcome.installation_id.is_some() => {
            render(app, StatusCode::OK, "Connected", in_words(code), None)
        }
        Status::Error => {
            let words = in_words(code);
            render(
                app,
                StatusCode::OK,
                "Not connected",
                words,
                again.as_deref(),
            )
        }
    }
}

/// A page about a consent that did not come as far as an outcome.
pub(super) fn of_error(app: Option<&App>, error: &Error) -> Response {
    let words = in_words(Some(error.code()));
    // Only the maker of a link can make another.
    let is_over = matches!(
        error.kind,
        ErrorKind::ConnectLinkUnknown | ErrorKind::RouteNotFound
    );
    let again = (!is_over).then(|| path_of(app));
    let again = again.as_deref();
    render(app, error.status(), "Not connected", words, again)
}

fn render(
    app: Option<&App>,
    status: StatusCode,
    title: &str,
    words: &str,
    again: Option<&str>,
) -> Response {
    let brand = app.map(|app| app.brand.clone()).unwrap_or_default();
    let mut paragraphs = vec![Paragraph::Text(words)];
    if let Some(path) = again {
        paragraphs.push(Paragraph::Link(path, "Start again"));
    }
    html::render(status, &brand, title, &paragraphs)
}

const CONNECTED: &str = "Everything is set up. You can close this page.";
const DENIED: &str = "You did not allow the connection. Nothing was changed.";

/// An error in the words of a customer. `docs/errors.md` has the codes.
fn in_words(code: Option<&str>) -> &'static str {
    match code.unwrap_or_default() {
        "consent_state_invalid" => {
            "This link was used before, is too old, or was opened in another browser. Please start again."
        }
        "consent_rejected" => "This link was used before, or is too old. Please start again.",
        "consent_pending" => {
            "This takes longer than usual. It continues by itself. If you are not connected in five minutes, \
             please start again."
        }
        "consent_not_stored" | "store_unavailable" | "broker_stopping" => {
            "This could not be completed just now. If you are not connected in a moment, please start again."
        }
        "route_not_found" => "There is no such page.",
        "connect_link_unknown" => "This link has expired. Please ask for a new one.",
        "other_account" => "You have connected another account than the one you were asked for.",
        "external_id_taken" => {
            "The account that you chose is connected, but not with your account here. It is used by somebody else \
             here, or your account has another one already. Please ask for help where you got the link."
        }
        "return_url_refused" | "request_invalid" | "app_unknown" => {
            "This link is not complete. Please ask for the right one."
        }
        "request_rate_exceeded" => "There were too many attempts. Please start again in a moment.",
        _ => "This did not work. Please start again in a moment.",
    }
}
