//! Private parsers for `tests/properties`, with plain types.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode, Uri};
use store::{
    AccessRecord, AppName, CompanyId, Generation, InstallationId, LocationId, Status, Timestamp,
    UserType,
};
use url::Url;

use crate::admission::limits::RateLimits;
use crate::admission::rate_limit_headers::RateLimitHeaders;
use crate::metrics::Queued;
use crate::request::body_fields::BodyFields;
use crate::request::selector::{Call, InstallationSelectors, Kind};
use crate::request::{content_coding, json, multipart, path, query};
use crate::token::sources::Token;
use crate::upstream::base_url::Base;

/// See `query::value`.
#[must_use]
pub fn query_value(query: &str, name: &str) -> Option<String> {
    query::value(Some(query), name).map(Cow::into_owned)
}

/// See `query::without_installation`.
#[must_use]
pub fn query_without_installation(query: &str) -> String {
    query::without_installation(query).into_owned()
}

/// See `path::checked`.
#[must_use]
pub fn is_safe_path(path: &str) -> bool {
    path::checked(path).is_ok()
}

/// See `path::gives_tokens`.
#[must_use]
pub fn gives_tokens(path: &str) -> bool {
    path::gives_tokens(path)
}

/// The parts of a request that can name an installation.
#[derive(Debug)]
pub struct Request<'r> {
    /// All headers.
    pub headers: &'r HeaderMap,
    /// The query, without `?`.
    pub query: Option<&'r str>,
    /// Of the call.
    pub method: &'r Method,
    /// GHL's path.
    pub path: Option<&'r str>,
    /// The body, empty if there is none. It is JSON if the headers do not say what it is.
    pub body: &'r [u8],
}

/// The owner of a token.
#[derive(Debug)]
pub struct Owner {
    /// The installation.
    pub id: InstallationId,
    /// The kind of token.
    pub user_type: UserType,
    /// The location, if known.
    pub location: Option<LocationId>,
    /// The company, if known.
    pub company: Option<CompanyId>,
}

/// The kinds of things that a selector can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// An installation, by its id, its location or its company.
    Installation,
    /// A location.
    Location,
    /// A company.
    Company,
}

/// One selector: where it was found, what it names, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// In words.
    pub source: &'static str,
    /// The kind of its name.
    pub names: Names,
    /// The value.
    pub value: String,
}

impl Request<'_> {
    fn parse(&self) -> InstallationSelectors<'_> {
        let method = self.method;
        let call = self.path.map(|path| Call { method, path });
        let body = if self.headers.contains_key(CONTENT_TYPE) {
            BodyFields::of(self.headers, self.body.into())
        } else {
            BodyFields::Json(self.body.into())
        };
        InstallationSelectors::of(self.headers, self.query, call).with_body(&body)
    }

    /// The selectors in order of precedence.
    #[must_use]
    pub fn selectors(&self) -> Vec<Selector> {
        let parsed = self.parse();
        let selectors = parsed.iter().map(|selector| Selector {
            source: selector.source.as_str(),
            names: match selector.kind {
                Kind::Installation => Names::Installation,
                Kind::Location => Names::Location,
                Kind::Company => Names::Company,
            },
            value: selector.value.to_string(),
        });
        selectors.collect()
    }

    /// Whether all selectors agree, once the first one selected this owner's token. `None` without selectors.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn agrees_on(&self, owner: Owner) -> Option<Result<(), String>> {
        let parsed = self.parse();
        let chosen = parsed.iter().next()?;
        let agreed = parsed.agree_on(&token(owner), chosen);
        Some(agreed.map_err(|contradiction| contradiction.to_string()))
    }
}

fn token(owner: Owner) -> Token {
    let record = AccessRecord {
        token: "token".into(),
        expires_at: None,
        lifetime: Duration::ZERO,
        generation: Generation::FIRST,
        status: Status::Active,
        app: AppName::default(),
        location: owner.location,
        company: owner.company,
        parent: None,
        user_type: owner.user_type,
        scopes: String::new(),
    };
    let limits = RateLimits::new(Queued::new());
    Token::new(&owner.id, record, Timestamp::from_millis(0), &limits).expect("a header's text")
}

/// The field `name` of a multipart form. See `multipart::texts`.
#[must_use]
pub fn multipart_text(body: &[u8], content_type: &str, name: &str) -> Option<String> {
    let [text] = multipart::texts(body, content_type, [name]);
    text.map(Cow::into_owned)
}

/// `locationId` and `companyId` in a body of this `Content-Type`, or in its beginning.
#[must_use]
pub fn body_texts(
    content_type: &http::HeaderValue,
    body: &[u8],
    is_whole: bool,
) -> [Option<String>; 2] {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.clone())]);
    let fields = match is_whole {
        true => BodyFields::of(&headers, body.into()),
        false => BodyFields::of_beginning(&headers, body),
    };
    fields.texts(["locationId", "companyId"])
}

/// See `content_coding::gunzip`.
#[must_use]
pub fn gunzip(body: &[u8], limit: usize) -> Option<Vec<u8>> {
    content_coding::gunzip(body, limit).ok()
}

/// The raw values of `locationId` and `companyId` in a body. `None` if it is not an object.
#[must_use]
pub fn json_members(body: &[u8]) -> Option<[Option<String>; 2]> {
    let members = json::members(body, ["locationId", "companyId"]).ok()?;
    Some(members.map(|raw| raw.map(|raw| raw.get().to_owned())))
}

/// See `json::with_defaults`.
#[must_use]
pub fn json_with_location(body: &[u8], location: &str) -> Option<Bytes> {
    json::with_defaults(&Bytes::copy_from_slice(body), [("locationId", location)]).ok()
}

/// The base URL's scheme and authority, and the URI below it. `None` if one of them is refused.
#[must_use]
pub fn upstream_uri(
    base: &Url,
    path: &str,
    query: Option<&str>,
    location: Option<&str>,
) -> Option<(String, Uri)> {
    let base = Base::new(base).ok()?;
    let uri = base.uri(path, query, location).ok()?;
    let origin = format!("{}://{}", base.origin.scheme, base.origin.authority);
    Some((origin, uri))
}

/// GHL's rate limit headers: see `RateLimitHeaders`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportedLimits {
    /// Requests per interval.
    pub max: Option<u32>,
    /// The length of the interval.
    pub interval: Option<Duration>,
    /// The remaining requests of the interval.
    pub remaining: Option<u32>,
    /// The remaining requests of the day.
    pub remaining_today: Option<u32>,
    /// The pause that GHL asks for.
    pub retry_after: Option<Duration>,
}

/// See `RateLimitHeaders::by`.
#[must_use]
pub fn rate_limits(status: StatusCode, headers: &HeaderMap) -> ReportedLimits {
    let read = RateLimitHeaders::by(status, headers);
    ReportedLimits {
        max: read.max,
        interval: read.interval,
        remaining: read.remaining,
        remaining_today: read.remaining_today,
        retry_after: read.retry_after,
    }
}
