//! How an installation begins: off to GHL's consent page, and back with a code.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use ghl::{Answer, Failure, Owner};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use store::{InstallationId, Timestamp, UserType, consent_state};
use store_writer::WriteError;
use store_writer::consent::Consent;
use store_writer::grant::Registration;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::Broker;
use crate::error::Error;
use crate::line;
use crate::page::{self, Paragraph};

/// How long GHL's answer to a code is waited for: the code is good once.
const LATEST: Duration = Duration::from_secs(5 * 60);
/// What a browser waits beyond GHL: for the store.
const A_MOMENT: Duration = Duration::from_secs(5);

pub(crate) fn routes() -> Router<Broker> {
    Router::new()
        .route("/oauth/install", get(install))
        .route("/oauth/callback", get(callback))
        .route("/api/oauth/callback", get(callback))
}

async fn install(State(broker): State<Broker>) -> Response {
    let ring = &broker.0.writer.rings().access;
    let state = consent_state::issue(ring, broker.0.reader.now());
    let link = broker.0.config.consent.link(&state);
    let mut response = Redirect::to(link.as_str()).into_response();
    no_store(&mut response);
    response
}

#[derive(Deserialize)]
struct Callback {
    code: Option<SecretString>,
    state: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

async fn callback(
    State(broker): State<Broker>,
    headers: HeaderMap,
    Query(callback): Query<Callback>,
) -> Response {
    // In a task of its own: once the code is spent, a browser that leaves must not cost the tokens.
    let shutdown = broker.0.shutdown.clone();
    let patience = broker.0.config.timing.call + A_MOMENT;
    let connected = shutdown.spawn(async move { connect(&broker, callback).await });
    let mut response = match timeout(patience, connected).await {
        Ok(Ok(Ok(connected))) => welcome(&headers, &connected),
        Ok(Ok(Err(error))) => refuse(&headers, error),
        Ok(Err(_)) => refuse(&headers, Error::unavailable("The broker is stopping")),
        // GHL's answer is waited for all the same.
        Err(_) => refuse(
            &headers,
            Error::new(StatusCode::GATEWAY_TIMEOUT, "GHL has not answered yet")
                .with_hint("the app is connected as soon as GHL answers; start again if it is not in 5 minutes"),
        ),
    };
    no_store(&mut response);
    response
}

/// What a customer's consent led to.
struct Connected {
    id: InstallationId,
    enrolment: Registration,
}

async fn connect(broker: &Broker, callback: Callback) -> Result<Connected, Error> {
    if let Some(error) = callback.error {
        let detail = callback.error_description.unwrap_or_default();
        return Err(
            Error::bad_request(format!("GHL answered: {error} {detail}").trim_end())
                .with_hint("start again at /oauth/install"),
        );
    }
    let code = callback.code.ok_or_else(|| {
        Error::bad_request("The callback carries no code").with_hint("start at /oauth/install")
    })?;
    check_state(broker, callback.state.as_deref()).await?;
    prove_writable(broker).await?;
    let asked_at = broker.0.reader.now();
    let exchanged = timeout(LATEST, broker.0.endpoint.exchange(&code)).await;
    let answer = exchanged
        .unwrap_or_else(|_| Err(Failure::Lost("GHL did not answer for 5 minutes".into())))
        .map_err(|failure| refused(&failure))?;
    let lifetime = answer.lifetime().clone();
    let consent = Consent::new(asked_at, Unverified { answer, asked_at }.verify()?);
    let id = store_at_last(broker, &consent).await?;
    let enrolment = consent.registration;
    line::lifetime(&id, &lifetime);
    info!(installation = %id, location = ?enrolment.location, company = ?enrolment.company,
        user_type = %enrolment.user_type, "installed");
    Ok(Connected { id, enrolment })
}

/// A code is good once: it is not spent unless what GHL answers can be stored.
async fn prove_writable(broker: &Broker) -> Result<(), Error> {
    const HINT: &str = "start again at /oauth/install in a moment";
    let refuse = |reason: &(dyn std::error::Error + 'static)| {
        warn!(error = reason, "a code is not exchanged");
        Error::unavailable("The installation could not be stored now").with_hint(HINT)
    };
    let ready = broker.0.worker.ready_to_spend();
    ready.map_err(|reason| refuse(&reason))?;
    let proved = broker.0.writer.prove_writable().await;
    proved.map_err(|error| refuse(&error))
}

/// A state is good once, for ten minutes, and only if it was given out here: or somebody could have
/// a customer's browser connect an account of their own.
async fn check_state(broker: &Broker, state: Option<&str>) -> Result<(), Error> {
    const HINT: &str = "start again at /oauth/install";
    let (ring, now) = (&broker.0.writer.rings().access, broker.0.reader.now());
    match state {
        Some(state)
            if consent_state::verify(ring, state, now)
                && broker.0.writer.use_consent_state(state).await? =>
        {
            Ok(())
        }
        Some(_) => Err(Error::bad_request(
            "This link is not from here, was used before, or is older than ten minutes",
        )
        .with_hint(HINT)),
        None if broker.0.config.is_state_required => Err(Error::bad_request(
            "The callback carries no state",
        )
        .with_hint(
            "start at /oauth/install; to allow installations that begin in GHL's marketplace \
                 set EVERGREEN_REQUIRE_STATE=false",
        )),
        None => Ok(()),
    }
}

/// GHL's answer to a code, before anybody looked at whose it is.
struct Unverified {
    answer: Answer,
    asked_at: Timestamp,
}

impl Unverified {
    fn verify(self) -> Result<Registration, Error> {
        let Self { answer, asked_at } = self;
        let strange = |what: &str| {
            warn!(what, "GHL's answer to a code cannot be used");
            Error::new(StatusCode::BAD_GATEWAY, format!("GHL's answer {what}"))
        };
        let lifetime = answer.lifetime().value;
        let mut location = id("location", answer.location_id.as_deref());
        let mut company = id("company", answer.company_id.as_deref());
        let user_type = |told: &str| -> Option<UserType> { Owner::user_type(told)?.parse().ok() };
        let claimed = answer.claimed_owner();
        let claimed = claimed.and_then(|(class, id)| Some((user_type(class)?, id)));
        let said = answer.user_type.as_deref().and_then(user_type);
        let told = said.or(claimed.map(|(class, _)| class));
        // What the answer does not say, the token itself may.
        match claimed.filter(|(class, _)| told == Some(*class)) {
            Some((UserType::Location, claimed)) => {
                location = location.or_else(|| id("location", Some(claimed)));
            }
            Some((UserType::Company, claimed)) => {
                company = company.or_else(|| id("company", Some(claimed)));
            }
            None => {}
        }
        let user_type = match told {
            Some(told) => told,
            None if location.is_some() => UserType::Location,
            None => UserType::Company,
        };
        // Both kinds of token carry a company: an agency's token must not be filed under a location.
        let location = match user_type {
            UserType::Location if location.is_none() => {
                return Err(strange("is for a location and does not say which"));
            }
            UserType::Location => location,
            UserType::Company if company.is_none() => {
                return Err(strange("is for a company and does not say which"));
            }
            UserType::Company => None,
        };
        if answer.refresh_token.is_none() {
            return Err(strange("has no refresh token"));
        }
        Ok(Registration {
            access_token: answer.access_token,
            refresh_token: answer.refresh_token,
            expires_at: Some(asked_at + lifetime),
            lifetime,
            scopes: answer.scope.unwrap_or_default(),
            user_type,
            location,
            company,
        })
    }
}

/// An id of the answer. One that cannot be an id counts as absent: the other may say enough.
fn id<T: FromStr>(what: &str, told: Option<&str>) -> Option<T> {
    let id = told.and_then(|told| told.parse().ok());
    if id.is_none() && told.is_some() {
        warn!(what, "GHL's answer to a code has an id that is none");
    }
    id
}

/// The code is spent and the tokens are in hand: a store that stumbles is tried again, here for a
/// moment and then from the journal.
async fn store_at_last(broker: &Broker, consent: &Consent) -> Result<InstallationId, Error> {
    let worker = &broker.0.worker;
    worker.keep_consent(consent).await;
    let mut pause = Duration::from_millis(50);
    for _ in 0..6 {
        match broker.0.writer.register_consent(consent).await {
            Ok(id) => {
                worker.forget_consent(consent).await;
                return Ok(id);
            }
            Err(
                WriteError::Unavailable(_)
                | WriteError::Contended(_)
                | WriteError::Refused(_)
                | WriteError::Unconfirmed(_),
            ) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(error) => return Err(error.into()),
        }
    }
    error!(
        "a consent was given while the store is away: it is stored as soon as the store is back"
    );
    Err(Error::unavailable("The installation is not stored yet")
        .with_hint("it is stored as soon as the store is back; nothing has to be done again"))
}

fn refused(failure: &Failure) -> Error {
    warn!(
        error = failure as &dyn std::error::Error,
        "a code was not exchanged"
    );
    let status = match failure {
        Failure::NotSent(_)
        | Failure::Lost(_)
        | Failure::Unreadable { .. }
        | Failure::Foreign { .. }
        | Failure::Unavailable { .. } => StatusCode::BAD_GATEWAY,
        Failure::LocationInactive | Failure::InvalidGrant(_) => StatusCode::BAD_REQUEST,
        Failure::ClientRejected(_) | Failure::BadRequest { .. } => StatusCode::BAD_GATEWAY,
    };
    Error::new(status, failure.to_string()).with_hint("start again at /oauth/install")
}

fn welcome(headers: &HeaderMap, connected: &Connected) -> Response {
    let Connected { id, enrolment } = connected;
    let location = enrolment.location.as_ref().map(ToString::to_string);
    let company = enrolment.company.as_ref().map(ToString::to_string);
    if page::is_wanted(headers) {
        let whose = location
            .as_deref()
            .or(company.as_deref())
            .unwrap_or_default();
        return page::render(
            StatusCode::OK,
            "Connected",
            &[
                Paragraph::Text("The app is installed, and its token stays fresh from now on."),
                Paragraph::Value("Installation", id.as_str()),
                Paragraph::Value(enrolment.user_type.as_str(), whose),
            ],
        );
    }
    Json(json!({
        "installationId": id.as_str(),
        "locationId": location,
        "companyId": company,
        "userType": enrolment.user_type.as_str(),
        "scopes": enrolment.scopes.split_whitespace().collect::<Vec<_>>(),
    }))
    .into_response()
}

fn refuse(headers: &HeaderMap, error: Error) -> Response {
    if !page::is_wanted(headers) {
        return error.into_response();
    }
    page::render(
        error.status,
        "Not connected",
        &[
            Paragraph::Text(&error.message),
            Paragraph::Link("/oauth/install", "Start again"),
        ],
    )
}

fn no_store(response: &mut Response) {
    let value = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, value);
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use store::{CompanyId, LocationId};

    use super::*;

    fn verify(body: &str) -> Result<Registration, Error> {
        Unverified {
            answer: Answer::parse(body.as_bytes()).unwrap(),
            asked_at: Timestamp::from_millis(1000),
        }
        .verify()
    }

    #[test]
    fn an_agencys_token_is_never_filed_under_a_location() {
        let agency = verify(
            r#"{"access_token":"a","refresh_token":"r","userType":"Company","companyId":"C","locationId":"L"}"#,
        );
        let agency = agency.unwrap();
        assert_eq!(agency.user_type, UserType::Company);
        assert_eq!(agency.location, None);
        let place = verify(
            r#"{"access_token":"a","refresh_token":"r","userType":"Location","companyId":"C","locationId":"L","expires_in":20}"#,
        );
        let place = place.unwrap();
        assert_eq!(place.location.unwrap().as_str(), "L");
        assert_eq!(place.expires_at, Some(Timestamp::from_millis(21_000)));
    }

    #[test]
    fn strange_fields_do_not_cost_a_consent() {
        let cases = [
            (r#""userType":"Robot","companyId":"C""#, "C"),
            (
                r#""userType":["Location"],"companyId":"C","locationId":7"#,
                "7",
            ),
            (
                r#""userType":"location","companyId":{},"locationId":"L""#,
                "L",
            ),
            (r#""companyId":12,"locationId":"a:b""#, "12"),
            (
                r#""locationId":"L","scope":["a"],"isBulkInstallation":"no","expires_in":1e300"#,
                "L",
            ),
        ];
        for (fields, name) in cases {
            let body = format!(r#"{{"access_token":"a","refresh_token":"r",{fields}}}"#);
            let enrolment = verify(&body).unwrap();
            let location = enrolment.location.map(String::from);
            let named = location.or(enrolment.company.map(String::from));
            assert_eq!(named.as_deref(), Some(name), "{fields}");
            let day = Timestamp::from_millis(1000) + Duration::from_secs(86_399);
            assert_eq!(enrolment.expires_at, Some(day), "{fields}");
        }
    }

    #[test]
    fn a_token_says_whose_it_is_where_the_answer_does_not() {
        let claims = |class: &str| {
            let claims = format!(r#"{{"authClass":"{class}","authClassId":"X"}}"#);
            format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
        };
        for (class, rest, location, company) in [
            ("Location", "", Some("X"), None),
            ("Company", "", None, Some("X")),
            ("Location", r#","companyId":"C""#, Some("X"), Some("C")),
            ("Location", r#","locationId":"L""#, Some("L"), None),
            (
                "Company",
                r#","userType":"Robot","locationId":"L","companyId":"C""#,
                None,
                Some("C"),
            ),
            (
                "Location",
                r#","userType":"Company","companyId":"C""#,
                None,
                Some("C"),
            ),
        ] {
            let token = claims(class);
            let body = format!(r#"{{"access_token":"{token}","refresh_token":"r"{rest}}}"#);
            let enrolment = verify(&body).unwrap();
            let named = enrolment.location.as_ref().map(LocationId::as_str);
            assert_eq!(named, location, "{class} {rest}");
            let named = enrolment.company.as_ref().map(CompanyId::as_str);
            assert_eq!(named, company, "{class} {rest}");
        }
    }

    #[test]
    fn an_answer_that_does_not_say_whose_it_is_is_refused() {
        for body in [
            r#"{"access_token":"a","refresh_token":"r"}"#,
            r#"{"access_token":"a","refresh_token":"r","userType":"Location","companyId":"C"}"#,
            r#"{"access_token":"a","refresh_token":"r","userType":"Robot"}"#,
            r#"{"access_token":"a","refresh_token":"r","locationId":"a:b"}"#,
            r#"{"access_token":"a","userType":"Location","locationId":"L"}"#,
        ] {
            assert_eq!(
                verify(body).unwrap_err().status,
                StatusCode::BAD_GATEWAY,
                "{body}"
            );
        }
    }
}
