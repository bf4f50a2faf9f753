//! `evergreen up` is updated and brought back, with its store in a file.

use serde_json::{Value, json};
use tests::client::{self, get, send};
use tests::sandbox::{AGENCY, Sandbox};
use tests::up::Up;
use tests::wait::{holds, until};

use crate::Version::{Current, Previous};
use crate::deployment::PATIENCE;

async fn shown(up: &Up, name: &str) -> Value {
    let url = format!("{}/v1/installations/{name}", up.internal);
    let (status, shown) = get(&up.client, &url).await;
    assert_eq!(status, 200, "{shown}");
    shown
}

async fn generation(up: &Up, name: &str) -> u64 {
    let shown = shown(up, name).await;
    shown["generation"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/upgrade builds the previous version and runs this"]
async fn up_is_updated_and_brought_back() {
    let sandbox = Sandbox::start(&[("TOKEN_LIFETIME", "20s")]).await;
    let up = Up::start_program(Previous.start(&["up"]), &[]).await;
    let mut up = up.against(&sandbox).await;
    let mut ids = vec![up.install("locA").await];
    ids.push(client::install_agency(&up.client, &up.public, AGENCY).await);
    for (number, version) in [Current, Previous, Current].into_iter().enumerate() {
        let mut earlier = Vec::new();
        for id in &ids {
            earlier.push(generation(&up, id).await);
        }
        up.use_program(version.program());
        let (code, log) = up.restart().await;
        assert_eq!(code, Some(0), "{log:#?}");
        for (id, earlier) in ids.iter().zip(earlier) {
            until(&format!("{id} to be refreshed"), PATIENCE, || async {
                let now = generation(&up, id).await;
                holds(now > earlier, now)
            })
            .await;
        }
        for name in [&*ids[0], "sandboxHarborDental1"] {
            let url = format!("{}/api/ghl/products?installation_id={name}", up.public);
            let (status, body) = get(&up.client, &url).await;
            assert_eq!(status, 200, "{name} with {version:?}: {body}");
        }
        ids.push(up.install(&format!("loc{number}")).await);
        if number == 0 {
            let url = format!("{}/v1/installations/{}", up.internal, ids[0]);
            let change = json!({ "external_id": "42", "tags": ["vip"] });
            let (status, body) = send(up.client.patch(url).json(&change)).await;
            assert_eq!(status, 200, "{body}");
        }
    }
    let known = shown(&up, "42").await;
    assert_eq!(known["installationId"], *ids[0]);
    assert_eq!(
        (&known["locationId"], &known["tags"]),
        (&json!("locA"), &json!(["vip"]))
    );
    let ledger = sandbox.ledger().await;
    for never in [
        "spent_outside_grace",
        "replays_in_grace",
        "calls_with_expired_token",
    ] {
        assert_eq!(ledger[never], 0, "{never}: {ledger}");
    }
}
