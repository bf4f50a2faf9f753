//! The callers' side.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde_json::Value;

/// A client that follows no redirects.
///
/// # Panics
/// When TLS cannot be set up.
#[must_use]
pub fn new() -> Client {
    // A second installation is refused, and that is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .redirect(Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client")
}

/// A body as JSON, or its text.
pub async fn body(response: Response) -> Value {
    let text = response.text().await.unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

/// GET, and the status and JSON of the answer.
///
/// # Panics
/// When there is no answer.
pub async fn get(client: &Client, url: &str) -> (u16, Value) {
    let response = client
        .get(url)
        .send()
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    (response.status().as_u16(), body(response).await)
}

/// Installs the app for a location as a browser would, and returns the installation's id.
///
/// # Panics
/// When a step is not answered as it should be.
pub async fn install(client: &Client, public: &str, location: &str) -> String {
    let answer = try_install(client, public, location).await;
    answer.unwrap_or_else(|seen| panic!("installing {location}: {seen}"))
}

/// As [`install`].
///
/// # Errors
/// With what was seen at the step that failed.
pub async fn try_install(client: &Client, public: &str, location: &str) -> Result<String, String> {
    let consent = redirect(client.get(format!("{public}/oauth/install"))).await?;
    let callback = redirect(client.post(format!("{consent}&locationId={location}"))).await?;
    // The callback is reached where this test's public address is, not where settings say.
    let query = callback
        .split_once('?')
        .ok_or("no query in the callback")?
        .1;
    let answer = client
        .get(format!("{public}/oauth/callback?{query}"))
        .send()
        .await;
    let answer = body(answer.map_err(|error| error.to_string())?).await;
    answer["installationId"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| answer.to_string())
}

async fn redirect(request: reqwest::RequestBuilder) -> Result<String, String> {
    let response = request.send().await.map_err(|error| error.to_string())?;
    let target = response
        .headers()
        .get("location")
        .and_then(|value| value.to_str().ok());
    match target {
        Some(target) => Ok(target.to_owned()),
        None => Err(format!("{}: {}", response.status(), body(response).await)),
    }
}
