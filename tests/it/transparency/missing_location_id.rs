//! The gateway adds `locationId` where GHL requires it and the caller omitted it.

use serde_json::{Value, json};
use tests::client::{self, send};
use tests::up::Up;

use super::{AGENCY, ECHO, EchoGateway, sha256};

#[tokio::test(flavor = "multi_thread")]
async fn missing_location_id_is_added_to_the_query() {
    let gateway = EchoGateway::new().await;
    let (id, agency) = (&gateway.location, &gateway.agency);
    for (query, expected) in [
        (format!("installation_id={id}"), "locationId=locA"),
        (
            format!("limit=2&installation_id={id}&offset=&x=%20"),
            "limit=2&offset=&x=%20&locationId=locA",
        ),
        (
            format!("locationId=locA&limit=2&installation_id={id}"),
            "locationId=locA&limit=2",
        ),
        ("locationId=loc%41".to_owned(), "locationId=loc%41"),
        (
            format!("installation_id={agency}&locationId=locX"),
            "locationId=locX",
        ),
    ] {
        let request = gateway.get(&format!("/api/ghl/products?{query}"));
        let arrived = gateway.arrived(request).await;
        assert_eq!(arrived["path"], format!("{ECHO}/products/"));
        assert_eq!(arrived["query"], expected);
    }
    let unnamed = format!("/api/ghl/products?installation_id={agency}");
    let (status, refusal) = send(gateway.get(&unnamed)).await;
    assert_eq!(status, 400);
    assert!(refusal["message"].to_string().contains("locationId"));
    let other = format!("/api/ghl/products?installation_id={id}&locationId=locB");
    assert_eq!(send(gateway.get(&other)).await.0, 400);

    let transparent = format!("/ghl/products/?installation_id={id}&limit=2");
    let arrived = gateway.arrived(gateway.get(&transparent)).await;
    assert_eq!(arrived["query"], "limit=2", "under /ghl nothing is added");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_location_id_is_added_to_the_body() {
    let gateway = EchoGateway::new().await;
    let (id, agency) = (&gateway.location, &gateway.agency);
    for path in ["products", "contacts"] {
        for (name, body, expected) in [
            (id, "{}", "{\"locationId\":\"locA\"}"),
            (
                id,
                " { \"name\": \"x\",  \"n\":1.0 }",
                " {\"locationId\":\"locA\", \"name\": \"x\",  \"n\":1.0 }",
            ),
            (
                id,
                "{\"name\":\"x\", \"locationId\":\"locA\"}",
                "{\"name\":\"x\", \"locationId\":\"locA\"}",
            ),
            (
                agency,
                "{\"locationId\":\"locX\"}",
                "{\"locationId\":\"locX\"}",
            ),
        ] {
            let url = format!("/api/ghl/{path}/create?installation_id={name}");
            let arrived = gateway
                .arrived(
                    gateway
                        .post(&url)
                        .header("content-type", "application/json")
                        .body(body),
                )
                .await;
            assert_eq!(arrived["path"], format!("{ECHO}/{path}/"));
            assert_eq!(arrived["method"], "POST");
            assert_eq!(
                arrived["body_sha256"],
                sha256(expected.as_bytes()),
                "{body}"
            );
            assert_eq!(arrived["headers"]["content-type"], "application/json");
        }
        for (name, body) in [
            (id, "{\"locationId\":\"locB\"}"),
            (id, "[]"),
            (id, "no json"),
            (agency, "{}"),
        ] {
            let url = format!("/api/ghl/{path}/create?installation_id={name}");
            let request = gateway
                .post(&url)
                .header("content-type", "application/json");
            let (status, refusal) = send(request.body(body)).await;
            assert_eq!(status, 400, "{body}: {refusal}");
        }
    }

    // An upload has no location id. GHL takes the location from the token.
    let form = "--b\r\nContent-Disposition: form-data; name=\"hosted\"\r\n\r\ntrue\r\n--b--\r\n";
    let url = format!("/api/ghl/medias/upload-file?installation_id={id}&x=1");
    let request = gateway.post(&url).body(form);
    let request = request.header("content-type", "multipart/form-data; boundary=b");
    let arrived = gateway.arrived(request).await;
    assert_eq!(arrived["path"], format!("{ECHO}/medias/upload-file"));
    assert_eq!(arrived["query"], "x=1");
    assert_eq!(arrived["body_sha256"], sha256(form.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn agency_token_works_and_is_refreshed() {
    let up = Up::start(&[]).await;
    let agency = client::install_agency(&up.client, &up.public, AGENCY).await;
    let ask = async |path: &str| {
        let url = format!("{}{path}", up.public);
        send(up.client.get(url).header("x-installation-id", &agency)).await
    };
    let (_, status) = ask(&format!("/api/oauth/status?installation_id={agency}")).await;
    assert_eq!(status["userType"], "Company");
    assert_eq!(status["companyId"], AGENCY);
    assert_eq!(status["locationId"], Value::Null);

    let search = format!("/ghl/locations/search?companyId={AGENCY}");
    let (code, found) = ask(&search).await;
    assert_eq!(code, 200, "{found}");
    let ids: Vec<_> = found["locations"].as_array().unwrap().iter().collect();
    assert!(ids.len() >= 3, "the agency's locations: {found}");
    let first = ids[0]["id"].as_str().unwrap();
    let (code, shown) = ask(&format!("/ghl/locations/{first}")).await;
    assert_eq!((code, &shown["location"]["id"]), (200, &json!(first)));
    let (code, other) = ask("/ghl/locations/search?companyId=other").await;
    assert_eq!(code, 400, "the agency contradicts the header: {other}");
    let (code, tested) = ask("/api/ghl/test-connection").await;
    assert_eq!((code, &tested["ok"]), (200, &json!(true)), "{tested}");

    let wish = json!({ "companyId": AGENCY, "locationId": first });
    let url = format!("{}/ghl/oauth/locationToken", up.public);
    let (code, token) = send(
        up.client
            .post(url)
            .header("x-installation-id", &agency)
            .json(&wish),
    )
    .await;
    assert_eq!(code, 200, "{token}");
    assert_eq!(token["locationId"], first);

    // It is refreshed like any other installation, and remains an agency.
    let refreshed = up
        .command(&["installations", "refresh", AGENCY])
        .run()
        .await;
    assert!(refreshed.status.success(), "{refreshed:?}");
    assert_eq!(ask(&search).await.0, 200);
    let again = client::install_agency(&up.client, &up.public, AGENCY).await;
    assert_eq!(again, agency, "the same agency is the same installation");
}
