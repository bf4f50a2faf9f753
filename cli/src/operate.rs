//! Calls the administration API of a running broker.

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use service::config::{Settings, is_loopback};
use service::tls::{self, Authorities, ClientIdentity};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::admin_key;
use crate::exit::Failure;
use crate::output::complain;
use crate::settings::data_dir;

/// How long a broker or its store may be away in the middle of a long command.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a request of a long command may take. Each of its refreshes may wait for another attempt.
const LONG_TIMEOUT: Duration = Duration::from_secs(120);

/// A client of the internal listener of `evergreen up` or `evergreen broker`.
pub(crate) struct Admin {
    base: Url,
    key: Option<SecretString>,
    http: reqwest::Client,
}

/// The settings of [`Admin`].
pub(crate) struct AdminConfig {
    base: Url,
    key: Option<SecretString>,
    /// `None` if the URL is not https.
    tls: Option<rustls::ClientConfig>,
}

impl Admin {
    /// The key is from the settings, or else from the data directory of the process on this machine.
    pub(crate) fn read(settings: &mut Settings<'_>) -> AdminConfig {
        let url = settings.url_for_secrets("EVERGREEN_ADMIN_URL", "http://127.0.0.1:9080");
        let given = settings.secret("EVERGREEN_ADMIN_KEY");
        let local = || {
            // The local key is for this machine alone.
            let is_here = is_loopback(&url).then(|| data_dir(settings));
            is_here.and_then(|data_dir| admin_key::find(&data_dir))
        };
        let key = given.or_else(local);
        let tls = (url.scheme() == "https").then(|| tls(settings)).flatten();
        AdminConfig {
            base: url,
            key,
            tls,
        }
    }

    pub(crate) fn new(AdminConfig { base, key, tls }: AdminConfig) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            // A proxy would see the key.
            .no_proxy();
        let http = match tls {
            Some(tls) => http.tls_backend_preconfigured(tls),
            None => http,
        };
        let http = http.build().map_err(Failure::unavailable)?;
        Ok(Self { base, key, http })
    }

    /// The response, an object that has at least this member.
    pub(crate) async fn get(&self, path: &str, member: &str) -> Result<Value, Failure> {
        self.object(self.http.get(self.url(path)), member).await
    }

    /// Like [`get`](Self::get).
    pub(crate) async fn post(
        &self,
        path: &str,
        body: Option<&Value>,
        member: &str,
    ) -> Result<Value, Failure> {
        let request = self.http.post(self.url(path));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.object(request, member).await
    }

    /// Like [`post`](Self::post), of a JSON text that may be sent several times: it is sent again while the broker or its
    /// store is away, for a minute.
    pub(crate) async fn post_patiently(
        &self,
        path: &str,
        body: &str,
        member: &str,
    ) -> Result<Value, Failure> {
        let started = Instant::now();
        let mut has_said = false;
        loop {
            let request = self.http.post(self.url(path)).timeout(LONG_TIMEOUT);
            let request = request.header(CONTENT_TYPE, "application/json");
            let response = self.exchange(request.body(body.to_owned())).await;
            let is_away = match &response {
                Ok((status, _, _)) => *status == StatusCode::SERVICE_UNAVAILABLE,
                Err(_) => true,
            };
            if !is_away || started.elapsed() >= PATIENCE {
                let (status, _, text) = response?;
                return self.member(self.judge(status, &text)?, member);
            }
            if !std::mem::replace(&mut has_said, true) {
                complain("the broker or its store is away, trying again for a minute");
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// The headers and the text of a success of this content type.
    pub(crate) async fn get_text(
        &self,
        path: &str,
        content_type: &str,
    ) -> Result<(HeaderMap, String), Failure> {
        let (status, headers, text) = self.exchange(self.http.get(self.url(path))).await?;
        if !status.is_success() {
            self.judge(status, &text)?;
        }
        match headers.get(CONTENT_TYPE) {
            Some(found) if found == content_type => Ok((headers, text)),
            Some(_) | None => Err(self.stranger(status)),
        }
    }

    /// Like [`get`](Self::get).
    pub(crate) async fn put(
        &self,
        path: &str,
        body: &Value,
        member: &str,
    ) -> Result<Value, Failure> {
        let request = self.http.put(self.url(path)).json(body);
        self.object(request, member).await
    }

    /// Like [`get`](Self::get).
    pub(crate) async fn patch(
        &self,
        path: &str,
        body: &Value,
        member: &str,
    ) -> Result<Value, Failure> {
        let request = self.http.patch(self.url(path)).json(body);
        self.object(request, member).await
    }

    /// Deletes, and returns the object that describes the deletion. Like [`get`](Self::get).
    pub(crate) async fn delete_shown(&self, path: &str, member: &str) -> Result<Value, Failure> {
        self.object(self.http.delete(self.url(path)), member).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        match self.send(self.http.delete(self.url(path))).await? {
            (StatusCode::NO_CONTENT, _) => Ok(()),
            (status, _) => Err(self.stranger(status)),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }

    /// The address of the server that is asked. The settings refuse one with a user or a password.
    fn shown(&self) -> String {
        let base = self.base.as_str().trim_end_matches('/');
        format!("{base} (EVERGREEN_ADMIN_URL)")
    }

    async fn object(&self, request: RequestBuilder, member: &str) -> Result<Value, Failure> {
        self.member(self.send(request).await?, member)
    }

    fn member(&self, answer: (StatusCode, Value), member: &str) -> Result<Value, Failure> {
        match answer {
            (_, body) if has(&body, member) => Ok(body),
            (status, _) => Err(self.stranger(status)),
        }
    }

    /// Portals and wrong ports respond with a page and the status of a success.
    fn stranger(&self, status: StatusCode) -> Failure {
        Failure::Refused(format!(
            "{} responds with {status}, but is not evergreen's internal listener. EVERGREEN_ADMIN_URL must name the \
             one of `evergreen up` or `evergreen broker`",
            self.shown()
        ))
    }

    /// The status of a success, and its body. The body is `null` if it is not JSON.
    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Value), Failure> {
        let (status, _, text) = self.exchange(request).await?;
        self.judge(status, &text)
    }

    async fn exchange(
        &self,
        mut request: RequestBuilder,
    ) -> Result<(StatusCode, HeaderMap, String), Failure> {
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let response = request.send().await.map_err(|error| {
            Failure::NoAnswer(format!(
                "no broker responds at {}: {}. Is it running? EVERGREEN_ADMIN_URL names the \
                 internal listener of `evergreen up` or `evergreen broker`, and begins with https:// if it has TLS",
                self.shown(),
                crate::exit::chain(&error.without_url())
            ))
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.map_err(|error| {
            let why = crate::exit::chain(&error.without_url());
            Failure::NoAnswer(format!(
                "{} has not finished its answer: {why}",
                self.shown()
            ))
        })?;
        Ok((status, headers, text))
    }

    fn judge(&self, status: StatusCode, text: &str) -> Result<(StatusCode, Value), Failure> {
        let body: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok((status, body));
        }
        let Some(message) = body["message"].as_str() else {
            return Err(self.stranger(status));
        };
        if status == StatusCode::UNAUTHORIZED && self.key.is_none() {
            return Err(Failure::Refused(format!(
                "{status}: no administrator's key was found. Set EVERGREEN_DATA_DIR to the data directory of the process \
                 on this machine, or EVERGREEN_ADMIN_KEY to a key with the scope admin.\nThis was refused by {}",
                self.shown()
            )));
        }
        let hint = body["hint"].as_str().map(|hint| format!(" ({hint})"));
        Err(Failure::Refused(format!(
            "{status}: {message}{}\nThis was refused by {}",
            hint.unwrap_or_default(),
            self.shown()
        )))
    }
}

fn tls(settings: &mut Settings<'_>) -> Option<rustls::ClientConfig> {
    let authorities = Authorities::read(settings);
    let identity = ClientIdentity::read(settings);
    tls::connections(&authorities, identity.as_ref())
        .map_err(|reason| {
            let message = format!("is https, but TLS cannot work: {reason}");
            settings.mistake("EVERGREEN_ADMIN_URL", message);
        })
        .ok()
}

/// Whether an answer has this member in the shape that evergreen gives it. Another server may have one of the same name.
fn has(body: &Value, name: &str) -> bool {
    let Some(value) = body.get(name) else {
        return false;
    };
    match name {
        "apps" | "deadLetters" | "endpoints" | "entries" | "events" | "installations" | "keys"
        | "queued" | "results" | "rings" => value.is_array(),
        "filter" | "installationId" | "key" | "path" | "url" => {
            value.as_str().is_some_and(|text| !text.is_empty())
        }
        "delivered" => value.is_boolean(),
        // It is `null` if a newer token was there already.
        "generation" => value.is_null() || value.is_string(),
        "rotation" => value.is_null() || value.is_object(),
        _ => !value.is_null(),
    }
}

/// The members of an array.
pub(crate) fn array<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn member_counts_only_in_the_shape_that_evergreen_gives_it() {
        for (body, name, expected) in [
            (json!({ "keys": [] }), "keys", true),
            (json!({ "keys": {} }), "keys", false),
            (json!({ "keys": null }), "keys", false),
            (json!({ "key": "evg_1" }), "key", true),
            (json!({ "key": "" }), "key", false),
            (json!({ "key": null }), "key", false),
            (json!({ "key": 7 }), "key", false),
            (json!({ "generation": null }), "generation", true),
            (json!({ "generation": [] }), "generation", false),
            (json!({ "rotation": null }), "rotation", true),
            (json!({ "delivered": "no" }), "delivered", false),
            (json!({ "another": 1 }), "another", true),
            (json!({ "another": null }), "another", false),
            (json!({}), "keys", false),
            (Value::Null, "keys", false),
            (json!("keys"), "keys", false),
        ] {
            assert_eq!(has(&body, name), expected, "{body} {name}");
        }
    }
}
