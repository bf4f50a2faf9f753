//! GHL's webhooks about the locations of an agency.

use tests::client;

use super::*;

async fn control(up: &Up, what: &str, body: Value) -> Value {
    let url = format!("{}/_sandbox/{what}", up.sandbox.url);
    let (status, answer) = client::send(up.client.post(url).json(&body)).await;
    assert_eq!(status, 200, "{what}: {answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn new_location_of_an_agency_works_after_its_webhook() {
    let up = Up::start(&[]).await;
    let agency = consent(&up).await;
    until_listed(&up, &agency, 3).await;
    control(
        &up,
        "locations",
        json!({ "companyId": AGENCY, "locationId": "brandNewLocation0001" }),
    )
    .await;
    until("the new location", PATIENCE, || async {
        let seen = shown(&up, "brandNewLocation0001").await;
        holds(seen["parentId"] == agency.as_str(), seen)
    })
    .await;
    assert_eq!(mints(&up).await, 0);
    until_call_is(&up, "brandNewLocation0001", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalled_location_gets_no_token_and_the_others_go_on() {
    let up = Up::start(&[]).await;
    let agency = consent(&up).await;
    until_listed(&up, &agency, 3).await;
    for location in LOCATIONS {
        until_call_is(&up, location, 200).await;
    }
    control(&up, "uninstall", json!({ "locationId": LOCATIONS[0] })).await;
    let refusal = until_call_is(&up, LOCATIONS[0], 400).await;
    assert_eq!(refusal["reconnect"], "/oauth/install", "{refusal}");
    let before = mints(&up).await;
    let url = format!("{}/v1/installations/{}/refresh", up.internal, LOCATIONS[0]);
    let (status, body) = client::send(up.client.post(&url)).await;
    assert_eq!(status, 409, "{body}");
    assert_eq!(
        mints(&up).await,
        before,
        "a mint is refused without asking GHL"
    );
    until_call_is(&up, LOCATIONS[1], 200).await;

    // It is installed there again.
    control(&up, "install", json!({ "locationId": LOCATIONS[0] })).await;
    until_call_is(&up, LOCATIONS[0], 200).await;

    control(&up, "uninstall", json!({ "companyId": AGENCY })).await;
    for location in LOCATIONS {
        until_call_is(&up, location, 400).await;
        assert_eq!(shown(&up, location).await["tokenStatus"], "revoked");
    }
    assert_eq!(shown(&up, &agency).await["tokenStatus"], "revoked");

    // The same installations after the next consent.
    assert_eq!(consent(&up).await, agency);
    for location in LOCATIONS {
        until_call_is(&up, location, 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locations_announced_before_the_consent_wait_for_it() {
    let up = Up::start(&[]).await;
    let callback = client::consented(&up.client, &up.public, ("companyId", AGENCY))
        .await
        .unwrap();
    // The webhooks arrive before the code is exchanged.
    until("the announced locations", PATIENCE, || async {
        let seen = shown(&up, LOCATIONS[0]).await;
        holds(seen["tokenStatus"] == "asleep", seen)
    })
    .await;
    let (status, _) = call(&up, LOCATIONS[0]).await;
    assert_eq!(status, 503, "the agency has not connected");
    let connected = client::body(callback.send().await.unwrap()).await;
    assert_eq!(
        shown(&up, LOCATIONS[0]).await["parentId"],
        connected["installationId"]
    );
    until_call_is(&up, LOCATIONS[0], 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn details_of_webhooks_are_remembered() {
    let up = Up::start(&[]).await;
    let agency = consent(&up).await;
    for name in [agency.as_str(), LOCATIONS[0]] {
        until("the details of the INSTALL", PATIENCE, || async {
            let seen = shown(&up, name).await;
            let details = &seen["details"];
            let is_told = details["companyName"].is_string() && details["versionId"].is_string();
            holds(is_told && details["onTrial"] == "false", &seen)
        })
        .await;
    }
    let plan = shown(&up, LOCATIONS[0]).await["details"]["planId"].clone();
    let version = shown(&up, LOCATIONS[0]).await["details"]["versionId"].clone();
    for kind in ["PLAN_CHANGE", "UPDATE"] {
        let event = json!({ "type": kind, "locationId": LOCATIONS[0] });
        up.sandbox.webhook(&event).await;
    }
    let changed = until("the new plan and version", PATIENCE, || async {
        let seen = shown(&up, LOCATIONS[0]).await;
        let details = &seen["details"];
        let is_changed = details["previousPlanId"] == plan && details["planId"] != plan;
        holds(
            is_changed && details["previousVersionId"].is_string(),
            &seen,
        )
        .map(|()| seen)
    })
    .await;
    assert_eq!(changed["details"]["versionId"], version);
    assert!(changed["details"]["companyName"].is_string(), "it stays");
    let other = shown(&up, LOCATIONS[1]).await;
    assert_eq!(other["details"]["previousPlanId"], Value::Null, "{other}");
}
