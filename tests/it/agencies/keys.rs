//! Keys that are limited to an agency or to one of its locations.

use reqwest::Client;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tests::client;

use super::*;

/// A client with a key for this installation alone.
async fn limited_to(up: &Up, installation: &str) -> Client {
    let key = json!({ "name": "limited", "scopes": ["proxy"], "installations": [installation] });
    let url = format!("{}/v1/keys", up.internal);
    let (status, created) = client::send(up.client.post(url).json(&key)).await;
    assert_eq!(status, 201, "{created}");
    let bearer = format!("Bearer {}", created["key"].as_str().unwrap());
    let bearer = HeaderValue::from_str(&bearer).unwrap();
    Client::builder()
        .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn key_of_an_agency_is_for_its_locations_and_key_of_a_location_for_one() {
    let up = Up::start(&[]).await;
    let agency = consent(&up).await;
    until_listed(&up, &agency, 3).await;
    let stranger = up.install("locA").await;
    let url = |location: &str| format!("{}/ghl/contacts/?locationId={location}", up.public);
    let of_agency = limited_to(&up, &agency).await;
    for location in LOCATIONS {
        let (status, body) = get(&of_agency, &url(location)).await;
        assert_eq!(status, 200, "{location}: {body}");
    }
    assert_eq!(
        get(&of_agency, &url("locA")).await.0,
        403,
        "it has a grant of its own"
    );

    let first = shown(&up, LOCATIONS[0]).await["installationId"]
        .as_str()
        .unwrap()
        .to_owned();
    let of_location = limited_to(&up, &first).await;
    assert_eq!(get(&of_location, &url(LOCATIONS[0])).await.0, 200);
    assert_eq!(get(&of_location, &url(LOCATIONS[1])).await.0, 403);
    // A key for another installation causes no question about an unknown location.
    let of_stranger = limited_to(&up, &stranger).await;
    assert_eq!(get(&of_stranger, &url("nobodysLocation00001")).await.0, 403);
    assert_eq!(up.sandbox.count("location_tokens_refused").await, 0);
}
