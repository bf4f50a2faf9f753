//! The JSON of rules, and the faults that they describe.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::oddity::Oddity;
use super::{Alteration, Call, Fault, FixedResponse};

const HTML: &str =
    "<html><head><title>Error</title></head><body><h1>The origin is unwell</h1></body></html>";

/// One rule. `on` and `kind` are required, and either `next` (the number of calls it applies to) or `share`
/// (the fraction of calls, 0 to 1, drawn with `seed`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    on: Endpoint,
    kind: Kind,
    /// For `status` and `echo`. From 400, the call is not processed. 200 needs a `body` that says what is wrong with the
    /// response.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// For `status`: `Retry-After` in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// For `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Body>,
    /// For `odd_answer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    oddity: Option<Oddity>,
    /// For the oddity `expires_in`: the value of that field.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// For `hang` and `slow_body`: the delay in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    /// Only calls of this location or company.
    #[serde(rename = "locationId", skip_serializing_if = "Option::is_none")]
    location_id: Option<String>,
    /// Only API calls whose path starts with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Only token calls of this `grant_type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<GrantType>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Endpoint {
    Token,
    Api,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GrantType {
    AuthorizationCode,
    RefreshToken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Status,
    /// An error that repeats the headers and the body of the call, secrets included.
    Echo,
    InvalidGrant,
    InvalidClient,
    LocationInactive,
    Hang,
    ResetBefore,
    ProcessThenLose,
    SlowBody,
    OddAnswer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Body {
    /// An HTML page, as from an edge proxy in front of GHL. The call is not processed, even with 200.
    Html,
    TruncatedJson,
    MissingFields,
    MissingRefreshToken,
}

impl Rule {
    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or_default()
    }

    pub(super) fn applies_to(&self, call: Call<'_>) -> bool {
        self.on == call.on
            && self.grant.is_none_or(|grant| Some(grant) == call.grant)
            && self.path.as_deref().is_none_or(|start| {
                let path = call.path;
                path.is_some_and(|path| path.starts_with(start))
            })
            && self
                .location_id
                .as_deref()
                .is_none_or(|location| Some(location) == call.subject)
    }

    /// The fault that the rule describes.
    ///
    /// # Errors
    /// The fault in the rule.
    pub(super) fn fault(&self) -> Result<Fault, String> {
        self.check_how_often()?;
        if self.grant.is_some() && self.on != Endpoint::Token {
            return Err("`grant` is for token calls".to_owned());
        }
        if self.path.is_some() && self.on != Endpoint::Api {
            return Err("`path` is for API calls".to_owned());
        }
        if self.status.is_some() && !matches!(self.kind, Kind::Status | Kind::Echo) {
            return Err("`status` is for kinds `status` and `echo`".to_owned());
        }
        let status_only = [
            ("retry_after", self.retry_after.is_some()),
            ("body", self.body.is_some()),
        ];
        if let Some((field, _)) = status_only.into_iter().find(|(_, set)| *set)
            && self.kind != Kind::Status
        {
            return Err(format!("`{field}` is for kind `status`"));
        }
        if self.oddity.is_some() && self.kind != Kind::OddAnswer {
            return Err("`oddity` is for kind `odd_answer`".to_owned());
        }
        if self.value.is_some() != (self.oddity == Some(Oddity::ExpiresIn)) {
            return Err("`value` goes with the oddity `expires_in`".to_owned());
        }
        if self.ms.is_some() && !matches!(self.kind, Kind::Hang | Kind::SlowBody) {
            return Err("`ms` is for kinds `hang` and `slow_body`".to_owned());
        }
        match self.kind {
            Kind::Status => self.status_fault(),
            Kind::Echo => self.echo_fault(),
            Kind::InvalidGrant => self.token_error(
                400,
                &json!({"statusCode": 400, "message": "Invalid grant: refresh token is invalid"}),
            ),
            Kind::InvalidClient => self.token_error(
                401,
                &json!({
                    "error": "UnAuthorized!",
                    "error_description": "Invalid client credentials!",
                }),
            ),
            Kind::LocationInactive => self.token_error(
                400,
                &json!({"statusCode": 400, "message": "Location is not active"}),
            ),
            Kind::Hang => self.duration().map(Fault::Hang),
            Kind::ResetBefore => Ok(Fault::ResetBefore),
            Kind::ProcessThenLose => Ok(Fault::ProcessThenLose),
            Kind::SlowBody => self.duration().map(Fault::SlowBody),
            Kind::OddAnswer => {
                let oddity = self.oddity.ok_or("needs `oddity`")?;
                let value = self.value.clone();
                self.token_only(Fault::Alter(Alteration::Odd { oddity, value }))
            }
        }
    }

    fn check_how_often(&self) -> Result<(), String> {
        if self.next.is_some() == self.share.is_some() {
            return Err("needs either `next` or `share`".to_owned());
        }
        if self
            .share
            .is_some_and(|share| !(0.0..=1.0).contains(&share))
        {
            return Err("`share` must be from 0 to 1".to_owned());
        }
        if self.seed.is_some() && self.share.is_none() {
            return Err("`seed` goes with `share`".to_owned());
        }
        Ok(())
    }

    fn duration(&self) -> Result<Duration, String> {
        let ms = self.ms.ok_or("needs `ms`")?;
        Ok(Duration::from_millis(ms))
    }

    fn echo_fault(&self) -> Result<Fault, String> {
        let status = self.status.ok_or("needs `status`")?;
        let status = StatusCode::from_u16(status).ok();
        let error = status.filter(|it| it.is_client_error() || it.is_server_error());
        error
            .map(Fault::Echo)
            .ok_or_else(|| "`status` must be from 400 to 599".to_owned())
    }

    fn status_fault(&self) -> Result<Fault, String> {
        let status = self.status.ok_or("needs `status`")?;
        if status != 200 && !(400..=599).contains(&status) {
            return Err("`status` must be 200, or from 400 to 599".to_owned());
        }
        let alteration = match (self.body, status) {
            (None, 200) => return Err("status 200 needs a `body` that is wrong".to_owned()),
            (Some(Body::TruncatedJson), 200) => Alteration::Truncate,
            (Some(Body::MissingFields), 200) => self.token_only(Alteration::OnlyTokens)?,
            (Some(Body::MissingRefreshToken), 200) => {
                self.token_only(Alteration::WithoutRefreshToken)?
            }
            (Some(Body::MissingFields | Body::MissingRefreshToken), _) => {
                return Err("this `body` goes with status 200".to_owned());
            }
            (Some(Body::Html), _) => {
                return Ok(self.canned(status, "text/html; charset=utf-8", HTML.into()));
            }
            (None, _) => return Ok(self.canned(status, JSON, error_body(status))),
            (Some(Body::TruncatedJson), _) => {
                let body = error_body(status);
                return Ok(self.canned(status, JSON, body.slice(..body.len() / 2)));
            }
        };
        Ok(Fault::Alter(alteration))
    }

    fn token_only<T>(&self, value: T) -> Result<T, String> {
        match self.on {
            Endpoint::Token => Ok(value),
            Endpoint::Api => Err("this is for token calls".to_owned()),
        }
    }

    fn token_error(&self, status: u16, body: &serde_json::Value) -> Result<Fault, String> {
        self.token_only(self.canned(status, JSON, body.to_string().into()))
    }

    fn canned(&self, status: u16, content_type: &'static str, body: Bytes) -> Fault {
        Fault::Respond(FixedResponse {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            content_type,
            retry_after_s: self.retry_after,
            body,
        })
    }
}

const JSON: &str = "application/json; charset=utf-8";

fn error_body(status: u16) -> Bytes {
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unknown");
    json!({"statusCode": status, "message": reason})
        .to_string()
        .into()
}
