//! The web console, over real processes: who gets in, and what each may see and change.

mod installations;
mod overview;
mod pages;
mod root;
mod sign_in;

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, SET_COOKIE};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::json;
use tests::client::{self, send};
use tests::up::Up;

/// A page, as a browser gets it.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(|it| it.to_str().unwrap());
        value.unwrap_or_default()
    }

    /// The hidden field of its forms.
    fn proof(&self) -> String {
        let field = "name=\"csrf\" value=\"";
        let at = self.body.find(field).expect(&self.body) + field.len();
        self.body[at..].split('"').next().unwrap().to_owned()
    }
}

/// A browser: it keeps cookies and sends the headers that browsers send.
#[derive(Debug, Clone)]
struct Browser {
    client: Client,
    base: String,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn at(base: &str) -> Self {
        Self {
            client: client::anonymous(),
            base: base.to_owned(),
            cookies: BTreeMap::new(),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let cookies = self.cookies.iter();
        let cookies: Vec<String> = cookies.map(|(name, it)| format!("{name}={it}")).collect();
        let request = self.client.request(method, format!("{}{path}", self.base));
        match cookies.is_empty() {
            true => request,
            false => request.header("cookie", cookies.join("; ")),
        }
    }

    async fn send(&mut self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        for cookie in headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (name, rest) = cookie.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            match cookie.contains("Max-Age=0;") {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        let body = response.text().await.unwrap();
        Answer {
            status,
            headers,
            body,
        }
    }

    async fn get(&mut self, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        let request = request.header("sec-fetch-site", "same-origin");
        self.send(request.header("sec-fetch-mode", "navigate"))
            .await
    }

    /// Sends a form of a page of this origin.
    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let request = self.request(Method::POST, path).form(fields);
        let request = request.header("origin", self.base.clone());
        self.send(request.header("sec-fetch-site", "same-origin"))
            .await
    }

    /// Sends a form with the proof that a page of this session has.
    async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let proof = self.get("/console/audit").await.proof();
        let fields = [&[("csrf", proof.as_str())], fields].concat();
        self.post(path, &fields).await
    }

    async fn sign_in(&mut self, key: &str) -> Answer {
        self.post("/console/sign-in", &[("key", key)]).await
    }
}

/// A browser that has signed in.
async fn signed_in(up: &Up, key: &str) -> Browser {
    let mut browser = Browser::at(&up.internal);
    let answer = browser.sign_in(key).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, "/console")
    );
    browser
}

/// Creates a key. Returns its id and the key.
async fn create_key(up: &Up, name: &str, scopes: &[&str]) -> (String, String) {
    let url = format!("{}/v1/keys", up.internal);
    let body = json!({ "name": name, "scopes": scopes });
    let (status, made) = send(up.client.post(url).json(&body)).await;
    assert_eq!(status, 201, "{made}");
    let text = |member: &str| made[member].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}
