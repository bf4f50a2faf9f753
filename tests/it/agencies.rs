//! Agencies: one consent for many locations, whose tokens are minted with the agency's token.

mod failures;
mod keys;
mod webhooks;

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::client::{self, get};
use tests::sandbox::AGENCY;
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);
/// The locations of the agency.
const LOCATIONS: [&str; 3] = [
    "sandboxHarborDental1",
    "sandboxMapleYoga0002",
    "sandboxOakEmberCafe3",
];

async fn consent(up: &Up) -> String {
    client::install_agency(&up.client, &up.public, AGENCY).await
}

/// A call for a location that names nothing but the location.
async fn call(up: &Up, location: &str) -> (u16, Value) {
    let url = format!("{}/ghl/contacts/?locationId={location}&limit=5", up.public);
    get(&up.client, &url).await
}

async fn until_call_is(up: &Up, location: &str, expected: u16) -> Value {
    until(&format!("{expected} for {location}"), PATIENCE, || async {
        let (status, body) = call(up, location).await;
        holds(status == expected, (status, &body)).map(|()| body)
    })
    .await
}

async fn shown(up: &Up, name: &str) -> Value {
    let url = format!("{}/v1/installations/{name}", up.internal);
    get(&up.client, &url).await.1
}

/// Waits until the locations of the agency are listed.
async fn until_listed(up: &Up, agency: &str, count: u64) -> Value {
    until("the list of locations", PATIENCE, || async {
        let seen = shown(up, agency).await;
        let list = &seen["locations"];
        let is_listed = list["listedAt"].is_string() && list["count"] == count;
        holds(is_listed, &seen).map(|()| seen)
    })
    .await
}

async fn mints(up: &Up) -> u64 {
    up.sandbox.count("location_tokens_minted").await
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_of_an_agency_opens_its_locations() {
    let up = Up::start(&[]).await;
    let agency = consent(&up).await;
    until_listed(&up, &agency, 3).await;
    for location in LOCATIONS {
        let sleeping = shown(&up, location).await;
        assert_eq!(sleeping["tokenStatus"], "asleep", "{sleeping}");
        assert_eq!(sleeping["parentId"], agency.as_str());
        assert_eq!(sleeping["expiresAt"], Value::Null, "it has no token");
        assert_eq!(
            sleeping["nextRefreshAt"],
            Value::Null,
            "sleep costs no work"
        );
    }
    assert_eq!(mints(&up).await, 0);
    for location in LOCATIONS {
        for _ in 0..2 {
            let (status, body) = call(&up, location).await;
            assert_eq!(status, 200, "{location}: {body}");
        }
        assert_eq!(shown(&up, location).await["tokenStatus"], "valid");
    }
    assert_eq!(mints(&up).await, 3, "one for each location");

    let company = format!("{}/ghl/companies/{AGENCY}", up.public);
    let (status, body) = get(&up.client, &company).await;
    assert_eq!(status, 200, "with the agency's own token: {body}");

    let contact = json!({ "locationId": LOCATIONS[0], "email": "a@example.com" });
    let url = format!("{}/ghl/contacts/", up.public);
    let (status, body) = client::send(up.client.post(&url).json(&contact)).await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(
        call(&up, LOCATIONS[0]).await.1["contacts"][0]["email"],
        "a@example.com"
    );
    assert_eq!(
        call(&up, LOCATIONS[1]).await.1["contacts"],
        json!([]),
        "each has its own token"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_of_a_sleeping_location_wait_for_one_mint() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_LATENCY", "100ms")]).await;
    let agency = consent(&up).await;
    until_listed(&up, &agency, 3).await;
    let calls = join_all((0..40).map(|_| call(&up, LOCATIONS[0]))).await;
    for (status, body) in calls {
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(mints(&up).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn location_of_nobody_causes_one_question_in_a_minute() {
    let up = Up::start(&[]).await;
    let agency = consent(&up).await;
    until_listed(&up, &agency, 3).await;
    for _ in 0..5 {
        let (status, body) = call(&up, "nobodysLocation00001").await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(body["code"], "installation_not_found");
    }
    let refused = up.sandbox.count("location_tokens_refused").await;
    assert_eq!((refused, mints(&up).await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_a_called_location_is_replaced_ahead_of_its_end() {
    // A token is replaced in the last tenth of its lifetime, here in the last two seconds.
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "20s")]).await;
    let agency = consent(&up).await;
    until_listed(&up, &agency, 3).await;
    until_call_is(&up, LOCATIONS[0], 200).await;
    until_call_is(&up, LOCATIONS[1], 200).await;
    // Only the first one is called from now on.
    until("a second and a third token", PATIENCE, || async {
        let (status, body) = call(&up, LOCATIONS[0]).await;
        assert_eq!(status, 200, "{body}");
        let minted = mints(&up).await;
        holds(minted >= 4, minted)
    })
    .await;
    let asleep = until("the other one to sleep", PATIENCE, || async {
        let seen = shown(&up, LOCATIONS[1]).await;
        holds(
            seen["tokenStatus"] == "asleep" && seen["nextRefreshAt"].is_null(),
            &seen,
        )
        .map(|()| seen)
    })
    .await;
    assert_eq!(asleep["lastError"], Value::Null);
    assert_eq!(up.sandbox.count("calls_with_expired_token").await, 0);
    // It wakes up with the next call.
    assert_eq!(call(&up, LOCATIONS[1]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn agencys_installation_is_shown_with_its_locations() {
    let up = Up::start(&[]).await;
    let agency = consent(&up).await;
    until_listed(&up, &agency, 3).await;
    let own = up.install("locA").await;
    let list = |query: &str| {
        let url = format!("{}/v1/installations?{query}", up.internal);
        let client = up.client.clone();
        async move {
            get(&client, &url).await.1["installations"]
                .as_array()
                .unwrap()
                .clone()
        }
    };
    assert_eq!(list("").await.len(), 5);
    assert_eq!(list(&format!("parent={AGENCY}")).await.len(), 3);
    assert_eq!(
        list(&format!("parent={agency}&status=asleep")).await.len(),
        3
    );
    assert_eq!(
        list(&format!("parent={agency}&status=valid")).await.len(),
        0
    );
    let company = list(&format!("company={AGENCY}")).await;
    assert_eq!(company.len(), 5, "the sandbox puts locA there, too");

    let show = up.command(&["installations", "show", &agency, "--output", "json"]);
    let (code, lines) = show.spawn().wait_for_exit(PATIENCE).await;
    assert_eq!(code, Some(0), "{lines:#?}");
    let tree: Value = serde_json::from_str(&lines.concat()).unwrap();
    assert_eq!(tree["children"].as_array().unwrap().len(), 3);

    // Without a terminal nobody can answer the question.
    let revoke = up.command(&["installations", "revoke", &agency]);
    let (code, lines) = revoke.spawn().wait_for_exit(PATIENCE).await;
    assert_eq!(code, Some(1), "{lines:#?}");
    assert!(lines.concat().contains("3 locations"), "{lines:#?}");
    assert_eq!(shown(&up, &agency).await["tokenStatus"], "valid");
    let revoke = up.command(&["installations", "revoke", "--yes", &agency]);
    let (code, lines) = revoke.spawn().wait_for_exit(PATIENCE).await;
    assert_eq!(code, Some(0), "{lines:#?}");
    for location in LOCATIONS {
        assert_eq!(shown(&up, location).await["tokenStatus"], "revoked");
        until_call_is(&up, location, 400).await;
    }
    assert_eq!(shown(&up, &own).await["tokenStatus"], "valid");
}
