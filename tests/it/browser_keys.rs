//! Keys that a backend gives to its web pages: for some calls of one installation, and for an hour at most.

use std::time::Duration;

use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use store::KeyRing;
use tests::client::{self, send};
use tests::fleet::Member;
use tests::testbed::Testbed;
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// The promise is one second. The rest is for a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// The calls that the pages of these tests may make: the sandbox's echo.
pub(crate) const ECHO: &str = "GET /_sandbox/echo/*";

/// Creates the key of a backend. `more`: further members of the request.
pub(crate) async fn backend_key(internal: &str, more: Value) -> String {
    let mut request = json!({ "name": "backend", "scopes": ["connect", "proxy"] });
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    let create = client::new().post(format!("{internal}/v1/keys"));
    let (status, made) = send(create.json(&request)).await;
    assert_eq!(status, 201, "{made}");
    made["key"].as_str().unwrap().to_owned()
}

/// Asks for a browser key with the key of a backend.
async fn ask(internal: &str, backend: &str, request: &Value) -> (u16, Value) {
    let ask = client::anonymous().post(format!("{internal}/v1/browser-keys"));
    send(ask.bearer_auth(backend).json(request)).await
}

/// As [`ask`], for a key that is given.
async fn browser_key(internal: &str, backend: &str, request: &Value) -> String {
    let (status, made) = ask(internal, backend, request).await;
    assert_eq!(status, 201, "{made}");
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("evb_"), "{made}");
    key.to_owned()
}

/// A call that the sandbox answers with the request it received.
fn echo(public: &str, key: &str) -> RequestBuilder {
    let call = client::anonymous().get(format!("{public}/ghl/_sandbox/echo/x"));
    call.bearer_auth(key)
}

/// Sends a request that is refused. Returns the status and the code.
async fn refused(request: RequestBuilder) -> (u16, String) {
    let (status, body) = send(request).await;
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn until_refused(
    expected: (u16, &str),
    patience: Duration,
    request: impl Fn() -> RequestBuilder,
) {
    until(expected.1, patience, || async {
        let seen = refused(request()).await;
        holds(seen == code(expected.0, expected.1), seen)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_key_makes_its_calls_for_its_installation_and_nothing_else() {
    let up = Up::start(&[("EVERGREEN_LOG", "trace")]).await;
    let own = up.install("locA").await;
    let other = up.install("locB").await;
    let backend = backend_key(&up.internal, json!({})).await;
    let wanted = json!({ "installation": "locA", "calls": [ECHO, "GET /oauth/*"] });
    let (status, made) = ask(&up.internal, &backend, &wanted).await;
    assert_eq!((status, &made["installation_id"]), (201, &json!(own)));
    assert_eq!(made["calls"], json!([ECHO, "GET /oauth/*"]));
    let key = made["key"].as_str().unwrap();

    for request in [
        echo(&up.public, key),
        echo(&up.public, key).header("x-installation-id", &own),
        echo(&up.public, key).header("x-installation-id", "locA"),
        echo(&up.public, key).header("origin", "https://any.example"),
    ] {
        let (status, arrived) = send(request).await;
        assert_eq!((status, &arrived["authClassId"]), (200, &json!("locA")));
        assert!(!arrived.to_string().contains(key), "{arrived}");
    }
    let open = client::anonymous();
    let public = |path: &str| open.get(format!("{}{path}", up.public)).bearer_auth(key);
    let internal = |path: &str| open.get(format!("{}{path}", up.internal)).bearer_auth(key);
    let token = format!("/v1/installations/{own}/token");
    let status_of_own = format!("/api/oauth/status?installation_id={own}");
    let url = format!("{}/ghl/_sandbox/echo/x", up.public);
    for (request, expected) in [
        (public("/ghl/contacts/"), code(403, "call_not_allowed")),
        (
            public("/ghl/_sandbox/echo/../ledger"),
            code(403, "call_not_allowed"),
        ),
        (
            open.post(&url).bearer_auth(key),
            code(403, "call_not_allowed"),
        ),
        (public("/api/ghl/products"), code(403, "call_not_allowed")),
        (
            public("/api/ghl/test-connection"),
            code(403, "call_not_allowed"),
        ),
        (public(&status_of_own), code(403, "call_not_allowed")),
        (
            echo(&up.public, key).header("x-installation-id", &other),
            code(403, "installation_not_allowed"),
        ),
        (
            public("/ghl/_sandbox/echo/x?locationId=locB"),
            code(403, "installation_not_allowed"),
        ),
        // Tokens, keys and administration, though it names a path of GHL that gives tokens.
        (internal(&token), code(403, "api_key_scope_missing")),
        (
            public("/ghl/oauth/locationToken"),
            code(403, "api_key_scope_missing"),
        ),
        (internal("/v1/keys"), code(401, "api_key_invalid")),
        (internal("/v1/installations"), code(401, "api_key_invalid")),
        (
            open.post(format!("{}/v1/browser-keys", up.internal))
                .bearer_auth(key)
                .json(&wanted),
            code(401, "api_key_invalid"),
        ),
    ] {
        let what = format!("{request:?}");
        assert_eq!(refused(request).await, expected, "{what}");
    }
    // Another key with this one's signature, and a changed one.
    let more = json!({ "installation": other, "calls": [ECHO] });
    let another = browser_key(&up.internal, &backend, &more).await;
    let signature = key.split_once('.').unwrap().1;
    let body = another.split_once('.').unwrap().0;
    for forged in [
        format!("{body}.{signature}"),
        format!("{key}A"),
        "evb_".to_owned(),
    ] {
        let expected = code(401, "api_key_invalid");
        assert_eq!(
            refused(echo(&up.public, &forged)).await,
            expected,
            "{forged}"
        );
    }

    let listed = up.command(&["keys", "list"]).run().await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.matches("backend").count(), 1, "{listed}");
    assert!(!listed.contains("evb_"), "{listed}");
    let log = up.program.log().join("\n");
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log has details"
    );
    assert!(!log.contains(signature), "no key is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_key_of_an_agency_names_none_of_its_locations() {
    let up = Up::start(&[]).await;
    let agency = client::install_agency(&up.client, &up.public, "sandboxNorthwindHQ01").await;
    let backend = backend_key(&up.internal, json!({})).await;
    let wanted = json!({ "installation": agency, "calls": [ECHO] });
    let key = browser_key(&up.internal, &backend, &wanted).await;
    let (status, arrived) = send(echo(&up.public, &key)).await;
    assert_eq!(status, 200, "{arrived}");
    assert_eq!(arrived["authClass"], "Company", "{arrived}");
    let named = "x?locationId=sandboxHarborDental1";
    let url = format!("{}/ghl/_sandbox/echo/{named}", up.public);
    let by_page = client::anonymous().get(&url).bearer_auth(&key);
    let with_agency = client::anonymous().get(&url).bearer_auth(&key);
    for request in [by_page, with_agency.header("x-installation-id", &agency)] {
        assert_eq!(
            refused(request).await,
            code(403, "installation_not_allowed")
        );
    }
    // Its backend may.
    until("a call of the backend", PATIENCE, || async {
        let call = client::anonymous().get(&url).bearer_auth(&backend);
        let (status, seen) = send(call).await;
        holds(status == 200, seen)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_key_expires_and_ends_with_the_key_that_issued_it() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let backend = backend_key(&up.internal, json!({})).await;
    let short = json!({ "installation": id, "calls": [ECHO], "expires_in": 1 });
    let short = browser_key(&up.internal, &backend, &short).await;
    let wanted = json!({ "installation": id, "calls": [ECHO] });
    let key = browser_key(&up.internal, &backend, &wanted).await;
    let expired = (401, "browser_key_expired");
    until_refused(expired, PATIENCE, || echo(&up.public, &short)).await;
    assert_eq!(send(echo(&up.public, &key)).await.0, 200);

    let revoked = up.command(&["keys", "revoke", "backend"]).run().await;
    assert!(revoked.status.success(), "{revoked:?}");
    let ended = (401, "api_key_invalid");
    until_refused(ended, SOON, || echo(&up.public, &key)).await;
    let (status, body) = ask(&up.internal, &backend, &wanted).await;
    assert_eq!((status, &body["code"]), (401, &json!("api_key_invalid")));
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_key_may_do_no_more_than_its_issuer() {
    let up = Up::start(&[]).await;
    let own = up.install("locA").await;
    let other = up.install("locB").await;
    let open = json!({});
    let limited = json!({ "installations": [own], "calls": ["GET /_sandbox/*"] });
    let of_app = json!({ "app": "staging" });
    let connect = json!({ "scopes": ["connect"] });
    let proxy = json!({ "scopes": ["proxy"] });
    let both = json!({ "scopes": ["admin"] });
    let wanted =
        |installation: &str, call: &str| json!({ "installation": installation, "calls": [call] });
    for (issuer, request, expected) in [
        (&open, wanted("locB", "* /contacts/*"), (201, "")),
        (&both, wanted("locB", "* /contacts/*"), (201, "")),
        (&limited, wanted(&own, ECHO), (201, "")),
        (
            &limited,
            wanted(&own, "POST /_sandbox/echo/x"),
            (403, "call_not_allowed"),
        ),
        (
            &limited,
            wanted(&own, "GET /contacts/*"),
            (403, "call_not_allowed"),
        ),
        (
            &limited,
            wanted(&other, ECHO),
            (400, "installation_not_found"),
        ),
        (
            &limited,
            wanted("locB", ECHO),
            (400, "installation_not_found"),
        ),
        (
            &limited,
            wanted("locX", ECHO),
            (400, "installation_not_found"),
        ),
        (
            &of_app,
            wanted("locA", ECHO),
            (400, "installation_not_found"),
        ),
        (&of_app, wanted(&own, ECHO), (400, "installation_not_found")),
        (&connect, wanted(&own, ECHO), (403, "api_key_scope_missing")),
        (&proxy, wanted(&own, ECHO), (403, "api_key_scope_missing")),
        // Requests that are invalid with every key.
        (
            &open,
            json!({ "installation": own }),
            (400, "request_invalid"),
        ),
        (
            &open,
            json!({ "installation": own, "calls": [] }),
            (400, "request_invalid"),
        ),
        (&open, wanted(&own, "GET /*"), (400, "request_invalid")),
        (
            &open,
            wanted(&own, "GET contacts"),
            (400, "request_invalid"),
        ),
        (
            &open,
            json!({ "installation": own, "calls": [ECHO], "expires_in": 3601 }),
            (400, "request_invalid"),
        ),
        (
            &open,
            json!({ "installation": own, "calls": [ECHO], "expires_in": 0 }),
            (400, "request_invalid"),
        ),
        (
            &open,
            json!({ "installation": own, "calls": [ECHO], "origin": "app.example" }),
            (400, "request_invalid"),
        ),
        (
            &open,
            json!({ "installation": own, "calls": [ECHO], "expire_in": 60 }),
            (400, "request_invalid"),
        ),
    ] {
        let issuer = backend_key(&up.internal, issuer.clone()).await;
        let (status, body) = ask(&up.internal, &issuer, &request).await;
        let seen = (status, body["code"].as_str().unwrap_or_default());
        assert_eq!(seen, expected, "{request}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_key_for_an_origin_is_refused_from_any_other() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let backend = backend_key(&up.internal, json!({})).await;
    let origin = "https://app.example.com";
    let wanted = json!({ "installation": id, "calls": [ECHO], "origin": origin });
    let key = browser_key(&up.internal, &backend, &wanted).await;
    let from = |origin: &str| echo(&up.public, &key).header("origin", origin);
    assert_eq!(send(from(origin)).await.0, 200);
    for request in [
        from("https://evil.example"),
        from("null"),
        echo(&up.public, &key),
    ] {
        assert_eq!(refused(request).await, code(403, "origin_not_allowed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_all_browser_keys_count_as_those_of_their_issuer() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let backend = backend_key(&up.internal, json!({ "quota": "3/1h" })).await;
    let wanted = json!({ "installation": id, "calls": [ECHO] });
    let later = json!({ "installation": id, "calls": [ECHO], "expires_in": 1800 });
    let one = browser_key(&up.internal, &backend, &wanted).await;
    let two = browser_key(&up.internal, &backend, &later).await;
    assert_ne!(one, two);
    for key in [&one, &two, &one] {
        assert_eq!(send(echo(&up.public, key)).await.0, 200);
    }
    for key in [&one, &two, &backend] {
        let seen = refused(echo(&up.public, key).header("x-installation-id", &id)).await;
        assert_eq!(seen, code(429, "quota_exceeded"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_of_backends_need_the_scope_and_refuse_foreign_pages() {
    let up = Up::start(&[]).await;
    let proxy = backend_key(
        &up.internal,
        json!({ "name": "plain", "scopes": ["proxy"] }),
    )
    .await;
    let backend = backend_key(&up.internal, json!({})).await;
    for path in ["/v1/browser-keys", "/v1/sso/decrypt"] {
        let post = || client::anonymous().post(format!("{}{path}", up.internal));
        let asked = || post().bearer_auth(&backend).json(&json!({}));
        for (request, expected) in [
            (post().json(&json!({})), code(401, "api_key_missing")),
            (
                post().bearer_auth("evg_wrong").json(&json!({})),
                code(401, "api_key_invalid"),
            ),
            (
                post().bearer_auth(&proxy).json(&json!({})),
                code(403, "api_key_scope_missing"),
            ),
            (
                asked().header("host", "evil.example:9080"),
                code(403, "host_not_allowed"),
            ),
            (
                asked().header("origin", "http://evil.example"),
                code(403, "cross_site_request"),
            ),
            (
                asked().header("sec-fetch-site", "cross-site"),
                code(403, "cross_site_request"),
            ),
            (
                post().bearer_auth(&backend).body("{}"),
                code(415, "content_type_unsupported"),
            ),
            (
                post().bearer_auth(&backend).body(vec![b' '; 65 * 1024]),
                code(413, "body_too_large"),
            ),
        ] {
            assert_eq!(refused(request).await, expected, "{path}");
        }
        let public = client::anonymous().post(format!("{}{path}", up.public));
        let seen = refused(public.bearer_auth(&backend).json(&json!({}))).await;
        assert_eq!(seen, code(404, "route_not_found"));
    }
    let what = "refusals of both kinds in the audit log";
    until(what, PATIENCE, || async {
        let args = ["audit", "--action", "request_refused", "--output", "json"];
        let shown = up.command(&args).run().await;
        let entries: Vec<Value> = serde_json::from_slice(&shown.stdout).unwrap();
        let has = |by: &str, why: &str| {
            entries.iter().any(|it| {
                let detail = it["detail"].as_str().unwrap_or_default();
                it["by"]["name"].as_str().unwrap_or_default() == by
                    && detail == format!("a request of a backend, {why}")
            })
        };
        let is_so = has("plain", "with a key that lacks the scope")
            && has("", "without a key")
            && has("backend", "from a foreign web page");
        holds(is_so, &entries)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_pass_backends_on_and_know_browser_keys_after_a_rotation() {
    let testbed = Testbed::start(0, "24h").await;
    let ring = |id: &str| KeyRing::generate_text(id).expose_secret().to_owned();
    let (old, new) = (ring("old"), ring("new"));
    let page = format!("{}/v2/oauth/chooselocation", testbed.sandbox.url);
    let settings = [
        ("EVERGREEN_ACCESS_KEYS", old.clone()),
        ("GHL_AUTHORIZE_URL", page),
    ];
    let mut broker = testbed.broker("one", &settings).await;
    let broker_url = format!("http://{}", broker.address);
    let gateway = |keys: &str| {
        let start = testbed.gateway().env("EVERGREEN_ACCESS_KEYS", keys);
        Member::start(start.env("EVERGREEN_BROKER_URL", &broker_url))
    };
    let first = gateway(&old).await;
    let url = |member: &Member| format!("http://{}", member.address);
    let id = client::install(&client::new(), &broker_url, "locA").await;
    let backend = backend_key(&broker.internal, json!({})).await;
    let wanted = json!({ "installation": "locA", "calls": [ECHO] });
    let mut keys = Vec::new();
    for internal in [&first.internal, &broker.internal] {
        for _ in 0..10 {
            keys.push(browser_key(internal, &backend, &wanted).await);
        }
    }
    for key in &keys {
        let (status, arrived) = send(echo(&url(&first), key)).await;
        assert_eq!((status, &arrived["authClassId"]), (200, &json!("locA")));
    }
    let callers = testbed.writer().callers().await.unwrap();
    let backends = callers.iter().filter(|(_, it)| it.name == "backend");
    assert_eq!(backends.count(), 1, "browser keys are not stored");
    assert!(callers.len() < 10, "browser keys are not stored");
    let foreign = client::anonymous().post(format!("{}/v1/browser-keys", first.internal));
    let foreign = foreign.header("origin", "http://evil.example");
    let foreign = foreign.bearer_auth(&backend).json(&wanted);
    assert_eq!(refused(foreign).await, code(403, "cross_site_request"));

    let audit = format!("{}/v1/audit", broker.internal);
    until("entries of the audit log", PATIENCE, || async {
        let (_, log) = client::get(&client::new(), &audit).await;
        let entries = log["entries"].as_array().cloned().unwrap_or_default();
        let of = |action: &'static str| entries.iter().filter(move |it| it["action"] == action);
        let is_of_backend = |it: &&Value| it["by"]["name"] == "backend";
        let created = of("browser_key_created").filter(is_of_backend);
        let created = created.filter(|it| it["installation"] == json!(id));
        let is_refused = of("request_refused").any(|it| is_of_backend(&it));
        holds(created.count() == 1 && is_refused, &entries)
    })
    .await;

    // The rotation puts the new key in front, and keeps the old one until no token needs it.
    let both = format!("{new},{old}");
    broker.kill().await;
    broker.set([("EVERGREEN_ACCESS_KEYS", both.clone())]);
    broker.launch().await;
    let second = gateway(&both).await;
    let newer = browser_key(&second.internal, &backend, &wanted).await;
    for key in [&keys[0], &newer] {
        assert_eq!(send(echo(&url(&second), key)).await.0, 200);
    }
    // A gateway that has not got the new key yet.
    let seen = refused(echo(&url(&first), &newer)).await;
    assert_eq!(seen, code(401, "api_key_invalid"));
}
