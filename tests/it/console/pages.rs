//! The pages: their headers, their rights and their content.

use serde_json::json;
use tests::client::{self, KEY, send};
use tests::up::Up;

use super::{Browser, create_key, signed_in};

#[tokio::test(flavor = "multi_thread")]
async fn pages_load_and_frame_nothing_from_elsewhere() {
    let up = Up::start(&[]).await;
    let mut browser = signed_in(&up, KEY).await;
    let mut pages = vec![Browser::at(&up.internal).get("/console/sign-in").await];
    for path in [
        "/console",
        "/console/keys",
        "/console/nothing",
        "/console/keys/new",
    ] {
        pages.push(browser.get(path).await);
    }
    for page in &pages {
        let policy = page.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{part}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            // `no-referrer` would send `Origin: null` with our own forms.
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(page.header(name), value, "{name}");
        }
        for inline in [
            "<style",
            " style=",
            "<script>",
            " onclick=",
            "https://",
            "http://",
        ] {
            assert!(!page.body.contains(inline), "{inline}: {}", page.body);
        }
    }
    let style = asset(&pages[0].body, ".css");
    let answer = Browser::at(&up.internal).get(&style).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/css; charset=utf-8");
    assert!(answer.header("cache-control").contains("immutable"));
    let other = style.replace("console-", "console-0");
    assert_eq!(Browser::at(&up.internal).get(&other).await.status, 404);
    let script = asset(&pages[1].body, ".js");
    assert_eq!(browser.get(&script).await.status, 200);
}

/// The path of an asset with this extension.
fn asset(page: &str, extension: &str) -> String {
    let mut quoted = page.split('"');
    let is_asset = |it: &&str| it.starts_with("/console/assets/") && it.ends_with(extension);
    quoted.find(is_asset).expect(page).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_may_view_sees_everything_and_changes_nothing() {
    let up = Up::start(&[]).await;
    let (_, view) = create_key(&up, "looks", &["view"]).await;
    let (id, other) = create_key(&up, "crm", &["proxy"]).await;
    let mut browser = signed_in(&up, &view).await;
    for path in [
        "/console",
        "/console/keys",
        "/console/apps",
        "/console/audit",
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        assert!(page.body.contains("read only"), "{path}");
        assert!(!page.body.contains("/console/connect\""), "{path}");
    }
    let keys = browser.get("/console/keys").await.body;
    assert!(keys.contains("crm"), "{keys}");
    for button in ["/console/keys/new", "/rotate", "/revoke"] {
        assert!(!keys.contains(button), "{button}");
    }
    for path in [
        "/console/keys/new".to_owned(),
        format!("/console/keys/{id}/revoke"),
        format!("/console/keys/{id}/rotate"),
        "/console/apps/default/free".to_owned(),
    ] {
        assert_eq!(browser.get(&path).await.status, 403, "{path}");
        let fields = [("name", "x"), ("scope", "admin"), ("overlap", "0")];
        let answer = browser.submit(&path, &fields).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
    }
    // It still works.
    let url = format!("{}/api/ghl/products?installation_id=install_1", up.public);
    let (_, body) = send(client::anonymous().get(url).bearer_auth(&other)).await;
    assert_ne!(body["code"], "api_key_invalid", "{body}");
    // It is no key of the API.
    let admin = client::anonymous().get(format!("{}/v1/keys", up.internal));
    let (status, body) = send(admin.bearer_auth(&view)).await;
    assert_eq!(
        (status, &body["code"]),
        (403, &json!("api_key_scope_missing"))
    );
    assert_eq!(browser.submit("/console/sign-out", &[]).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_may_view_is_for_everything() {
    let up = Up::start(&[]).await;
    let url = format!("{}/v1/keys", up.internal);
    let body = json!({ "name": "x", "scopes": ["view"], "app": "default" });
    let (status, body) = send(up.client.post(url).json(&body)).await;
    assert_eq!((status, &body["code"]), (400, &json!("request_invalid")));
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_made_rotated_and_revoked() {
    let up = Up::start(&[]).await;
    let mut browser = signed_in(&up, KEY).await;
    let refused = browser
        .submit("/console/keys/new", &[("name", "crm")])
        .await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.contains("value=\"crm\""), "{}", refused.body);
    let fields = [
        ("name", "crm"),
        ("scope", "tokens"),
        ("scope", "proxy"),
        ("days", "30"),
        ("quota", "100/10s"),
    ];
    let made = browser.submit("/console/keys/new", &fields).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let key = shown_key(&made.body);
    let list = browser.get("/console/keys").await.body;
    assert!(list.contains("100/10s") && !list.contains(&key), "{list}");
    let id = id_of(&list, "crm");

    let ask = browser.get(&format!("/console/keys/{id}/rotate")).await;
    assert_eq!(ask.status, 200, "{}", ask.body);
    let path = format!("/console/keys/{id}/rotate");
    let rotated = browser.submit(&path, &[("overlap", "24")]).await;
    assert_eq!(rotated.status, 200, "{}", rotated.body);
    let second = shown_key(&rotated.body);
    assert_ne!(key, second);

    let path = format!("/console/keys/{id}/revoke");
    let ask = browser.get(&path).await;
    assert!(ask.body.contains("Revoke the key"), "{}", ask.body);
    let answer = browser.submit(&path, &[]).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, "/console/keys")
    );
    let list = browser.get("/console/keys").await.body;
    assert!(list.contains("The key crm is revoked."), "{list}");
    let list = browser.get("/console/keys").await.body;
    assert!(!list.contains("The key crm is revoked."), "shown once");
    let status = |key: String| {
        let url = format!("{}/v1/keys", up.internal);
        async move { send(client::anonymous().get(url).bearer_auth(key)).await.0 }
    };
    assert_eq!(status(key).await, 401);
    assert_eq!(status(second).await, 403);
    assert_eq!(
        browser.submit(&path.replace(&id, "no"), &[]).await.status,
        404
    );
}

/// The key on the page that shows it.
fn shown_key(page: &str) -> String {
    let at = page.find("evg_").expect(page);
    let digits = page[at..].split(['<', '"']).next();
    digits.unwrap().to_owned()
}

/// The id of the key with this name, from the links of its row.
fn id_of(list: &str, name: &str) -> String {
    let row = list.split("<tr>").find(|row| row.contains(name));
    let row = row.expect(list);
    let (_, id) = row.split_once("/console/keys/").expect(row);
    id.split('/').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_escaped() {
    let up = Up::start(&[]).await;
    let name = "<script>alert('1')</script>\"><img src=x>";
    let (id, _) = create_key(&up, name, &["admin"]).await;
    let mut browser = signed_in(&up, KEY).await;
    let revoke = format!("/console/keys/{id}/revoke");
    for path in ["/console/keys", "/console/audit", revoke.as_str()] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.body.contains("alert("), "{path}: {}", page.body);
        for raw in ["<script>", "<img src=x"] {
            assert!(!page.body.contains(raw), "{path}: {}", page.body);
        }
    }
    assert_eq!(browser.submit(&revoke, &[]).await.status, 303);
    let page = browser.get("/console/keys").await;
    assert!(page.body.contains("is revoked.") && !page.body.contains("<script>"));
    let path = "/console/audit?key=%22%3E%3Cscript%3E&installation=%3Cscript%3E";
    let page = browser.get(path).await;
    assert!(!page.body.contains("<script>"), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_log_has_pages_and_filters() {
    let up = Up::start(&[]).await;
    let installation = up.install("locA").await;
    for at in 0..60 {
        create_key(&up, &format!("key-{at}"), &["proxy"]).await;
    }
    let mut browser = signed_in(&up, KEY).await;
    let first = browser.get("/console/audit?action=key_created").await.body;
    assert!(
        first.contains("key-59") && !first.contains("key-1 "),
        "{first}"
    );
    assert!(first.contains("action=key_created&#38;page=1"), "{first}");
    let second = browser
        .get("/console/audit?action=key_created&page=1")
        .await;
    assert!(second.body.contains("key-1 "), "{}", second.body);
    assert!(!second.body.contains("key-59"), "{}", second.body);
    let path = "/console/audit?installation=locA";
    let of_one = browser.get(path).await.body;
    assert!(of_one.contains(&installation), "{of_one}");
    assert!(!of_one.contains("key-59"), "{of_one}");
    let unknown = browser.get("/console/audit?installation=nobody").await;
    assert_eq!(unknown.status, 200, "{}", unknown.body);
    assert_eq!(browser.get("/console/audit?page=x").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_are_listed_and_a_name_with_installations_stays() {
    let up = Up::start(&[]).await;
    let mut browser = signed_in(&up, KEY).await;
    let apps = browser.get("/console/apps").await.body;
    assert!(apps.contains("no installation yet"), "{apps}");
    up.install("locA").await;
    let apps = browser.get("/console/apps").await.body;
    assert!(apps.contains("in use"), "{apps}");
    let ask = browser.get("/console/apps/default/free").await;
    assert_eq!(ask.status, 200, "{}", ask.body);
    let answer = browser.submit("/console/apps/default/free", &[]).await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert!(answer.body.contains("app_in_use"), "{}", answer.body);
}
