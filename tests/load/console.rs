//! The pages of the console, with many installations.

use std::time::{Duration, Instant};

use reqwest::Client;
use reqwest::header::{COOKIE, SET_COOKIE};
use serde_json::Value;
use tests::client::{self, KEY};
use tests::rows;
use tests::up::Up;

const INSTALLATIONS: usize = 10_000;
/// Rows of a request, which has 4 MiB at most.
const BATCH: usize = 1000;
const HOUR: Duration = Duration::from_secs(3600);
/// How long a page may take: the median of [`ATTEMPTS`].
const LIMIT: Duration = Duration::from_millis(300);
/// The build without optimisations is slower.
const DEBUG_LIMIT: Duration = Duration::from_secs(3);
const ATTEMPTS: usize = 5;

/// Imports installations `loc00000` and up. Returns the id of one.
async fn import(up: &Up) -> String {
    let locations = (0..INSTALLATIONS).map(|number| format!("loc{number:05}"));
    let rows = rows::minted(locations, HOUR);
    let url = format!("{}/v1/installations", up.internal);
    let mut id = Value::Null;
    for batch in rows.chunks(BATCH) {
        let (status, results) = client::send(up.client.post(&url).json(batch)).await;
        assert_eq!((status, &results["refused"]), (200, &Value::from(0)));
        id = results["results"][0]["installationId"].clone();
    }
    id.as_str().unwrap().to_owned()
}

/// The cookie of a session of the console.
async fn sign_in(browser: &Client, internal: &str) -> String {
    let form = browser.post(format!("{internal}/console/sign-in"));
    let response = form.form(&[("key", KEY)]).send().await.unwrap();
    assert_eq!(response.status(), 303);
    let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// The median of the times that a page takes, and its size in bytes.
async fn median(browser: &Client, cookie: &str, url: &str) -> (Duration, usize) {
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..ATTEMPTS {
        let begun = Instant::now();
        let response = browser.get(url).header(COOKIE, cookie).send();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200, "{url}");
        let page = response.text().await.unwrap();
        times.push(begun.elapsed());
        assert!(page.contains("<nav"), "{url}: {page}");
        bytes = page.len();
    }
    times.sort_unstable();
    (times[ATTEMPTS / 2], bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_fast_with_ten_thousand_installations() {
    let up = Up::start(&[]).await;
    let id = import(&up).await;
    let browser = client::anonymous();
    let cookie = sign_in(&browser, &up.internal).await;
    let is_release = std::env::var_os("EVERGREEN_BIN").is_some();
    let limit = if is_release { LIMIT } else { DEBUG_LIMIT };
    let mut slow = Vec::new();
    for path in [
        "",
        "/installations",
        "/installations?q=loc07",
        "/installations?q=nothing-has-this-name",
        "/installations?status=invalid",
        &format!("/installations/{id}"),
        "/connect",
        "/apps",
        "/keys",
        "/events",
        "/audit",
    ] {
        let url = format!("{}/console{path}", up.internal);
        let (time, bytes) = median(&browser, &cookie, &url).await;
        println!(
            "{:>8.1} ms {bytes:>8} bytes  /console{path}",
            time.as_secs_f64() * 1000.0
        );
        if time > limit {
            slow.push((path.to_owned(), time));
        }
    }
    assert!(slow.is_empty(), "over {limit:?}: {slow:?}");
}
