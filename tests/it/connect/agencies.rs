//! The link is for a location, and its agency consents: apps with bulk installation get the agency's token then.

use tests::sandbox::AGENCY;

use super::*;

const LOCATION: &str = "sandboxHarborDental1";

#[tokio::test(flavor = "multi_thread")]
async fn location_of_the_link_is_connected_by_its_agency() {
    let up = Up::start(&[RETURN_URLS]).await;
    let request = json!({
        "return_to": BACK, "location_id": LOCATION, "external_id": "42", "tags": ["vip"],
    });
    let link = link(&up.internal, request).await;
    let browser = Browser::new(&up.public);
    let choice = format!("companyId={AGENCY}");
    let result = browser.consent(&link, &choice).await.result(BACK);
    assert_eq!(result["status"], "connected", "{result:?}");
    let seen = (&*result["location_id"], &*result["company_id"]);
    assert_eq!(seen, (LOCATION, AGENCY));
    assert_eq!(result["external_id"], "42");
    let location = shown(&up, "42").await;
    assert_eq!(
        location["installationId"],
        result["installation_id"].as_str()
    );
    assert_eq!(
        (&location["locationId"], &location["tags"]),
        (&json!(LOCATION), &json!(["vip"]))
    );
    let agency = shown(&up, AGENCY).await;
    assert_eq!(location["parentId"], agency["installationId"]);
    assert_eq!(
        (&agency["externalId"], &agency["tags"]),
        (&json!(null), &json!([]))
    );
    let call = format!("{}/ghl/contacts/?locationId={LOCATION}&limit=1", up.public);
    let call = up.client.get(call).header("x-installation-id", "42");
    let (status, body) = send(call).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn agency_without_the_location_of_the_link_is_another_account() {
    let up = Up::start(&[RETURN_URLS]).await;
    let request = json!({ "return_to": BACK, "location_id": "locA", "external_id": "42" });
    let link = link(&up.internal, request).await;
    let choice = format!("companyId={AGENCY}&locations={LOCATION}");
    let browser = Browser::new(&up.public);
    let result = browser.consent(&link, &choice).await.result(BACK);
    let seen = (&*result["status"], &*result["code"], &*result["company_id"]);
    assert_eq!(seen, ("error", "other_account", AGENCY), "{result:?}");
    assert_eq!(shown(&up, "42").await["code"], "installation_not_found");
}
