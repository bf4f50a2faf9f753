//! A sandbox on a free port, and a client for it.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use sandbox::Config;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use url::Url;

/// The scopes that the tests need. Other tests list their own.
pub(crate) const SCOPE: &str = "products.readonly products.write contacts.readonly contacts.write \
    medias.readonly medias.write locations.readonly companies.readonly opportunities.readonly \
    opportunities.write oauth.readonly oauth.write";

pub(crate) const REDIRECT: &str = "http://127.0.0.1:9/callback?keep=1";

pub(crate) struct Sandbox {
    pub(crate) base: String,
    pub(crate) client: Client,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

/// The tokens of one installation.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Sandbox {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(sandbox::serve(listener, config, shutdown));
        Self {
            base,
            client: client(),
            stop: Some(stop),
            task,
        }
    }

    /// Stops it and waits for its end.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap().unwrap();
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    pub(crate) fn put(&self, path: &str) -> RequestBuilder {
        self.request(Method::PUT, path)
    }

    /// An API call with a bearer token and the usual version.
    pub(crate) fn call(&self, method: Method, path: &str, access: &str) -> RequestBuilder {
        self.request(method, path)
            .bearer_auth(access)
            .header("Version", "2021-07-28")
    }

    /// Consents without a browser. Returns the URL of the redirect.
    pub(crate) async fn consent(&self, choice: &[(&str, &str)]) -> Url {
        // The fields of the form come before those of the query.
        let response = self
            .post("/v2/oauth/chooselocation")
            .query(&consent_query())
            .form(choice)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::FOUND);
        let location = response.headers()["location"].to_str().unwrap();
        Url::parse(location).unwrap()
    }

    pub(crate) async fn code(&self, choice: &[(&str, &str)]) -> String {
        parameter(&self.consent(choice).await, "code").unwrap()
    }

    /// An installation with these scopes only.
    pub(crate) async fn install_with_scope(&self, choice: (&str, &str), scope: &str) -> Tokens {
        let mut fields = consent_query().to_vec();
        fields.retain(|(name, _)| *name != "scope");
        fields.extend([("scope", scope), choice]);
        let response = send(self.post("/oauth/chooselocation").form(&fields)).await;
        let location = response.headers()["location"].to_str().unwrap();
        let code = parameter(&Url::parse(location).unwrap(), "code").unwrap();
        tokens(self.exchange(&code).await)
    }

    pub(crate) async fn install(&self, location: &str) -> Tokens {
        let code = self.code(&[("locationId", location)]).await;
        tokens(self.exchange(&code).await)
    }

    pub(crate) async fn install_agency(&self, company: &str) -> Tokens {
        let code = self.code(&[("companyId", company)]).await;
        tokens(self.exchange(&code).await)
    }

    /// An agency's consent with these further fields.
    pub(crate) async fn install_bulk(&self, company: &str, fields: &[(&str, &str)]) -> Tokens {
        let choice = [&[("companyId", company)], fields].concat();
        let code = self.code(&choice).await;
        tokens(self.exchange(&code).await)
    }

    /// A call of `locationToken`.
    pub(crate) fn mint(&self, agency: &str, company: &str, location: &str) -> RequestBuilder {
        self.call(Method::POST, "/oauth/locationToken", agency)
            .form(&[("companyId", company), ("locationId", location)])
    }

    /// `installedLocations` with further parameters.
    pub(crate) async fn installed(&self, agency: &str, company: &str, query: &str) -> Value {
        let path = format!("/oauth/installedLocations?companyId={company}&appId=sandbox{query}");
        let (status, body) = answer(self.call(Method::GET, &path, agency)).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    pub(crate) async fn exchange(&self, code: &str) -> Value {
        let (status, body) = answer(self.token(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT),
        ]))
        .await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// A call of the token endpoint with the correct client credentials.
    pub(crate) fn token(&self, fields: &[(&str, &str)]) -> RequestBuilder {
        let pair = [
            ("client_id", "sandbox-client"),
            ("client_secret", "sandbox-secret"),
        ];
        let fields: Vec<_> = pair.iter().chain(fields).collect();
        self.post("/oauth/token").form(&fields)
    }

    pub(crate) fn refresh_request(&self, refresh: &str) -> RequestBuilder {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh)])
    }

    pub(crate) async fn refresh(&self, refresh: &str) -> (StatusCode, Value) {
        answer(self.refresh_request(refresh)).await
    }

    /// Calls the control API. `path` is below `/_sandbox/`.
    pub(crate) async fn control(&self, path: &str, body: Value) -> Value {
        let (status, answer) = answer(self.post(&format!("/_sandbox/{path}")).json(&body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub(crate) async fn set(&self, settings: Value) {
        let (status, body) = answer(self.put("/_sandbox/settings").json(&settings)).await;
        assert_eq!(status, 200, "{body}");
    }

    pub(crate) async fn faults(&self, rules: Value) {
        let (status, body) = answer(self.put("/_sandbox/faults").json(&rules)).await;
        assert_eq!(status, 200, "{body}");
    }

    pub(crate) async fn ledger(&self) -> Value {
        answer(self.get("/_sandbox/ledger")).await.1
    }
}

pub(crate) fn client() -> Client {
    // Another test may have installed the provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .redirect(Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

pub(crate) fn consent_query() -> [(&'static str, &'static str); 5] {
    [
        ("response_type", "code"),
        ("client_id", "sandbox-client"),
        ("redirect_uri", REDIRECT),
        ("scope", SCOPE),
        ("state", "a \"state\" & more"),
    ]
}

pub(crate) fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it reads better at the calls"
)]
pub(crate) fn tokens(body: Value) -> Tokens {
    Tokens {
        access: body["access_token"].as_str().unwrap().to_owned(),
        refresh: body["refresh_token"].as_str().unwrap().to_owned(),
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

/// Status and JSON body.
pub(crate) async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = send(request).await;
    let status = response.status();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
    (status, body)
}
