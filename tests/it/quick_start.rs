//! The first steps with `evergreen up`.

use std::time::Duration;

use serde_json::{Value, json};
use tests::client::{self, get};
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);

async fn post(up: &Up, path: &str, id: &str, body: Option<Value>) -> (u16, Value) {
    let request = up
        .client
        .post(format!("{}{path}?installation_id={id}", up.public));
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let response = request.send().await.unwrap();
    (response.status().as_u16(), client::body(response).await)
}

async fn status(up: &Up, id: &str) -> Value {
    get(
        &up.client,
        &format!("{}/api/oauth/status?installation_id={id}", up.public),
    )
    .await
    .1
}

#[tokio::test(flavor = "multi_thread")]
async fn quick_start_checklist_passes() {
    let up = Up::start(&[]).await;
    let (health, _) = get(&up.client, &format!("{}/health", up.public)).await;
    assert_eq!(health, 200);

    let id = up.install("locA").await;
    assert!(id.starts_with("install_"), "{id}");
    let seen = status(&up, &id).await;
    assert_eq!(seen["tokenStatus"], "valid");
    assert_eq!(seen["locationId"], "locA");
    assert!(
        !seen.to_string().contains("eyJ"),
        "the status contains no token: {seen}"
    );

    let url = format!(
        "{}/api/ghl/products?installation_id={id}&limit=2&offset=1",
        up.public
    );
    let (_, before) = get(&up.client, &url).await;
    assert_eq!(before["total"][0]["total"], 0);
    for number in 0..3 {
        let product = json!({ "name": format!("p{number}"), "productType": "DIGITAL" });
        let (code, made) = post(&up, "/api/ghl/products/create", &id, Some(product)).await;
        assert_eq!((code, &made["locationId"]), (201, &json!("locA")), "{made}");
    }
    let (code, page) = get(&up.client, &url).await;
    assert_eq!(code, 200);
    assert_eq!(
        page["products"].as_array().unwrap().len(),
        2,
        "limit and offset: {page}"
    );
    assert_eq!(page["total"][0]["total"], 3);

    let contact = json!({ "email": "a@example.com" });
    let (code, made) = post(&up, "/api/ghl/contacts/create", &id, Some(contact)).await;
    assert_eq!(
        (code, &made["contact"]["locationId"]),
        (201, &json!("locA")),
        "{made}"
    );
    let (code, made) = post(&up, "/api/ghl/test-product", &id, None).await;
    assert_eq!(code, 201);
    assert!(
        made["name"].as_str().unwrap().contains("test product"),
        "{made}"
    );
    let url = format!("{}/api/ghl/test-connection?installation_id={id}", up.public);
    let (code, tested) = get(&up.client, &url).await;
    assert_eq!((code, &tested["ok"]), (200, &json!(true)), "{tested}");
}

#[tokio::test(flavor = "multi_thread")]
async fn installation_keeps_refreshing_after_restart() {
    let mut up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "4s")]).await;
    let id = up.install("locA").await;
    let words = ["[REFRESH]", id.as_str()];
    up.program.wait_for_line(&words, PATIENCE).await;
    let (code, log) = up.restart().await;
    assert_eq!(code, Some(0), "{log:#?}");
    up.program.wait_for_line(&words, PATIENCE).await;
    until("a valid token", PATIENCE, || async {
        let seen = status(&up, &id).await;
        holds(seen["tokenStatus"] == "valid", seen)
    })
    .await;
    assert_eq!(up.sandbox.count("spent_outside_grace").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_log_line_is_exact_in_text_and_json() {
    let lifetime = ("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "86039s");
    let up = Up::start(&[lifetime]).await;
    let id = up.install("locA").await;
    let refreshed = up.command(&["installations", "refresh", &id]).run().await;
    assert!(refreshed.status.success(), "{refreshed:?}");
    let line = up.program.wait_for_line(&["[REFRESH]"], PATIENCE).await;
    let expected = format!(" INFO [REFRESH] {id} – new token good for 23.9 h");
    assert!(line.ends_with(&expected), "{line}");

    let up = Up::start(&[lifetime, ("EVERGREEN_LOG_FORMAT", "json")]).await;
    let id = up.install("locA").await;
    up.command(&["installations", "refresh", &id]).run().await;
    let line = up.program.wait_for_line(&["[REFRESH]"], PATIENCE).await;
    let fields: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(fields["installation"], id);
    assert_eq!(
        fields["message"],
        format!("[REFRESH] {id} – new token good for 23.9 h")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_key_files_have_mode_600() {
    use std::os::unix::fs::PermissionsExt;
    let up = Up::start(&[]).await;
    for file in ["access.keys", "refresh.keys"] {
        let path = std::path::Path::new(&up.data_dir()).join(file);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn private_integration_token_is_never_refreshed() {
    let token = "pit-00000000-0000-4000-8000-000000000000";
    let up = Up::start(&[("GHL_ACCESS_TOKEN", token), ("GHL_LOCATION_ID", "locP")]).await;
    let url = format!("{}/api/oauth/status?locationId=locP", up.public);
    let seen = until("its installation", PATIENCE, || async {
        let (code, body) = get(&up.client, &url).await;
        if code == 200 {
            Ok(body)
        } else {
            Err(body.to_string())
        }
    })
    .await;
    assert_eq!(
        (&seen["tokenStatus"], &seen["nextRefreshAt"]),
        (&json!("static"), &json!(null))
    );
    // The sandbox does not know this token. The caller sees its response.
    let url = format!("{}/api/ghl/products?locationId=locP", up.public);
    let (code, body) = get(&up.client, &url).await;
    assert_eq!(
        (code, &body["message"]),
        (401, &json!("Invalid JWT")),
        "{body}"
    );
    assert_eq!(
        up.sandbox.count("calls_with_unknown_token").await,
        1,
        "the call was not retried"
    );
    // A consent for the same location replaces the static token for good.
    let id = up.install("locP").await;
    assert_eq!(seen["installationId"], id);
    let (code, body) = get(&up.client, &url).await;
    assert_eq!(code, 200, "{body}");
}
