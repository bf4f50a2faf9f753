//! Access tokens for services that call GHL themselves.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tests::client::{self, send};
use tests::up::Up;
use tests::wait::{holds, until};
use tokio::time::Instant;

use super::{PATIENCE, UNKNOWN_ID, create_key, echo_of};

#[tokio::test(flavor = "multi_thread")]
async fn token_endpoint_requires_tokens_scope() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let apart = up.install("locB").await;
    let token = |id: &str| {
        let url = format!("{}/v1/installations/{id}/token", up.internal);
        client::anonymous().get(url)
    };
    assert_eq!(send(token(&id)).await.0, 401);

    let proxy = create_key(&up, &["--name", "p"]).await;
    let tokens = create_key(
        &up,
        &["--name", "t", "--scope", "tokens", "--installation", &id],
    )
    .await;
    let both = ["--name", "b", "--scope", "tokens", "--scope", "proxy"];
    let both = create_key(&up, &both).await;
    for (key, tokens_status, proxy_status) in
        [(&proxy, 403, 200), (&tokens, 200, 403), (&both, 200, 200)]
    {
        let (status, body) = send(token(&id).bearer_auth(key)).await;
        assert_eq!(status, tokens_status, "{body}");
        let (status, body) = send(echo_of(&up, &id).bearer_auth(key)).await;
        assert_eq!(status, proxy_status, "{body}");
    }
    assert_eq!(send(token(&apart).bearer_auth(&tokens)).await.0, 403);
    assert_eq!(send(token(&apart).bearer_auth(&both)).await.0, 200);
    let public = format!("{}/v1/installations/{id}/token", up.public);
    let (status, _) = send(up.client.get(public).bearer_auth(&both)).await;
    assert_eq!(status, 404, "the public listener does not return tokens");
}

async fn token(client: &Client, up: &Up, id: &str, query: &str) -> (u16, Option<String>, Value) {
    let url = format!("{}/v1/installations/{id}/token{query}", up.internal);
    let response = client.get(url).send().await.unwrap();
    let header = |name: &str| {
        let value = response.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let (status, tag) = (response.status().as_u16(), header("etag"));
    if status == 200 {
        assert_eq!(header("cache-control").as_deref(), Some("no-store"));
    }
    (status, tag, client::body(response).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn token_endpoint_returns_working_token_with_generation_as_etag() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let (status, tag, body) = token(&up.client, &up, &id, "").await;
    assert_eq!((status, tag.as_deref()), (200, Some("\"1\"")), "{body}");
    assert_eq!(body["generation"], "1");
    assert_eq!(body["installation_id"], id);
    assert_eq!(body["location_id"], "locA");
    assert!(body["expires_in"].as_u64().unwrap() > 86_000, "{body}");
    let direct = up
        .client
        .get(format!("{}/_sandbox/echo", up.sandbox.url))
        .bearer_auth(body["access_token"].as_str().unwrap())
        .header("version", "2021-07-28");
    let (status, arrived) = send(direct).await;
    assert_eq!((status, &arrived["authClassId"]), (200, &json!("locA")));
    assert_eq!(
        token(&up.client, &up, "locA", "").await.2["generation"],
        "1"
    );

    let url = format!("{}/v1/installations/{id}/token", up.internal);
    let known = async |tag: &str| {
        let request = up.client.get(&url).header("if-none-match", tag);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        assert_eq!(response.headers()["cache-control"], "no-store");
        (status, response.text().await.unwrap())
    };
    assert_eq!(known("\"1\"").await, (304, String::new()));
    assert_eq!(known("\"0\"").await.0, 200);
    let refreshed = up.command(&["installations", "refresh", &id]).run().await;
    assert!(refreshed.status.success(), "{refreshed:?}");
    until("the next generation", PATIENCE, || async {
        let seen = known("\"1\"").await;
        holds(seen.0 == 200, seen)
    })
    .await;
    assert_eq!(known("\"2\"").await.0, 304);
}

#[tokio::test(flavor = "multi_thread")]
async fn min_ttl_is_met_by_at_most_one_refresh() {
    // A quarter of it is the least age of a token that `min_ttl` replaces.
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "40s")]).await;
    let id = up.install("locA").await;
    let installed = Instant::now();
    let (_, _, first) = token(&up.client, &up, &id, "?min_ttl=20s").await;
    assert_eq!(first["generation"], "1", "there is enough left: {first}");

    // No token has its full lifetime left when it is requested.
    let second = until("a refresh", PATIENCE, || async {
        let (status, tag, body) = token(&up.client, &up, &id, "?min_ttl=40s").await;
        assert_eq!(status, 200, "{body}");
        holds(tag.as_deref() == Some("\"2\""), &body).map(|()| body)
    })
    .await;
    assert!(
        installed.elapsed() >= Duration::from_secs(9),
        "it was too young"
    );
    assert_ne!(second["access_token"], first["access_token"]);
    for _ in 0..10 {
        let (_, _, again) = token(&up.client, &up, &id, "?min_ttl=40s").await;
        assert_eq!(again["generation"], "2", "{again}");
    }
    assert_eq!(up.sandbox.count("refresh_tokens_spent").await, 1);

    for impossible in ["41s", "30", "soon", "-1m"] {
        let query = format!("?min_ttl={impossible}");
        let (status, _, refusal) = token(&up.client, &up, &id, &query).await;
        assert_eq!(status, 400, "{impossible}: {refusal}");
        assert!(refusal["message"].to_string().contains("min_ttl"));
    }
    let (status, _, refusal) = token(&up.client, &up, UNKNOWN_ID, "?min_ttl=1s").await;
    assert_eq!(
        (status, &refusal["code"]),
        (400, &json!("installation_not_found"))
    );
    assert_eq!(up.sandbox.count("refresh_tokens_spent").await, 1);
}
