//! Secrets are planted everywhere, every route and every failure of GHL is tried at trace level, and everything that
//! leaves the processes is searched for them.

mod connecting;
mod search;

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tests::client::{self, KEY, send};
use tests::fleet::{Fleet, FleetConfig, Member};
use tests::program::Start;
use tests::receiver::{Mood, Receiver, SECRET};
use tests::wait::{holds, until};

use search::{Search, collector, position};

const PATIENCE: Duration = Duration::from_secs(90);

/// The secret of the app, as [`Fleet`] sets it.
const CLIENT_SECRET: &str = "sandbox-secret";

/// The shared secret of the app.
const SSO_KEY: &str = "6f1f6b0e-3a0f-4a52-9b7c-5d1a2c3e4f50";

/// A key of nobody.
const STRAY_KEY: &str = "evg_stray0000000000000000000000000000000000";

/// How each access and refresh token of the sandbox begins.
const TOKEN: &str = "eyJhbGciOi";

/// The failures of GHL's token endpoint. The last one pauses the broker.
fn token_faults() -> Vec<Value> {
    let status = |status: u16| json!({ "kind": "status", "status": status });
    let wrong = |body: &str| json!({ "kind": "status", "status": 200, "body": body });
    let odd = |oddity: &str| json!({ "kind": "odd_answer", "oddity": oddity });
    let echo = |status: u16| json!({ "kind": "echo", "status": status });
    vec![
        status(400),
        status(403),
        status(404),
        status(422),
        status(429),
        status(500),
        json!({ "kind": "status", "status": 502, "body": "html" }),
        json!({ "kind": "status", "status": 503, "body": "truncated_json" }),
        wrong("html"),
        wrong("truncated_json"),
        wrong("missing_fields"),
        wrong("missing_refresh_token"),
        json!({ "kind": "invalid_grant" }),
        json!({ "kind": "location_inactive" }),
        json!({ "kind": "hang", "ms": 700 }),
        json!({ "kind": "reset_before" }),
        json!({ "kind": "process_then_lose" }),
        json!({ "kind": "slow_body", "ms": 300 }),
        odd("scope_array"),
        odd("booleans_as_text"),
        odd("camel_case"),
        odd("byte_order_mark"),
        odd("wrapped"),
        odd("gzip"),
        json!({ "kind": "odd_answer", "oddity": "expires_in", "value": "soon" }),
        odd("unreadable"),
        odd("foreign"),
        echo(400),
        echo(403),
        echo(422),
        echo(500),
        echo(401),
        json!({ "kind": "invalid_client" }),
    ]
}

/// The failures of GHL's API.
fn api_faults() -> Vec<Value> {
    vec![
        json!({ "kind": "status", "status": 401 }),
        json!({ "kind": "status", "status": 429 }),
        json!({ "kind": "status", "status": 502, "body": "html" }),
        json!({ "kind": "reset_before" }),
        json!({ "kind": "process_then_lose" }),
        json!({ "kind": "slow_body", "ms": 300 }),
        json!({ "kind": "echo", "status": 400 }),
        json!({ "kind": "echo", "status": 401 }),
        json!({ "kind": "echo", "status": 500 }),
    ]
}

/// A deployment whose processes log and export everything.
async fn traced_fleet(collector: &str, receiver: &Receiver) -> Fleet {
    let of_events = receiver.settings();
    let of_events = of_events.iter().map(|(key, value)| (*key, value.as_str()));
    let mut settings = vec![
        ("EVERGREEN_LOG", "trace"),
        ("EVERGREEN_LOG_FORMAT", "json"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector),
        ("EVERGREEN_TOKEN_TIMEOUT", "500ms"),
        ("EVERGREEN_RESPONSE_TIMEOUT", "5s"),
    ];
    settings.extend(of_events);
    let config = FleetConfig {
        brokers: 1,
        lock_nodes: 1,
        sandbox: &[],
        settings: &settings,
    };
    let broker = || Start::evergreen(&["broker"]).env("GHL_SSO_KEY", SSO_KEY);
    Fleet::start_with_broker(&config, broker).await
}

fn plant_settings(fleet: &Fleet, search: &mut Search) {
    search.plant("the client secret", CLIENT_SECRET);
    search.plant("the shared secret of the app", SSO_KEY);
    search.plant("a token of GHL", TOKEN);
    search.plant("an administrator's key", KEY);
    search.plant("a key of nobody", STRAY_KEY);
    let (_, secret) = SECRET.split_once('_').unwrap();
    search.plant("the secret of events", secret);
    for ring in ["access-keys", "refresh-keys"] {
        let ring = std::fs::read_to_string(fleet.redis.file(ring)).unwrap();
        let (_, key) = ring.trim().split_once(':').unwrap();
        search.plant("a sealing key", key);
    }
    for urls in ["broker-redis-url", "gateway-redis-url", "lock-urls"] {
        let urls = std::fs::read_to_string(fleet.redis.file(urls)).unwrap();
        let (login, _) = urls.split_once('@').unwrap();
        let (_, password) = login.rsplit_once(':').unwrap();
        search.plant("a password of Redis", password);
    }
}

/// Consents, in every way in which they end.
async fn consents(fleet: &Fleet, search: &mut Search) -> String {
    let public = &fleet.haproxy.url;
    let browser = client::anonymous();
    let mut id = String::new();
    for fault in [
        None,
        Some(json!({ "kind": "echo", "status": 400 })),
        Some(json!({ "kind": "echo", "status": 500 })),
        Some(json!({ "kind": "status", "status": 502, "body": "html" })),
        Some(json!({ "kind": "odd_answer", "oddity": "unreadable" })),
    ] {
        if let Some(mut fault) = fault {
            fault["on"] = json!("token");
            fault["grant"] = json!("authorization_code");
            fault["next"] = json!(9);
            fleet.sandbox.faults(json!([fault])).await;
        }
        let callback = client::consented(&browser, public, ("locationId", "locA"))
            .await
            .unwrap();
        let request = callback.try_clone().unwrap().build().unwrap();
        for (name, value) in request.url().query_pairs() {
            if matches!(&*name, "code" | "state") {
                search.plant(&format!("a {name} of a consent"), &value);
            }
        }
        let cookie = request.headers()["cookie"].to_str().unwrap();
        let (_, cookie) = cookie.split_once('=').unwrap();
        search.plant("the cookie of a consent", cookie);
        let again = callback.try_clone().unwrap();
        let (_, answer) = search.tell(callback).await;
        if let Some(made) = answer["installationId"].as_str() {
            made.clone_into(&mut id);
        }
        // A state is good once.
        search.tell(again).await;
    }
    fleet.sandbox.faults(json!([])).await;
    for query in [
        format!("code={STRAY_KEY}"),
        format!("code={STRAY_KEY}&state={STRAY_KEY}"),
        format!("error=access_denied&error_description={STRAY_KEY}&state={STRAY_KEY}"),
        String::new(),
    ] {
        search
            .tell(browser.get(format!("{public}/oauth/callback?{query}")))
            .await;
    }
    id
}

/// Calls on each route of a gateway. Their answers are searched, unless they are the token itself, or GHL's own answer
/// to a call, which passes as it is.
async fn calls(fleet: &Fleet, id: &str, key: &str, search: &mut Search) {
    let public = &fleet.haproxy.url;
    let client = client::anonymous();
    let internal = &fleet.gateways[0].internal;
    let route = |method: Method, path: &str| {
        let url = format!("{public}{path}?installation_id={id}");
        client.request(method, url).bearer_auth(key)
    };
    for (method, path) in [
        (Method::GET, "/api/ghl/products"),
        (Method::POST, "/api/ghl/products/create"),
        (Method::POST, "/api/ghl/contacts/create"),
        (Method::POST, "/api/ghl/test-product"),
        (Method::POST, "/api/ghl/medias/upload-file"),
        (Method::GET, "/ghl/contacts/"),
    ] {
        let body = json!({ "name": "x", "email": "a@example.com", "productType": "DIGITAL" });
        send(route(method, path).json(&body)).await;
    }
    for (method, path) in [
        (Method::GET, "/api/ghl/test-connection"),
        (Method::GET, "/api/oauth/status"),
        (Method::GET, "/no/such/route"),
        (Method::DELETE, "/api/ghl/products"),
        (Method::GET, "/ghl/../x"),
        (Method::GET, "/health"),
    ] {
        search.tell(route(method, path)).await;
    }
    // Keys and tokens in wrong places.
    let own = send(
        client
            .get(format!("{internal}/v1/installations/{id}/token"))
            .bearer_auth(KEY),
    );
    let token = own.await.1["access_token"]
        .as_str()
        .unwrap_or(TOKEN)
        .to_owned();
    for stray in [STRAY_KEY, &token] {
        let call = || client.get(format!("{public}/ghl/contacts/"));
        search.tell(call().bearer_auth(stray)).await;
        search.tell(call().header("x-api-key", stray)).await;
        search.tell(call().basic_auth(stray, Some(stray))).await;
        let named = format!("{internal}/v1/installations/{id}/token?min_ttl=1h");
        search.tell(client.get(named).bearer_auth(stray)).await;
        let webhook = client.post(format!("{public}/webhooks/ghl"));
        let webhook = webhook
            .header("x-ghl-signature", stray)
            .json(&json!({ "x": stray }));
        search.tell(webhook).await;
        let refresh = format!(
            "http://{}/v1/installations/{id}/refresh?generation=1",
            fleet.brokers[0].address
        );
        search
            .tell(
                client
                    .post(refresh)
                    .header("authorization", format!("Evergreen a:{stray}")),
            )
            .await;
    }
}

/// Administration, with the command line's routes.
async fn administration(fleet: &Fleet, id: &str, admin: &Client, search: &mut Search) -> String {
    let internal = &fleet.brokers[0].internal;
    let url = |path: &str| format!("{internal}{path}");
    let new_key = json!({ "name": "planted", "scopes": ["proxy"] });
    let (_, made) = send(admin.post(url("/v1/keys")).json(&new_key)).await;
    let key = made["key"].as_str().unwrap().to_owned();
    search.plant("a caller's key", &key);
    let rotate = url(&format!("/v1/keys/{}/rotate", made["id"].as_str().unwrap()));
    let (_, rotated) = send(admin.post(rotate).json(&json!({ "overlap_ms": 3_600_000 }))).await;
    search.plant("a rotated key", rotated["key"].as_str().unwrap());
    for path in [
        "/v1/installations",
        &format!("/v1/installations/{id}"),
        "/v1/keys",
        "/readyz",
    ] {
        search.tell(admin.get(url(path))).await;
    }
    search
        .tell(
            client::anonymous()
                .get(url("/v1/keys"))
                .bearer_auth(STRAY_KEY),
        )
        .await;
    search
        .tell(
            admin
                .post(url("/v1/keys"))
                .json(&json!({ "name": "", "scopes": ["proxy"] })),
        )
        .await;
    backend(fleet, id, admin, search).await;
    key
}

/// The requests of a backend, and a call with a browser key.
async fn backend(fleet: &Fleet, id: &str, admin: &Client, search: &mut Search) {
    let (public, gateway) = (&fleet.haproxy.url, &fleet.gateways[0].internal);
    let new_key = json!({ "name": "backend", "scopes": ["connect", "proxy"] });
    let create = admin.post(format!("{}/v1/keys", fleet.brokers[0].internal));
    let (_, made) = send(create.json(&new_key)).await;
    let key = made["key"].as_str().unwrap().to_owned();
    search.plant("a backend's key", &key);
    let client = client::anonymous();
    let post = |path: &str| client.post(format!("{gateway}{path}")).bearer_auth(&key);
    let wanted = json!({ "installation": id, "calls": ["GET /contacts/*"] });
    let (_, made) = send(post("/v1/browser-keys").json(&wanted)).await;
    let of_browser = made["key"].as_str().unwrap().to_owned();
    search.plant("a browser key", &of_browser);
    let (_, signature) = of_browser.rsplit_once('.').unwrap();
    search.plant("the signature of a browser key", signature);
    let call = |path: &str| {
        client
            .get(format!("{public}{path}"))
            .bearer_auth(&of_browser)
    };
    send(call("/ghl/contacts/")).await;
    search.tell(call("/ghl/products/")).await;
    search.tell(call("/api/oauth/status")).await;
    let changed = format!("{of_browser}A");
    search
        .tell(
            client
                .get(format!("{public}/ghl/contacts/"))
                .bearer_auth(changed),
        )
        .await;
    for wrong in [
        json!({ "installation": id }),
        json!({ "installation": STRAY_KEY, "calls": [STRAY_KEY], "origin": "x" }),
        json!({ "installation": id, "calls": ["GET /contacts/*"], "origin": STRAY_KEY }),
    ] {
        let answer = post("/v1/browser-keys").json(&wrong);
        send(answer).await;
    }
    let (encrypted, name) = (super::sso::LOC_A, "Lovelace");
    search.plant("a user context", encrypted);
    search.plant("the name of a user", name);
    let (status, opened) =
        send(post("/v1/sso/decrypt").json(&json!({ "encryptedData": encrypted }))).await;
    assert_eq!((status, opened.to_string().contains(name)), (200, true));
    let wrong = json!({ "encryptedData": format!("{encrypted}AAAA") });
    search.tell(post("/v1/sso/decrypt").json(&wrong)).await;
}

/// Every failure of GHL, to a location of its own, so that one does not hide the next.
async fn failures(fleet: &Fleet, key: &str, admin: &Client, search: &mut Search) {
    let public = &fleet.haproxy.url;
    let browser = client::anonymous();
    for (number, mut fault) in token_faults().into_iter().enumerate() {
        let location = format!("loc{number:03}");
        let id = client::install(&browser, public, &location).await;
        fault["on"] = json!("token");
        fault["next"] = json!(1);
        fault["locationId"] = json!(location);
        fleet.sandbox.faults(json!([fault])).await;
        let refresh = format!(
            "{}/v1/installations/{id}/refresh?force=true",
            fleet.brokers[0].internal
        );
        search.tell(admin.post(refresh)).await;
        let shown = format!("{}/v1/installations/{id}", fleet.brokers[0].internal);
        search.tell(admin.get(shown)).await;
        let status = format!("{public}/api/oauth/status?installation_id={id}");
        search.tell(browser.get(status).bearer_auth(key)).await;
    }
    let id = "locA";
    for mut fault in api_faults() {
        fault["on"] = json!("api");
        fault["next"] = json!(1);
        fleet.sandbox.faults(json!([fault])).await;
        let call = format!("{public}/ghl/contacts/?installation_id={id}");
        send(browser.get(call).bearer_auth(key)).await;
        fleet.sandbox.faults(json!([fault])).await;
        let test = format!("{public}/api/ghl/test-connection?installation_id={id}");
        search.tell(browser.get(test).bearer_auth(key)).await;
    }
}

async fn collect(fleet: &mut Fleet, admin: &Client, traces: &Mutex<Vec<u8>>, search: &mut Search) {
    for member in fleet.brokers.iter().chain(&fleet.gateways) {
        search
            .tell(admin.get(format!("{}/metrics", member.internal)))
            .await;
        for file in ["cmdline", "comm", "status"] {
            let id = member.program.as_ref().unwrap().id();
            let path = format!("/proc/{id}/{file}");
            search.collect(path.clone(), std::fs::read(path).unwrap());
        }
    }
    for path in ["audit?limit=500", "events", "dead-letters", "apps"] {
        let url = format!("{}/v1/{path}", fleet.brokers[0].internal);
        search.tell(admin.get(url)).await;
    }
    // A process that ends sends the rest of its spans.
    for member in fleet.brokers.iter_mut().chain(&mut fleet.gateways) {
        let log = stop(member).await;
        search.collect("a log", log.join("\n"));
    }
    search.collect("the spans", traces.lock().unwrap().clone());
    let servers = std::iter::once(&fleet.redis.store).chain(&fleet.redis.locks);
    for server in servers {
        search.collect_files(&server.data_dir(), |_| false);
    }
    // The one file that is for a key.
    let is_admin_key = |path: &Path| path.ends_with("admin.key");
    search.collect_files(&fleet.data_dir(), is_admin_key);
}

/// The whole log of a process that was asked to stop.
async fn stop(member: &mut Member) -> Vec<String> {
    let program = member.program.as_ref().unwrap();
    program.signal(15);
    let log = || program.log().join("\n");
    until("the end of the process", PATIENCE, || async {
        let id = program.id();
        let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let has_ended = state.is_empty() || state.contains(") Z ");
        holds(has_ended, log().len())
    })
    .await;
    member.kill().await
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_secrets_appear_nowhere() {
    let (url, traces) = collector().await;
    let receiver = Receiver::start().await;
    receiver.be(Mood::Refuse(500));
    let mut fleet = traced_fleet(&url, &receiver).await;
    let mut search = Search::default();
    plant_settings(&fleet, &mut search);
    let admin = client::new();
    let id = consents(&fleet, &mut search).await;
    let key = administration(&fleet, &id, &admin, &mut search).await;
    calls(&fleet, &id, &key, &mut search).await;
    connecting::links(&fleet, &admin, &mut search).await;
    connecting::events(&fleet, &admin, &receiver, &mut search).await;
    failures(&fleet, &key, &admin, &mut search).await;
    collect(&mut fleet, &admin, &traces, &mut search).await;

    // The search would find them.
    let log = String::from_utf8_lossy(search.content_of("a log"));
    assert!(
        log.contains("\"TRACE\"") && log.contains("[removed]"),
        "the log is whole"
    );
    assert!(log.contains("a message was not delivered"));
    assert!(position(search.content_of("the spans"), b"request").is_some());
    let is_audited = search.found.iter().any(|(place, content)| {
        place.contains("/v1/audit") && position(content, b"connect_link_created").is_some()
    });
    assert!(is_audited, "the audit log was read");
    let stored = search.found.iter().any(|(place, content)| {
        place.contains("appendonly") && position(content, id.as_bytes()).is_some()
    });
    assert!(stored, "the store's files were read");
    search.expect_no_secret();
}
