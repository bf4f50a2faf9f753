//! How customers connect: one-time links and the public link, what comes back, external ids and tags.

mod agencies;
mod crashes;
mod gateways;
mod links;
mod manage;
mod page;
mod public_link;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::header::{HeaderMap, LOCATION, SET_COOKIE};
use reqwest::{Client, RequestBuilder, Response, Url};
use serde_json::{Value, json};
use tests::client::{self, get, send};
use tests::up::Up;
use tests::wait::{holds, until};

use crate::browser_keys::backend_key;

const PATIENCE: Duration = Duration::from_secs(90);
/// Where a product wants its customers back.
const BACK: &str = "https://app.example/done";
const RETURN_URLS: (&str, &str) = ("EVERGREEN_RETURN_URLS", "https://app.example");
/// The public link may carry an external id.
const PUBLIC_IDS: (&str, &str) = ("EVERGREEN_PUBLIC_EXTERNAL_IDS", "true");

/// A customer's browser. It keeps cookies.
struct Browser {
    client: Client,
    /// The address of the product's host.
    public: String,
    cookies: Mutex<BTreeMap<String, String>>,
}

/// A response that a browser got.
#[derive(Debug)]
struct Page {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Page {
    async fn of(response: Response) -> Self {
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().await.unwrap(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Where it redirects to.
    fn leads_to(&self) -> &str {
        let target = self.header(LOCATION.as_str());
        target.unwrap_or_else(|| panic!("no redirect: {self:?}"))
    }

    /// The query of the address that it redirects to, which must begin so.
    fn result(&self, begins: &str) -> BTreeMap<String, String> {
        assert_eq!(self.status, 303, "{self:?}");
        let target = self.leads_to();
        assert!(target.starts_with(begins), "{target}");
        let url = Url::parse(target).unwrap();
        url.query_pairs().into_owned().collect()
    }
}

impl Browser {
    fn new(public: &str) -> Self {
        Self {
            client: client::anonymous(),
            public: public.to_owned(),
            cookies: Mutex::default(),
        }
    }

    /// The same address at this test's host, if it is at the host of the configured callback.
    fn here(&self, url: &str) -> String {
        let at_callback = url.strip_prefix("http://127.0.0.1:8080");
        let path = at_callback.or(Some(url).filter(|url| url.starts_with('/')));
        path.map_or(url.to_owned(), |path| format!("{}{path}", self.public))
    }

    fn get(&self, url: &str) -> RequestBuilder {
        let pairs: Vec<String> = {
            let cookies = self.cookies.lock().unwrap();
            cookies.iter().map(|(k, v)| format!("{k}={v}")).collect()
        };
        let request = self.client.get(self.here(url));
        let request = request.header("accept", "text/html,*/*;q=0.8");
        request.header("cookie", pairs.join("; "))
    }

    /// Opens an address, without following a redirect.
    async fn open(&self, url: &str) -> Page {
        let response = self.get(url).send().await.unwrap();
        for cookie in response.headers().get_all(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = cookie.split_once('=').unwrap();
            let mut cookies = self.cookies.lock().unwrap();
            cookies.insert(name.to_owned(), value.to_owned());
        }
        Page::of(response).await
    }

    /// Begins a consent. Returns GHL's page.
    async fn begin(&self, link: &str) -> String {
        let page = self.open(link).await;
        let consent_page = page.leads_to();
        assert!(consent_page.contains("/oauth/chooselocation"), "{page:?}");
        consent_page.to_owned()
    }

    /// Decides on GHL's page, such as with `locationId=locA` or `deny=1`. Returns the callback.
    async fn decide(&self, consent_page: &str, choice: &str) -> String {
        let decision = self.client.post(format!("{consent_page}&{choice}"));
        let response = decision.send().await.unwrap();
        Page::of(response).await.leads_to().to_owned()
    }

    /// Begins a consent, and decides. Returns the callback, which is not opened yet.
    async fn callback(&self, link: &str, choice: &str) -> String {
        let consent_page = self.begin(link).await;
        self.decide(&consent_page, choice).await
    }

    /// A whole consent. Returns what the callback answers.
    async fn consent(&self, link: &str, choice: &str) -> Page {
        let callback = self.callback(link, choice).await;
        self.open(&callback).await
    }
}

/// The public link with this query.
fn public_link(query: &str) -> String {
    format!("/oauth/install?{query}")
}

/// Asks for a one-time link with the key of a backend.
async fn ask(internal: &str, key: &str, request: &Value) -> (u16, Value) {
    let ask = client::anonymous().post(format!("{internal}/v1/connect-links"));
    send(ask.bearer_auth(key).json(request)).await
}

/// A one-time link, made with the administrator's key.
async fn link(internal: &str, request: Value) -> String {
    let (status, made) = ask(internal, client::KEY, &request).await;
    assert_eq!(status, 201, "{made}");
    made["url"].as_str().unwrap().to_owned()
}

/// An installation by any of its names.
async fn shown(up: &Up, name: &str) -> Value {
    let url = format!("{}/v1/installations/{}", up.internal, encoded(name));
    get(&up.client, &url).await.1
}

/// A name as a segment of a path.
fn encoded(name: &str) -> String {
    let encode = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() || byte == b'_' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}

/// How many codes GHL has exchanged.
async fn exchanges(up: &Up) -> u64 {
    let ledger = up.sandbox.ledger().await;
    ledger["token_calls"]["code_exchanged"].as_u64().unwrap()
}
