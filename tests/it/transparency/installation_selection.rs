//! How a request selects its installation.

use reqwest::RequestBuilder;
use serde_json::json;
use tests::client::send;

use super::{AGENCY, EchoGateway, sha256};

/// A JSON body with unusual whitespace.
fn body(members: &str) -> String {
    format!("{{ \"x\" :1.0, {members},\n\"x\":[ ] }} ")
}

impl EchoGateway {
    fn post_json(&self, path: &str, members: &str) -> RequestBuilder {
        let request = self.post(path).body(body(members));
        request.header("content-type", "application/json; charset=utf-8")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn installation_is_selected_by_header_query_path_or_body() {
    let gateway = EchoGateway::new().await;
    let (id, agency) = (&gateway.location, &gateway.agency);
    let get = |path: String| gateway.get(&path);
    let header = |name: &str| gateway.get("/ghl/x").header("X-Installation-Id", name);
    for (request, expected) in [
        (header(id), "locA"),
        (header("locA"), "locA"),
        (header(agency), AGENCY),
        (header(AGENCY), AGENCY),
        (get(format!("/ghl/x?a=1&installation_id={id}&b=2")), "locA"),
        (get("/ghl/x?installation_id=locA".to_owned()), "locA"),
        (get(format!("/ghl/x?installation_id={AGENCY}")), AGENCY),
        (get("/ghl/x?locationId=locA".to_owned()), "locA"),
        (get("/ghl/x?locationId=loc%41".to_owned()), "locA"),
        (get("/ghl/x?altId=locA&altType=location".to_owned()), "locA"),
        (get("/ghl/x?altId=locA".to_owned()), "locA"),
        (
            get(format!("/ghl/x?altType=company&altId={AGENCY}")),
            AGENCY,
        ),
        (get("/ghl/locations/locA".to_owned()), "locA"),
        (get("/ghl/locations/locA/tags/7?x=1".to_owned()), "locA"),
    ] {
        let arrived = gateway.arrived(request).await;
        assert_eq!(arrived["authClassId"], expected, "{arrived}");
    }
    for (members, expected) in [
        ("\"locationId\":\"locA\"".to_owned(), "locA"),
        ("\"loc\\u0061tionId\":\"locA\"".to_owned(), "locA"),
        (format!("\"companyId\":\"{AGENCY}\""), AGENCY),
    ] {
        let arrived = gateway.arrived(gateway.post_json("/ghl/x", &members)).await;
        assert_eq!(arrived["authClassId"], expected, "{arrived}");
        let sent = sha256(body(&members).as_bytes());
        assert_eq!(
            arrived["body_sha256"], sent,
            "the body is read, not changed"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_selector_in_precedence_order_wins() {
    let gateway = EchoGateway::new().await;
    let (id, agency) = (&gateway.location, &gateway.agency);
    let as_company = format!("altId={AGENCY}&altType=company");
    let company = format!("\"companyId\":\"{AGENCY}\"");
    // An agency's token may be for any of its locations, so these selectors do not contradict each other. The
    // operation of `/locations/locA` takes the location's own token. GHL does not document `/x`.
    let header = |request: RequestBuilder, name: &str| request.header("X-Installation-Id", name);
    for (request, expected) in [
        (
            header(gateway.get("/ghl/x?locationId=locA"), agency),
            AGENCY,
        ),
        (header(gateway.get("/ghl/locations/locA"), agency), "locA"),
        (header(gateway.post_json("/ghl/x", &company), id), "locA"),
        (
            gateway.get(&format!("/ghl/x?locationId=locA&installation_id={agency}")),
            AGENCY,
        ),
        (
            gateway.get(&format!("/ghl/locations/locA?installation_id={agency}")),
            "locA",
        ),
        (
            gateway.get(&format!("/ghl/x?{as_company}&locationId=locA")),
            "locA",
        ),
        (
            gateway.get(&format!("/ghl/locations/locA?{as_company}")),
            "locA",
        ),
        (gateway.post_json("/ghl/locations/locA", &company), "locA"),
        (
            gateway.post_json("/ghl/x", &format!("{company}, \"locationId\":\"locA\"")),
            "locA",
        ),
        // A location without an installation of its own.
        (
            gateway.get(&format!("/ghl/locations/locX?{as_company}")),
            AGENCY,
        ),
        (
            gateway.post_json("/ghl/x?locationId=locX", &company),
            AGENCY,
        ),
    ] {
        let arrived = gateway.arrived(request).await;
        assert_eq!(arrived["authClassId"], expected, "{arrived}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contradicting_selectors_are_both_named_in_the_error() {
    let gateway = EchoGateway::new().await;
    let (id, agency) = (&gateway.location, &gateway.agency);
    let header = |request: RequestBuilder| request.header("X-Installation-Id", id);
    let before = gateway.sandbox.count("calls_ok").await;
    for (request, first, second) in [
        (
            header(gateway.get(&format!("/ghl/x?installation_id={agency}"))),
            id.as_str(),
            agency.as_str(),
        ),
        (header(gateway.get("/ghl/x?locationId=locX")), id, "locX"),
        (header(gateway.get("/ghl/x?altId=locX")), id, "locX"),
        (header(gateway.get("/ghl/locations/locX")), id, "locX"),
        (
            header(gateway.post_json("/ghl/x", "\"locationId\":\"locX\"")),
            id,
            "locX",
        ),
        (
            header(gateway.post_json("/ghl/x", "\"companyId\":\"other\"")),
            id,
            "other",
        ),
        (
            gateway.get("/ghl/locations/locX?locationId=locA"),
            "locA",
            "locX",
        ),
        (
            gateway.get(&format!(
                "/ghl/x?installation_id={agency}&altType=company&altId=other"
            )),
            agency,
            "other",
        ),
    ] {
        let what = format!("{request:?}");
        let (status, refusal) = send(request).await;
        assert_eq!(
            (status, &refusal["statusCode"]),
            (400, &json!(400)),
            "{what}"
        );
        let message = refusal["message"].as_str().unwrap();
        let (at, later) = (message.find(first), message.find(second));
        assert!(at.is_some() && at < later, "{what}: {message}");
    }
    assert_eq!(gateway.sandbox.count("calls_ok").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_or_unknown_selector_is_installation_not_found() {
    let gateway = EchoGateway::new().await;
    let before = gateway.sandbox.count("calls_ok").await;
    let unknown = "install_000000000000000000000000";
    for request in [
        gateway.get("/ghl/x"),
        gateway.get("/ghl/x?installation_id="),
        gateway.get("/ghl/locations/search"),
        gateway.get("/ghl/x").header("X-Installation-Id", unknown),
        gateway.get(&format!("/ghl/x?installation_id={unknown}")),
        gateway.get("/ghl/x?installation_id=install_nonsense"),
        gateway.get("/ghl/x?installation_id=a%20b%00"),
        gateway.get("/ghl/x?locationId=locX"),
        gateway.get("/ghl/locations/locX"),
        gateway.post_json("/ghl/x", "\"locationId\":\"locX\""),
        gateway.post_json("/ghl/x", "\"locationId\":7"),
        gateway.post_json("/ghl/x", "\"in\":{\"locationId\":\"locA\"}"),
        gateway.post("/ghl/x").body("{\"locationId\":\"locA\"}"),
        gateway.get("/api/ghl/products"),
        gateway.get("/api/ghl/test-connection?installation_id=locX"),
        gateway.post_json("/api/ghl/products/create", "\"name\":\"p\""),
        gateway.post("/api/ghl/medias/upload-file").body("x"),
    ] {
        let what = format!("{request:?}");
        let (status, refusal) = send(request).await;
        assert_eq!(status, 400, "{what}");
        let message = refusal["message"].as_str().unwrap();
        assert!(message.starts_with("Installation not found: "), "{message}");
        let hint = refusal["hint"].as_str().unwrap();
        assert!(hint.contains("X-Installation-Id") && hint.contains("/oauth/install"));
    }
    assert_eq!(gateway.sandbox.count("calls_ok").await, before);
}
