//! Import and export of installations: tokens of other backends, and of another evergreen.

mod exports;
mod interrupted;
mod rows;

use std::fs;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use tests::client::{self, get};
use tests::program::Start;
use tests::sandbox::{AGENCY, Sandbox};
use tests::scratch::Scratch;
use tests::up::Up;

const PATIENCE: Duration = Duration::from_secs(90);
const HOUR: Duration = Duration::from_secs(3600);

/// A backend that keeps its own tokens. It has the client credentials of the sandbox.
struct OldBackend<'s> {
    sandbox: &'s Sandbox,
}

impl OldBackend<'_> {
    /// GHL's response to the code of a consent. `choice`: the field of the consent page and its value.
    async fn connect(&self, (field, chosen): (&str, &str)) -> Value {
        let browser = client::anonymous();
        let redirect_uri = "http://127.0.0.1:1/callback";
        let url = format!(
            "{}/v2/oauth/chooselocation?response_type=code&client_id=sandbox-client\
             &redirect_uri={redirect_uri}&{field}={chosen}",
            self.sandbox.url
        );
        let (callback, _) = client::redirect(browser.post(url)).await.unwrap();
        let (_, code) = callback.split_once("code=").unwrap();
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
        ];
        self.token(&form).await
    }

    /// Spends the row's refresh token.
    async fn refresh(&self, row: &Value) -> Value {
        let token = row["refresh_token"].as_str().unwrap();
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)])
            .await
    }

    async fn token(&self, form: &[(&str, &str)]) -> Value {
        let mut all = vec![
            ("client_id", "sandbox-client"),
            ("client_secret", "sandbox-secret"),
        ];
        all.extend(form);
        let request = client::anonymous().post(format!("{}/oauth/token", self.sandbox.url));
        let (status, body) = client::send(request.form(&all)).await;
        assert_eq!(status, 200, "{body}");
        body
    }
}

/// Rows of locations `loc00000` and up, whose tokens a sandbox accepts. They expire in an hour.
fn minted_rows(count: usize) -> Vec<Value> {
    let locations = (0..count).map(|number| format!("loc{number:05}"));
    tests::rows::minted(locations, HOUR)
}

/// One row a line.
fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// A file with rows.
struct File {
    scratch: Scratch,
}

impl File {
    fn new(text: &str) -> Self {
        let scratch = Scratch::new();
        fs::write(scratch.join("rows"), text).unwrap();
        Self { scratch }
    }

    fn path(&self) -> String {
        self.scratch.join("rows")
    }
}

/// The command line of an operator: `evergreen installations …`.
fn command(up: &Up, args: &[&str]) -> Start {
    up.command(&[&["installations"], args].concat())
}

async fn import(up: &Up, text: &str, flags: &[&str]) -> Output {
    let file = File::new(text);
    let path = file.path();
    let args = [&["import", &path], flags].concat();
    command(up, &args).run_within(PATIENCE).await
}

/// Expects success, and returns what was printed.
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The last line that was printed.
fn summary(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().last().unwrap_or_default().to_owned()
}

async fn shown(up: &Up, name: &str) -> Value {
    let name = name.replace('/', "%2F");
    let url = format!("{}/v1/installations/{name}", up.internal);
    get(&up.client, &url).await.1
}

/// The status of a call for a location.
async fn call(up: &Up, location: &str) -> (u16, Value) {
    let url = format!("{}/ghl/contacts/?locationId={location}&limit=5", up.public);
    get(&up.client, &url).await
}

/// All installations.
async fn listed(client: &reqwest::Client, internal: &str) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let url = format!("{internal}/v1/installations?limit=1000{after}");
        let (_, page) = get(client, &url).await;
        all.extend(
            page["installations"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return all,
        }
    }
}

/// Expects that no refresh token was refused or spent twice.
async fn expect_each_spent_once(sandbox: &Sandbox, refreshes: u64) {
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["token_calls"]["refreshed"], refreshes, "{ledger}");
    for never in ["invalid_grant", "replayed", "invalid_client"] {
        assert_eq!(ledger["token_calls"][never], 0, "{never}: {ledger}");
    }
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
}
