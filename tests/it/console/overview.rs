//! The first page: problems, charts and numbers.

use std::time::Duration;

use serde_json::json;
use tests::client::{KEY, get, send};
use tests::up::Up;
use tests::wait::{holds, until};

use super::{create_key, signed_in};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn first_page_shows_that_all_is_well_and_then_what_is_wrong() {
    let up = Up::start(&[]).await;
    let browser = signed_in(&up, KEY).await;
    let page = until("it to be ready", PATIENCE, || {
        let mut browser = browser.clone();
        async move {
            let page = browser.get("/console").await;
            let is_well = page.body.contains("All is well.");
            holds(page.status == 200 && is_well, &page.body).map(|()| page)
        }
    })
    .await;
    assert!(
        page.body.contains("Nobody has connected yet."),
        "{}",
        page.body
    );
    assert!(page.body.contains("data-refresh=\"10\""), "{}", page.body);

    let id = up.install("locA").await;
    // An overview is shown for two seconds.
    let page = until("the installation", PATIENCE, || async {
        let page = browser.clone().get("/console").await;
        let is_shown = page.body.contains("1 connected");
        holds(is_shown, page.body.clone()).map(|()| page)
    })
    .await;
    for part in [
        "<span class=\"badge good\">1 connected</span>",
        &format!("<a href=\"/console/installations/{id}\">locA</a>"),
        "<svg class=\"chart\" id=\"refreshes\"",
        "role=\"img\"",
        "No data yet",
        ">broker</td>",
    ] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }

    up.sandbox
        .faults(json!([{
            "on": "token", "grant": "refresh_token", "locationId": "locA", "kind": "invalid_grant", "share": 1.0
        }]))
        .await;
    let url = format!("{}/v1/installations/{id}", up.internal);
    until("the third refusal", PATIENCE, || async {
        send(up.client.post(format!("{url}/refresh"))).await;
        let (_, shown) = get(&up.client, &url).await;
        holds(shown["tokenStatus"] == "invalid", shown)
    })
    .await;
    let page = until("the problem", PATIENCE, || async {
        let page = browser.clone().get("/console").await;
        let is_shown = page.body.contains("class=\"notice bad\"");
        holds(is_shown, page.body.clone()).map(|()| page)
    })
    .await;
    for part in [
        "class=\"notice bad\"",
        "1 installation without a consent that GHL accepts",
        "docs/runbooks/EvergreenRefreshFail.md",
        "<path class=\"bar bad\"",
        "refused, or failed here: ",
    ] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_may_only_look_sees_the_first_page_without_links_to_changes() {
    let up = Up::start(&[]).await;
    let (_, key) = create_key(&up, "looks", &["view"]).await;
    let page = signed_in(&up, &key).await.get("/console").await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.body.contains("Last 24 hours"), "{}", page.body);
    assert!(!page.body.contains("/console/connect"), "{}", page.body);
}
