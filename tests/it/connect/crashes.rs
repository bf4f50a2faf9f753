//! A broker dies between the exchange of the code and the registration.

use tests::sandbox::Sandbox;

use super::*;

/// Dies after `step` of a consent with a link, and starts again. Returns the link and the browser.
async fn crash(step: &str) -> (Up, Sandbox, String, Browser) {
    // GHL outlives the process that dies.
    let sandbox = Sandbox::start(&[]).await;
    let up = Up::with_crash_points().await.against(&sandbox).await;
    let mut up = up
        .with("TEST_CRASH_POINT", format!("{step} kill"))
        .with(RETURN_URLS.0, RETURN_URLS.1);
    up.restart().await;
    let request = json!({ "return_to": BACK, "external_id": "org/7", "tags": ["vip"] });
    let link = link(&up.internal, request).await;
    let browser = Browser::new(&up.public);
    let callback = browser.callback(&link, "locationId=locA").await;
    // The browser may see a broken connection.
    let _ = browser.get(&callback).send().await;
    until(&format!("the death after {step}"), PATIENCE, || {
        let has_ended = up.program.has_ended();
        async move { holds(has_ended, "running") }
    })
    .await;
    up = up.with("TEST_CRASH_POINT", "");
    up.start_again().await;
    (up, sandbox, link, browser)
}

async fn until_named(up: &Up) -> Value {
    until("the installation", PATIENCE, || async {
        let seen = shown(up, "org/7").await;
        holds(seen["tokenStatus"] == "valid", &seen).map(|()| seen)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn recovered_installation_has_the_external_id_and_tags_of_its_link() {
    for step in ["consent-journaled", "consent-stored"] {
        let (up, _sandbox, link, browser) = crash(step).await;
        let recovered = until_named(&up).await;
        let seen = (&recovered["locationId"], &recovered["tags"]);
        assert_eq!(seen, (&json!("locA"), &json!(["vip"])), "{step}");
        // The customer has not seen an outcome, so the link still works.
        let result = browser.consent(&link, "locationId=locA").await.result(BACK);
        assert_eq!(result["status"], "connected", "{step}: {result:?}");
        assert_eq!(
            recovered["installationId"],
            result["installation_id"].as_str()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn link_whose_code_was_lost_with_its_broker_works_again() {
    let (up, _sandbox, link, browser) = crash("exchanged").await;
    let result = browser.consent(&link, "locationId=locA").await.result(BACK);
    assert_eq!(
        (&*result["status"], &*result["external_id"]),
        ("connected", "org/7")
    );
    assert_eq!(until_named(&up).await["tags"], json!(["vip"]));
}
