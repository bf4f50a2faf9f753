//! The first keys, and listeners that need one.

use tests::client::KEY;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn first_start_over_ghl_prints_one_key_and_needs_it() {
    let sandbox = Sandbox::start(&[]).await;
    let scratch = Scratch::new();
    let (public, internal) = (port::free(), port::free());
    let here = |port| format!("127.0.0.1:{port}");
    let start = exposed(&scratch, &here(public), &here(internal))
        .env("GHL_CLIENT_ID", "sandbox-client")
        .env("GHL_CLIENT_SECRET", "sandbox-secret")
        .env("GHL_API_URL", &sandbox.url)
        .env(
            "GHL_AUTHORIZE_URL",
            format!("{}/v2/oauth/chooselocation", sandbox.url),
        );
    let up = start.spawn();
    wait_for_port(internal).await;
    let shown = up.wait_for_line(&["API key", "evg_"], PATIENCE).await;
    let key = shown
        .split_whitespace()
        .find(|word| word.starts_with("evg_"))
        .unwrap();
    let public = format!("http://{}", here(public));
    let id = client::install(&client::anonymous(), &public, "locA").await;
    let call = || {
        let call = client::anonymous().get(format!("{public}/ghl/_sandbox/echo/x"));
        call.header("x-installation-id", &id)
    };
    assert_eq!(send(call()).await.0, 401);
    assert_eq!(send(call().bearer_auth(key)).await.0, 200);

    let (code, _) = up.terminate(PATIENCE).await;
    assert_eq!(code, Some(0));
    let again = start.spawn();
    again.wait_for_line(&["evergreen is up"], PATIENCE).await;
    assert!(
        !again.log().join("\n").contains("evg_0"),
        "the key is shown once"
    );
    assert!(
        !again.log().iter().any(|line| line.contains("API key")),
        "{:#?}",
        again.log()
    );
    until_status(200, PATIENCE, || call().bearer_auth(key)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bootstrap_key_comes_from_the_settings() {
    let key = "evg_of_a_deployment_0123456789abcdef";
    let up = Up::start(&[("EVERGREEN_BOOTSTRAP_KEY", key)]).await;
    let id = up.install("locA").await;
    assert_eq!(send(echo_of(&up, &id).bearer_auth(key)).await.0, 200);
    assert!(!up.program.log().join("\n").contains(key));
    let revoked = up.command(&["keys", "revoke", "first"]).run().await;
    assert!(revoked.status.success(), "{revoked:?}");
    until_status(401, PATIENCE, || echo_of(&up, &id).bearer_auth(key)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_beyond_loopback_need_keys() {
    let scratch = Scratch::new();
    let (public, internal) = (port::free(), port::free());
    let everywhere = |port| format!("0.0.0.0:{port}");
    let up = exposed(&scratch, &everywhere(public), &everywhere(internal)).spawn();
    for port in [public, internal] {
        wait_for_port(port).await;
    }
    let admin = KEY.to_owned();
    let (client, at) = (client::anonymous(), format!("http://127.0.0.1:{internal}"));
    let scraper = Start::evergreen(&["keys", "create", "--name", "m", "--scope", "metrics"])
        .env("EVERGREEN_DATA_DIR", scratch.join("data"))
        .env("EVERGREEN_ADMIN_URL", &at)
        .env("EVERGREEN_ADMIN_KEY", &admin);
    let scraper = key_of(scraper).await;

    let ask = async |path: &str, key: Option<&str>| {
        let request = client.get(format!("{at}{path}"));
        let request = match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        send(request).await.0
    };
    until("readiness, which needs no key", PATIENCE, || async {
        holds(ask("/readyz", None).await == 200, up.log())
    })
    .await;
    assert_eq!(ask("/livez", None).await, 200);
    let admin_path = "/v1/installations";
    for (path, key, expected) in [
        ("/metrics", None, 401),
        ("/metrics", Some("evg_wrong"), 401),
        ("/metrics", Some(scraper.as_str()), 200),
        ("/metrics", Some(admin.as_str()), 200),
        (admin_path, None, 401),
        (admin_path, Some(scraper.as_str()), 403),
        (admin_path, Some(admin.as_str()), 200),
        ("/v1/keys", None, 401),
        ("/v1/installations/locA/token", None, 401),
        ("/v1/installations/locA/token", Some(scraper.as_str()), 403),
        ("/v1/installations/locA/token", Some(admin.as_str()), 400),
    ] {
        assert_eq!(ask(path, key).await, expected, "{path} {key:?}");
    }
    let public = format!("http://127.0.0.1:{public}/ghl/locations/locA");
    assert_eq!(get(&client, &public).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_on_redis_requires_a_key() {
    let redis = Redis::start().await;
    let port = port::free();
    let ring = KeyRing::generate_text("it");
    let gateway = Start::evergreen(&["gateway"])
        .env("EVERGREEN_REDIS_URL", redis.url())
        .env("EVERGREEN_ACCESS_KEYS", ring.expose_secret())
        .env("EVERGREEN_LISTEN", format!("0.0.0.0:{port}"))
        .env(
            "EVERGREEN_INTERNAL_LISTEN",
            format!("127.0.0.1:{}", port::free()),
        );
    let keys = |args: &[&str]| {
        Start::evergreen(&["keys"])
            .args(args)
            .env("EVERGREEN_REDIS_URL", redis.url())
    };
    let key = key_of(keys(&["create", "--name", "shop"])).await;
    let _gateway = gateway.spawn();
    wait_for_port(port).await;
    let client = client::anonymous();
    let url =
        format!("http://127.0.0.1:{port}/ghl/x?installation_id=install_000000000000000000000000");
    let call = || client.get(&url).bearer_auth(&key);
    assert_eq!(get(&client, &url).await.0, 401);
    until_status(400, PATIENCE, call).await;
    let revoked = keys(&["revoke", "shop"]).run().await;
    assert!(revoked.status.success(), "{revoked:?}");
    let waited = until_status(401, PATIENCE, call).await;
    assert!(waited < WITHIN_A_SECOND, "{waited:?}");
}
