//! GHL's endpoints for agencies: the locations with the app, and a token for one of them.
//!
//! Both are called with the access token of the agency. Neither spends anything that is valid once, so any call may be
//! repeated. GHL has two spellings of each endpoint. `Version: 2021-07-28` of these calls selects the older one, and the
//! answers of both are read.

mod list;

use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;
use tracing::Instrument;
use url::Url;

pub use list::{LocationPage, PAGE_SIZE};

use crate::api::{DEFAULT_VERSION, Unauthorized};
use crate::client_span::{client_span, record};
use crate::failure::{ErrorBody, parse_retry_after};
use crate::scrub::scrub;
use crate::token_endpoint::{self, Config};
use crate::token_response::TokenResponse;

/// The scope of the endpoint that gives tokens of locations.
pub const MINT_SCOPE: &str = "oauth.write";
/// The scope of the endpoint that lists locations.
pub const LIST_SCOPE: &str = "oauth.readonly";

/// Why GHL gave no token of a location, or no list. The text comes from GHL, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgencyFailure {
    /// No complete answer arrived, or one that says nothing about the location.
    #[error("GHL gave no answer that can be used: {0}")]
    Unavailable(String),
    /// The limit of the agency is used up.
    #[error("GHL's rate limit of the agency is used up")]
    RateLimited(Option<Duration>),
    /// The access token of the agency has expired, or the agency has uninstalled the app.
    #[error("GHL refused the agency's access token: {0}")]
    TokenRefused(String),
    /// The agency has not granted a scope that the call needs.
    #[error(
        "the agency has not granted the scope {scope}: add it to GHL_SCOPES and let the agency connect again at /oauth/install"
    )]
    ScopeMissing {
        /// The scope.
        scope: &'static str,
    },
    /// The location is not one of the agency's, or the app is not installed there.
    #[error("GHL gives no token for this location: {0}")]
    NotInstalled(String),
    /// The location is unpaid or paused.
    #[error("the location is not active at GHL")]
    LocationInactive,
    /// The answer cannot be read.
    #[error("GHL's answer cannot be read: {0}")]
    Unreadable(String),
}

/// The client of these endpoints. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AgencyApi {
    /// `None` in a simulation.
    http: Option<reqwest::Client>,
    base: Url,
    timeout: Duration,
}

impl AgencyApi {
    /// A client for the API at `base`, with the settings of the token endpoint.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(base: Url, config: &Config) -> Result<Self, reqwest::Error> {
        Ok(Self {
            http: Some(token_endpoint::http_client(config)?),
            ..Self::disconnected(base, config)
        })
    }

    /// A client that reaches nothing, for a simulation.
    #[must_use]
    pub fn disconnected(base: Url, config: &Config) -> Self {
        Self {
            http: None,
            base,
            timeout: config.timeout,
        }
    }

    fn http(&self) -> Result<&reqwest::Client, AgencyFailure> {
        let http = self.http.as_ref();
        http.ok_or_else(|| AgencyFailure::Unavailable("there is no network".to_owned()))
    }

    /// A token for a location, `POST /oauth/locationToken`. It needs [`MINT_SCOPE`].
    ///
    /// # Errors
    /// See [`AgencyFailure`].
    pub async fn location_token(
        &self,
        token: &SecretString,
        company: &str,
        location: &str,
    ) -> Result<TokenResponse, AgencyFailure> {
        let form = [("companyId", company), ("locationId", location)];
        let request = self
            .http()?
            .post(self.url("oauth/locationToken"))
            .form(&form);
        let body = self.send(request, token, MINT_SCOPE).await?;
        TokenResponse::parse(&body).map_err(|error| AgencyFailure::Unreadable(error.to_string()))
    }

    /// A page of the locations of a company with an app, which its id at GHL names: `GET /oauth/installedLocations`. `from`
    /// counts the locations before it. It needs [`LIST_SCOPE`].
    ///
    /// # Errors
    /// See [`AgencyFailure`].
    pub async fn installed_locations(
        &self,
        token: &SecretString,
        (company, app_id): (&str, &str),
        from: usize,
    ) -> Result<LocationPage, AgencyFailure> {
        let mut url = self.url("oauth/installedLocations");
        url.query_pairs_mut()
            .append_pair("companyId", company)
            .append_pair("appId", app_id)
            .append_pair("isInstalled", "true")
            .append_pair("skip", &from.to_string())
            .append_pair("limit", &PAGE_SIZE.to_string());
        let body = self.send(self.http()?.get(url), token, LIST_SCOPE).await?;
        LocationPage::parse(&body).map_err(AgencyFailure::Unreadable)
    }

    /// Removes an app from a location, or from a company and all its locations: `DELETE /marketplace/app/{appId}/installations`.
    /// `owner`: `locationId` or `companyId`, and the id. The token is the owner's, and needs [`MINT_SCOPE`].
    ///
    /// # Errors
    /// See [`AgencyFailure`].
    pub async fn uninstall(
        &self,
        token: &SecretString,
        app_id: &str,
        (kind, id): (&str, &str),
        reason: &str,
    ) -> Result<(), AgencyFailure> {
        let url = self.url(&format!("marketplace/app/{app_id}/installations"));
        let body = serde_json::json!({ kind: id, "reason": reason });
        let request = self.http()?.delete(url).json(&body);
        self.send(request, token, MINT_SCOPE).await.map(|_| ())
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!(
            "{}/{path}",
            self.base.path().trim_end_matches('/')
        ));
        url
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        token: &SecretString,
        scope: &'static str,
    ) -> Result<Vec<u8>, AgencyFailure> {
        let request = request
            .bearer_auth(token.expose_secret())
            .header("Version", DEFAULT_VERSION)
            .header(ACCEPT, "application/json");
        let (http, request) = request.build_split();
        let request = request.map_err(unavailable)?;
        let span = client_span(request.method(), request.url());
        let exchange = async {
            let response = http.execute(request).await.map_err(unavailable)?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = token_endpoint::read(response).await;
            let body = body.map_err(|failure| AgencyFailure::Unavailable(failure.to_string()))?;
            Ok((status, headers, body))
        };
        let answer = timeout(self.timeout, exchange.instrument(span.clone()))
            .await
            .unwrap_or_else(|_| Err(AgencyFailure::Unavailable("it takes too long".to_owned())));
        let status = answer.as_ref().map(|(status, ..)| *status);
        record(&span, status.map_err(|_| "no_answer"));
        let (status, headers, body) = answer?;
        if status.is_success() {
            return Ok(body);
        }
        let retry_after = headers.get(RETRY_AFTER).and_then(|it| it.to_str().ok());
        Err(AgencyFailure::of(status, retry_after, &body, token, scope))
    }
}

impl AgencyFailure {
    fn of(
        status: StatusCode,
        retry_after: Option<&str>,
        body: &[u8],
        token: &SecretString,
        scope: &'static str,
    ) -> Self {
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Self::RateLimited(retry_after.and_then(parse_retry_after));
        }
        if status.is_server_error() {
            return Self::Unavailable(status.to_string());
        }
        let parsed = ErrorBody::parse(body);
        let message = scrub(&parsed.message, [token].into_iter());
        let message: String = message.chars().take(ErrorBody::MAX_CHARS).collect();
        let lower = parsed.message.to_ascii_lowercase();
        let has = |part: &str| lower.contains(part);
        if has("location is not active") || has("location is inactive") {
            Self::LocationInactive
        } else if has("not authorized for this scope") {
            Self::ScopeMissing { scope }
        } else if status == StatusCode::UNAUTHORIZED
            && Unauthorized::classify(body) == Unauthorized::Expired
        {
            Self::TokenRefused(message)
        } else if parsed.is_ghls
            && matches!(
                status,
                StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND
            )
        {
            Self::NotInstalled(format!("{status}, {message}"))
        } else {
            // For example a page of GHL's edge. It says nothing about the location.
            Self::Unavailable(format!("{status}, {message}"))
        }
    }
}

fn unavailable(error: reqwest::Error) -> AgencyFailure {
    // The URL adds nothing to the error.
    let error = error.without_url();
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    AgencyFailure::Unavailable(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(status: u16, message: &str) -> AgencyFailure {
        let body = serde_json::json!({ "statusCode": status, "message": message });
        let status = StatusCode::from_u16(status).unwrap();
        let token = SecretString::from("the-secret-token");
        AgencyFailure::of(
            status,
            Some("7"),
            body.to_string().as_bytes(),
            &token,
            MINT_SCOPE,
        )
    }

    #[test]
    fn each_answer_of_ghl_has_its_failure() {
        use AgencyFailure::*;
        let scope = ScopeMissing { scope: MINT_SCOPE };
        for (status, message, expected) in [
            (
                429,
                "Too Many Requests",
                RateLimited(Some(Duration::from_secs(7))),
            ),
            (502, "", Unavailable("502 Bad Gateway".to_owned())),
            (401, "Invalid JWT", TokenRefused("Invalid JWT".to_owned())),
            (401, "The token is not authorized for this scope.", scope),
            (400, "Location is not active", LocationInactive),
            (
                400,
                "Location not found",
                NotInstalled("400 Bad Request, Location not found".to_owned()),
            ),
            (
                403,
                "no the-secret-token",
                NotInstalled("403 Forbidden, no [removed]".to_owned()),
            ),
        ] {
            assert_eq!(classify(status, message), expected);
        }
    }

    #[test]
    fn answers_that_say_nothing_about_the_location_are_no_refusals() {
        let of = |status, body: &str| {
            let token = SecretString::from("the-secret-token");
            AgencyFailure::of(status, None, body.as_bytes(), &token, MINT_SCOPE)
        };
        let unusable = |failure| matches!(failure, AgencyFailure::Unavailable(_));
        assert!(unusable(of(
            StatusCode::FORBIDDEN,
            "<html>Error 1010</html>"
        )));
        assert!(unusable(of(StatusCode::UNPROCESSABLE_ENTITY, "{}")));
        // A newer token of the agency would not help.
        let class = r#"{"message":"This authClass type is not allowed to access this scope"}"#;
        assert!(unusable(of(StatusCode::UNAUTHORIZED, class)));
    }
}
