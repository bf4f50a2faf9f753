//! HTTP clients for tests.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The administrator's key of every process that a test starts ([`Start::spawn`](crate::program::Start::spawn)).
pub const KEY: &str =
    "evg_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdefd712067e";

/// A client that follows no redirects, and sends [`KEY`] with every request that has no other `Authorization`.
///
/// # Panics
/// If TLS cannot be set up.
#[must_use]
pub fn new() -> Client {
    of_key(KEY)
}

/// A client that follows no redirects, and sends this key with every request that has no other `Authorization`.
///
/// # Panics
/// If TLS cannot be set up.
#[must_use]
pub fn of_key(key: &str) -> Client {
    let key = HeaderValue::from_str(&format!("Bearer {key}")).expect("a header");
    let headers = HeaderMap::from_iter([(AUTHORIZATION, key)]);
    builder()
        .default_headers(headers)
        .build()
        .expect("a client")
}

/// A client that follows no redirects, and has no key.
///
/// # Panics
/// If TLS cannot be set up.
#[must_use]
pub fn anonymous() -> Client {
    builder().build().expect("a client")
}

fn builder() -> ClientBuilder {
    // An error means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .redirect(Policy::none())
        .timeout(Duration::from_secs(30))
}

/// A body as JSON, or its text.
pub async fn body(response: Response) -> Value {
    let text = response.text().await.unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

/// GET, and the status and JSON of the response.
///
/// # Panics
/// If there is no response.
pub async fn get(client: &Client, url: &str) -> (u16, Value) {
    send(client.get(url)).await
}

/// The status and JSON of the response to a request.
///
/// # Panics
/// If there is no response.
pub async fn send(request: RequestBuilder) -> (u16, Value) {
    let response = request
        .send()
        .await
        .unwrap_or_else(|error| panic!("{error:?}"));
    (response.status().as_u16(), body(response).await)
}

/// A request with [`KEY`] as its first header, unless it has a key.
#[must_use]
pub fn with_key(request: &[u8]) -> Vec<u8> {
    if request.windows(4).any(|it| it == b"evg_") {
        return request.to_vec();
    }
    let key = format!("X-Api-Key: {KEY}\r\n");
    let end = request.windows(2).position(|it| it == b"\r\n");
    let (line, rest) = request.split_at(end.map_or(request.len(), |end| end + 2));
    [line, key.as_bytes(), rest].concat()
}

/// Sends a request byte for byte, even if a well-behaved client would change it, and with [`KEY`]. Returns the status and
/// the whole response. The request must ask for the connection to be closed.
///
/// # Panics
/// If there is no response.
pub async fn raw(url: &str, request: impl AsRef<[u8]>) -> (u16, String) {
    let address = url.strip_prefix("http://").expect("an http URL");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&with_key(request.as_ref())).await?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&response).into_owned())
    };
    let response = tokio::time::timeout(Duration::from_secs(30), exchange)
        .await
        .unwrap_or_else(|_| panic!("{url} does not close the connection"))
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    let status = response
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok());
    (
        status.unwrap_or_else(|| panic!("no status: {response}")),
        response,
    )
}

/// Installs the app for a location, as a browser does. Returns the installation's id.
///
/// # Panics
/// If a step has an unexpected response.
pub async fn install(client: &Client, public: &str, location: &str) -> String {
    let response = try_install(client, public, location).await;
    response.unwrap_or_else(|seen| panic!("installing {location}: {seen}"))
}

/// Installs the app for a whole agency. Returns the installation's id.
///
/// # Panics
/// If a step has an unexpected response.
pub async fn install_agency(client: &Client, public: &str, company: &str) -> String {
    let response = consent(client, public, ("companyId", company)).await;
    response.unwrap_or_else(|seen| panic!("installing {company}: {seen}"))
}

/// Installs another app than the default one for a location. Returns the installation's id.
///
/// # Panics
/// If a step has an unexpected response.
pub async fn install_app(client: &Client, public: &str, app: &str, location: &str) -> String {
    let begin = format!("{public}/oauth/install?app={app}");
    let callback = consented_from(client, (public, &begin), ("locationId", location)).await;
    let callback = callback.unwrap_or_else(|seen| panic!("installing {location}: {seen}"));
    let (_, installed) = send(callback).await;
    let id = installed["installationId"].as_str();
    id.unwrap_or_else(|| panic!("installing {location}: {installed}"))
        .to_owned()
}

/// As [`install`].
///
/// # Errors
/// Describes the step that failed.
pub async fn try_install(client: &Client, public: &str, location: &str) -> Result<String, String> {
    consent(client, public, ("locationId", location)).await
}

async fn consent(client: &Client, public: &str, choice: (&str, &str)) -> Result<String, String> {
    let callback = consented(client, public, choice).await?;
    let response = callback.send().await;
    let response = body(response.map_err(|error| error.to_string())?).await;
    response["installationId"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| response.to_string())
}

/// The request to which GHL sends a browser back after the consent, with the browser's cookie. `choice`: the field of
/// the consent page and its value, such as `locationId`.
///
/// # Errors
/// Describes the step that failed.
pub async fn consented(
    client: &Client,
    public: &str,
    choice: (&str, &str),
) -> Result<RequestBuilder, String> {
    let begin = format!("{public}/oauth/install");
    consented_from(client, (public, &begin), choice).await
}

/// As [`consented`], after a consent that begins at this address.
///
/// # Errors
/// Describes the step that failed.
pub async fn consented_from(
    client: &Client,
    (public, begin): (&str, &str),
    (field, chosen): (&str, &str),
) -> Result<RequestBuilder, String> {
    let (page, cookie) = redirect(client.get(begin)).await?;
    let (callback, _) = redirect(client.post(format!("{page}&{field}={chosen}"))).await?;
    // Use this test's public address instead of that of the configured redirect URI.
    let at = callback.find("://").ok_or("no address of the callback")? + 3;
    let path = callback[at..].find('/').ok_or("no path of the callback")?;
    let callback = client.get(format!("{public}{}", &callback[at + path..]));
    Ok(callback.header("cookie", cookie))
}

/// Where a response redirects to, and the cookie that it sets.
///
/// # Errors
/// Describes the response if it is no redirect.
pub async fn redirect(request: RequestBuilder) -> Result<(String, String), String> {
    let response = request.send().await.map_err(|error| error.to_string())?;
    let target = response
        .headers()
        .get("location")
        .and_then(|value| value.to_str().ok());
    let cookie = response.headers().get("set-cookie");
    let cookie = cookie.and_then(|value| value.to_str().ok()?.split(';').next());
    let cookie = cookie.unwrap_or_default().to_owned();
    match target {
        Some(target) => Ok((target.to_owned(), cookie)),
        None => Err(format!("{}: {}", response.status(), body(response).await)),
    }
}

/// The value of a metric. `name`: with its labels, if it has any.
pub async fn gauge(client: &Client, internal: &str, name: &str) -> Option<String> {
    let (_, text) = get(client, &format!("{internal}/metrics")).await;
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
    text.as_str()?.lines().find_map(value)
}
