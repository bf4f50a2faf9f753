//! Which installation a request is about.

use reqwest::RequestBuilder;
use serde_json::json;
use tests::client::send;

use super::{AGENCY, Mirror, sha256};

/// A body with the layout of no serializer.
fn body(members: &str) -> String {
    format!("{{ \"x\" :1.0, {members},\n\"x\":[ ] }} ")
}

impl Mirror {
    fn post_json(&self, path: &str, members: &str) -> RequestBuilder {
        let request = self.post(path).body(body(members));
        request.header("content-type", "application/json; charset=utf-8")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn installation_is_selected_by_header_query_path_or_body() {
    let mirror = Mirror::new().await;
    let (id, agency) = (&mirror.location, &mirror.agency);
    let get = |path: String| mirror.get(&path);
    let header = |name: &str| mirror.get("/ghl/x").header("X-Installation-Id", name);
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
        let arrived = mirror.arrived(request).await;
        assert_eq!(arrived["authClassId"], expected, "{arrived}");
    }
    for (members, expected) in [
        ("\"locationId\":\"locA\"".to_owned(), "locA"),
        ("\"loc\\u0061tionId\":\"locA\"".to_owned(), "locA"),
        (format!("\"companyId\":\"{AGENCY}\""), AGENCY),
    ] {
        let arrived = mirror.arrived(mirror.post_json("/ghl/x", &members)).await;
        assert_eq!(arrived["authClassId"], expected, "{arrived}");
        let sent = sha256(body(&members).as_bytes());
        assert_eq!(arrived["body_sha256"], sent, "looked into, not touched");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_selector_in_precedence_order_wins() {
    let mirror = Mirror::new().await;
    let (id, agency) = (&mirror.location, &mirror.agency);
    let as_company = format!("altId={AGENCY}&altType=company");
    let company = format!("\"companyId\":\"{AGENCY}\"");
    // An agency's token may be for any of its locations, so these do not contradict each other.
    let header = |request: RequestBuilder, name: &str| request.header("X-Installation-Id", name);
    for (request, expected) in [
        (header(mirror.get("/ghl/x?locationId=locA"), agency), AGENCY),
        (header(mirror.get("/ghl/locations/locA"), agency), AGENCY),
        (header(mirror.post_json("/ghl/x", &company), id), "locA"),
        (
            mirror.get(&format!("/ghl/x?locationId=locA&installation_id={agency}")),
            AGENCY,
        ),
        (
            mirror.get(&format!("/ghl/locations/locA?installation_id={agency}")),
            AGENCY,
        ),
        (
            mirror.get(&format!("/ghl/x?{as_company}&locationId=locA")),
            "locA",
        ),
        (
            mirror.get(&format!("/ghl/locations/locA?{as_company}")),
            AGENCY,
        ),
        (mirror.post_json("/ghl/locations/locA", &company), "locA"),
        (
            mirror.post_json("/ghl/x", &format!("{company}, \"locationId\":\"locA\"")),
            "locA",
        ),
        // A location that is installed only with its agency.
        (
            mirror.get(&format!("/ghl/locations/locX?{as_company}")),
            AGENCY,
        ),
        (mirror.post_json("/ghl/x?locationId=locX", &company), AGENCY),
    ] {
        let arrived = mirror.arrived(request).await;
        assert_eq!(arrived["authClassId"], expected, "{arrived}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contradicting_selectors_are_both_named_in_the_error() {
    let mirror = Mirror::new().await;
    let (id, agency) = (&mirror.location, &mirror.agency);
    let header = |request: RequestBuilder| request.header("X-Installation-Id", id);
    let before = mirror.sandbox.count("calls_ok").await;
    for (request, first, second) in [
        (
            header(mirror.get(&format!("/ghl/x?installation_id={agency}"))),
            id.as_str(),
            agency.as_str(),
        ),
        (header(mirror.get("/ghl/x?locationId=locX")), id, "locX"),
        (header(mirror.get("/ghl/x?altId=locX")), id, "locX"),
        (header(mirror.get("/ghl/locations/locX")), id, "locX"),
        (
            header(mirror.post_json("/ghl/x", "\"locationId\":\"locX\"")),
            id,
            "locX",
        ),
        (
            header(mirror.post_json("/ghl/x", "\"companyId\":\"other\"")),
            id,
            "other",
        ),
        (
            mirror.get("/ghl/locations/locX?locationId=locA"),
            "locA",
            "locX",
        ),
        (
            mirror.get(&format!(
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
    assert_eq!(mirror.sandbox.count("calls_ok").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_or_unknown_selector_is_installation_not_found() {
    let mirror = Mirror::new().await;
    let before = mirror.sandbox.count("calls_ok").await;
    let nobody = "install_000000000000000000000000";
    for request in [
        mirror.get("/ghl/x"),
        mirror.get("/ghl/x?installation_id="),
        mirror.get("/ghl/locations/search"),
        mirror.get("/ghl/x").header("X-Installation-Id", nobody),
        mirror.get(&format!("/ghl/x?installation_id={nobody}")),
        mirror.get("/ghl/x?installation_id=install_nonsense"),
        mirror.get("/ghl/x?installation_id=a%20b%00"),
        mirror.get("/ghl/x?locationId=locX"),
        mirror.get("/ghl/locations/locX"),
        mirror.post_json("/ghl/x", "\"locationId\":\"locX\""),
        mirror.post_json("/ghl/x", "\"locationId\":7"),
        mirror.post_json("/ghl/x", "\"in\":{\"locationId\":\"locA\"}"),
        mirror.post("/ghl/x").body("{\"locationId\":\"locA\"}"),
        mirror.get("/api/ghl/products"),
        mirror.get("/api/ghl/test-connection?installation_id=locX"),
        mirror.post_json("/api/ghl/products/create", "\"name\":\"p\""),
        mirror.post("/api/ghl/medias/upload-file").body("x"),
    ] {
        let what = format!("{request:?}");
        let (status, refusal) = send(request).await;
        assert_eq!(status, 400, "{what}");
        let message = refusal["message"].as_str().unwrap();
        assert!(message.starts_with("Installation not found: "), "{message}");
        let hint = refusal["hint"].as_str().unwrap();
        assert!(hint.contains("X-Installation-Id") && hint.contains("/oauth/install"));
    }
    assert_eq!(mirror.sandbox.count("calls_ok").await, before);
}
