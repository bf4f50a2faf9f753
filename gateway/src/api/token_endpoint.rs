//! `GET /v1/installations/{id}/token` serves an access token to a service that calls GHL directly.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use service::origin::OwnHosts;
use store::audit::Happened;
use store::{Generation, Timestamp};
use utoipa::ToSchema;

use super::error_response::respond;
use super::state::Api;
use crate::error::Error;
use crate::pipeline::Pipeline;
use crate::pipeline::token_requests::{Asking, refusal};
use crate::request::body::Examined;
use crate::request::caller::Permission;
use crate::request::query;
use crate::request::selector::{InstallationSelectors, Kind, SelectorSource};
use crate::token::sources::Token;

/// How old a token is at least before `min_ttl` replaces it. A quarter of its lifetime if that is shorter.
const FORCED_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Get the access token of an installation
///
/// For services that call GHL directly. The token is fresh: it can be used for as long as `expires_in` says.
#[utoipa::path(get, path = "/v1/installations/{id}/token", operation_id = "getToken", params(
    ("id" = String, Path, description = "The id of the installation, of its location or of its company"),
    ("min_ttl" = Option<String>, Query, description = "How long the token has to live, such as `10m`. A token that lives shorter \
        is refreshed first, at most once in 5 minutes"),
    ("refused" = Option<String>, Query, description = "The `generation` of a token that GHL answered with a 401. If it is \
        still the current one, it is refreshed first, at most once in 10 minutes"),
    ("X-Evergreen-App" = Option<String>, Header, description = "The app, if the location or company has several"),
    ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier response"),
), responses(
    (status = 200, description = "The token", body = Body, headers(
        ("ETag" = String, description = "The generation of the token"),
    )),
    (status = 304, description = "The token is still the one of the `ETag`"),
))]
pub(crate) async fn token(
    api: Arc<Api>,
    request: Request,
    own_hosts: &OwnHosts,
) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    let pipeline = &api.pipeline;
    let asking = pipeline.asking(&parts);
    let answered = serve(pipeline, &parts, own_hosts, asking).await;
    if let Some(why) = answered.as_ref().err().and_then(refusal) {
        pipeline.note_refusal(asking, why).await;
    }
    answered
}

async fn serve(
    pipeline: &Pipeline,
    parts: &Parts,
    own_hosts: &OwnHosts,
    asking: Asking,
) -> Result<Response, Error> {
    own_hosts.check(parts)?;
    let caller = pipeline.authenticate(parts, Permission::Tokens).await?;
    let name = named_in(parts.uri.path());
    let selectors = InstallationSelectors::single(SelectorSource::Path, Kind::Installation, &name)
        .with_app(&parts.headers);
    let no_body = Examined::default();
    let token = pipeline
        .token_for(parts, &caller, selectors, no_body)
        .await?;
    let min_ttl = min_ttl(parts.uri.query())?;
    let token = match refused(parts.uri.query())? {
        // A token that was replaced in the meantime needs no refresh.
        Some(refused) if refused == token.generation => {
            pipeline.replacing_refused(token, asking).await?
        }
        Some(_) | None => token,
    };
    let token = match min_ttl {
        Some(min_ttl) => pipeline.living_for(token, min_ttl, asking).await?,
        None => token,
    };
    let response = answer(&token, pipeline.tokens.now(), &parts.headers);
    // A 304 has no token.
    if response.status() == StatusCode::OK {
        pipeline.note_token(Happened::TokenFetched, &token, asking);
    }
    Ok(response)
}

impl Pipeline {
    /// The token, refreshed first if it expires in less than `min_ttl`.
    async fn living_for(
        &self,
        token: Arc<Token>,
        min_ttl: Duration,
        asking: Asking,
    ) -> Result<Arc<Token>, Error> {
        let Some(left) = token.left(self.tokens.now()) else {
            return Ok(token);
        };
        if left >= min_ttl {
            return Ok(token);
        }
        if min_ttl > token.lifetime {
            let lifetime = humantime::format_duration(token.lifetime);
            let message = format!("min_ttl is longer than the tokens live ({lifetime})");
            return Err(Error::MinTtl(message));
        }
        // A caller that asks again and again must not spend a refresh token each time.
        let age = token.lifetime.saturating_sub(left);
        if age < FORCED_INTERVAL.min(token.lifetime / 4) {
            return Ok(token);
        }
        // The fresh token may have slightly less than `min_ttl` left. A newer one cannot be had.
        let fresh = Box::pin(self.tokens.newer_than(&token, 0)).await;
        self.note_refresh(fresh.is_ok(), &token, asking);
        Ok(fresh?)
    }

    /// The token that follows one which GHL refused, or the same one if a refresh is of no use.
    async fn replacing_refused(
        &self,
        token: Arc<Token>,
        asking: Asking,
    ) -> Result<Arc<Token>, Error> {
        let Some(fresh) = self.newer_than_refused(&token).await else {
            return Ok(token);
        };
        self.note_refresh(fresh.is_ok(), &token, asking);
        Ok(fresh?)
    }

    fn note_refresh(&self, is_done: bool, token: &Token, asking: Asking) {
        let happened = match is_done {
            true => Happened::TokenRefreshed,
            false => Happened::RefreshFailed,
        };
        self.note_token(happened, token, asking);
    }

    fn note_token(&self, happened: Happened, token: &Token, asking: Asking) {
        let id = token.id.clone();
        self.audit.note(happened, asking.key, Some(id), asking.from);
    }
}

/// An access token, and what it is for.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
struct Body {
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    access_token: SecretString,
    /// `Bearer`
    #[schema(value_type = String)]
    token_type: &'static str,
    /// RFC 3339. Absent if the token never expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// Whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
    /// Each refresh counts it up.
    generation: String,
    installation_id: String,
    app: String,
    /// `Location` or `Company`.
    #[schema(value_type = String)]
    user_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    location_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    company_id: Option<String>,
    /// As GHL gave them, separated by spaces.
    scopes: String,
}

fn answer(token: &Token, now: Timestamp, asked: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", token.generation);
    let mut response = if is_known(asked, &tag) {
        let mut unchanged = Response::default();
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        let body = Body {
            access_token: token.secret(),
            token_type: "Bearer",
            expires_at: token.expires_at.map(|expires_at| expires_at.to_string()),
            expires_in: token.left(now).map(|left| left.as_secs()),
            generation: token.generation.to_string(),
            installation_id: token.id.to_string(),
            app: token.app.to_string(),
            user_type: token.user_type.as_str(),
            location_id: token.location.as_ref().map(ToString::to_string),
            company_id: token.company.as_ref().map(ToString::to_string),
            scopes: token.scopes.to_string(),
        };
        respond(StatusCode::OK, &body)
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    response
}

fn is_known(asked: &HeaderMap, tag: &str) -> bool {
    let known = asked.get(IF_NONE_MATCH).and_then(|it| it.to_str().ok());
    known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag))
}

fn min_ttl(query: Option<&str>) -> Result<Option<Duration>, Error> {
    let Some(text) = query::value(query, "min_ttl") else {
        return Ok(None);
    };
    let parsed = humantime::parse_duration(&text);
    parsed.map(Some).map_err(|reason| {
        let message = format!("min_ttl must be a duration with its unit, such as 10m: {reason}");
        Error::MinTtl(message)
    })
}

fn refused(query: Option<&str>) -> Result<Option<Generation>, Error> {
    let text = query::value(query, "refused");
    let parsed = text.map(|text| text.parse()).transpose();
    parsed.map_err(|_| Error::RefusedGeneration)
}

/// The last but one segment of the path, decoded.
fn named_in(path: &str) -> Cow<'_, str> {
    let segment = path.rsplit('/').nth(1).unwrap_or_default();
    percent_decode_str(segment).decode_utf8_lossy()
}

fn exposed<S: Serializer>(secret: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose_secret())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::token::sources::tests::token;

    const NOW: Timestamp = Timestamp::from_millis(86_400_000 - 60_500);

    #[tokio::test]
    async fn response_has_token_expiry_and_owner() {
        let response = answer(&token(), NOW, &HeaderMap::new());
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[ETAG], "\"1\"");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let expected = json!({
            "access_token": "secret",
            "token_type": "Bearer",
            "expires_at": "1970-01-02T00:00:00Z",
            "expires_in": 60,
            "generation": "1",
            "installation_id": "install_00112233445566778899aabb",
            "app": "default",
            "user_type": "Location",
            "location_id": "LOC1",
            "company_id": "COM1",
            "scopes": "",
        });
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
    }

    #[tokio::test]
    async fn matching_etag_gets_304_without_a_token() {
        let asked = |tags: &'static str| {
            HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(tags))])
        };
        let response = answer(&token(), NOW, &asked("\"0\", \"1\""));
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(response.headers()[ETAG], "\"1\"");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.is_empty());
        let response = answer(&token(), NOW, &asked("\"2\""));
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[test]
    fn min_ttl_requires_a_unit() {
        let parsed = |query| min_ttl(Some(query)).unwrap();
        assert_eq!(parsed("min_ttl=10m"), Some(Duration::from_secs(600)));
        assert_eq!(parsed("x=1"), None);
        assert!(matches!(min_ttl(Some("min_ttl=10")), Err(Error::MinTtl(_))));
    }

    #[test]
    fn refused_token_is_named_by_its_generation() {
        let parsed = |query| refused(Some(query)).unwrap();
        assert_eq!(parsed("refused=1"), Some(Generation::FIRST));
        assert_eq!((parsed("x=1"), parsed("refused=")), (None, None));
        for wrong in ["refused=x", "refused=-1"] {
            let error = refused(Some(wrong));
            assert!(matches!(error, Err(Error::RefusedGeneration)), "{wrong}");
        }
    }

    #[test]
    fn installation_is_read_from_the_path() {
        assert_eq!(named_in("/v1/installations/LOC1/token"), "LOC1");
        let of_customer = named_in("/v1/installations/org%2F7%3Ab/token");
        assert_eq!(of_customer, "org/7:b");
    }
}
