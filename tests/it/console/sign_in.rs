//! Sessions: how they begin, what they need, and how they end.

use std::time::Duration;

use reqwest::Method;
use tests::client::{self, KEY, send};
use tests::fleet::{Fleet, FleetConfig};
use tests::up::Up;
use tests::wait::{holds, until};

use super::{Browser, create_key, signed_in};

const PATIENCE: Duration = Duration::from_secs(90);
/// The pages that everybody with a session may see.
const PAGES: [&str; 4] = [
    "/console",
    "/console/keys",
    "/console/apps",
    "/console/audit",
];

#[tokio::test(flavor = "multi_thread")]
async fn page_needs_a_session_and_a_key_begins_one() {
    let up = Up::start(&[]).await;
    let mut browser = Browser::at(&up.internal);
    let root = browser.get("/").await;
    assert_eq!((root.status, root.header("location")), (303, "/console"));
    let refused = browser.get("/console").await;
    assert_eq!(refused.header("location"), "/console/sign-in");
    let refused = browser.get("/console/audit?action=key_created").await;
    let there = "/console/sign-in?next=%2Fconsole%2Faudit%3Faction%3Dkey_created";
    assert_eq!((refused.status, refused.header("location")), (303, there));
    // A key in a header is for programs.
    let with_key = client::new().get(format!("{}/console", up.internal));
    assert_eq!(send(with_key).await.0, 303);

    let (_, weak) = create_key(&up, "weak", &["proxy", "tokens", "connect"]).await;
    for (key, status) in [("", 401), ("evg_wrong", 401), (weak.as_str(), 403)] {
        let answer = browser.sign_in(key).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(browser.cookies.is_empty() && !answer.body.contains("evg_wrong"));
    }
    let fields = [("key", KEY), ("next", "/console/audit?action=key_created")];
    let answer = browser.post("/console/sign-in", &fields).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    assert_eq!(answer.header("location"), fields[1].1);
    let cookie = answer.header("set-cookie");
    let attributes = "; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict";
    assert!(cookie.ends_with(attributes), "{cookie}");
    assert!(!cookie.contains("evg_"), "{cookie}");
    for page in PAGES {
        let answer = browser.get(page).await;
        assert_eq!(answer.status, 200, "{page}: {}", answer.body);
        assert!(answer.body.contains("aria-current=\"page\""), "{page}");
        assert!(answer.body.contains("local administrator"), "{page}");
    }
    assert_eq!(browser.get("/console/nothing").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn link_signs_in_once() {
    let up = Up::start(&[]).await;
    let made = up.command(&["console"]).run().await;
    assert!(made.status.success(), "{made:?}");
    let made = String::from_utf8(made.stdout).unwrap();
    let words = ["console", "/console/sign-in/"];
    let line = up.program.wait_for_line(&words, PATIENCE).await;
    let printed = line
        .split_whitespace()
        .find(|it| it.contains("/console/sign-in/"));
    for link in [made.trim(), printed.unwrap()] {
        let path = link.strip_prefix(&up.internal).expect(link);
        let token = path.rsplit('/').next().unwrap();
        let mut browser = Browser::at(&up.internal);
        // Scanners of links and browsers that guess do not use it up.
        let head = browser.request(Method::HEAD, path);
        assert_eq!(browser.send(head).await.status, 200);
        for _ in 0..2 {
            let page = browser.get(path).await;
            assert_eq!(page.status, 200, "{}", page.body);
            assert!(page.body.contains(token) && browser.cookies.is_empty());
        }
        let answer = browser.post("/console/sign-in", &[("link", token)]).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, "/console")
        );
        assert_eq!(browser.get("/console/keys").await.status, 200);

        let mut second = Browser::at(&up.internal);
        let answer = second.post("/console/sign-in", &[("link", token)]).await;
        assert_eq!(answer.status, 401, "{}", answer.body);
        assert!(answer.body.contains("used before"), "{}", answer.body);
        assert!(second.cookies.is_empty());
        assert_eq!(second.get(path).await.status, 401);
        assert_eq!(browser.get("/console").await.status, 200);
    }
    // A link of another process.
    let other = Up::start(&[]).await;
    let made = other.command(&["console"]).run().await;
    let made = String::from_utf8(made.stdout).unwrap();
    let token = made.trim().rsplit('/').next().unwrap();
    let mut browser = Browser::at(&up.internal);
    let answer = browser.post("/console/sign-in", &[("link", token)]).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn link_and_session_are_for_every_broker_of_a_fleet() {
    let fleet = Fleet::start(&FleetConfig {
        brokers: 2,
        lock_nodes: 1,
        sandbox: &[],
        settings: &[],
    })
    .await;
    let [one, two] = [&fleet.brokers[0].internal, &fleet.brokers[1].internal];
    let make = client::new().post(format!("{one}/v1/console-links"));
    let (status, made) = send(make).await;
    assert_eq!(status, 201, "{made}");
    let token = made["path"].as_str().unwrap().rsplit('/').next().unwrap();
    let mut browser = Browser::at(two);
    let answer = browser.post("/console/sign-in", &[("link", token)]).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let answer = Browser::at(one)
        .post("/console/sign-in", &[("link", token)])
        .await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert_eq!(browser.get("/console/keys").await.status, 200);
    // A load balancer sends the browser to the other one. The name of the cookie has the port of `Host`.
    let host = two.trim_start_matches("http://").to_owned();
    let at_other = |browser: &Browser| {
        let mut other = browser.clone();
        other.base.clone_from(one);
        other
            .request(Method::GET, "/console/keys")
            .header("host", &host)
    };
    let request = at_other(&browser);
    assert_eq!(browser.send(request).await.status, 200);
    let copy = browser.clone();
    assert_eq!(browser.submit("/console/sign-out", &[]).await.status, 303);
    let request = at_other(&copy);
    assert_eq!(browser.send(request).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn session_ends_with_its_key() {
    let up = Up::start(&[]).await;
    let (id, key) = create_key(&up, "ops", &["admin"]).await;
    let mut browser = signed_in(&up, &key).await;
    assert_eq!(browser.get("/console/keys").await.status, 200);
    let revoke = up.client.delete(format!("{}/v1/keys/{id}", up.internal));
    assert_eq!(send(revoke).await.0, 204);
    let answer = browser.get("/console/keys").await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let answer = browser.post("/console/keys/new", &[("name", "x")]).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_out_session_is_of_no_use_to_a_copy_of_its_cookie() {
    let up = Up::start(&[]).await;
    let mut browser = signed_in(&up, KEY).await;
    let (mut copy, mut other) = (browser.clone(), signed_in(&up, KEY).await);
    assert_eq!(copy.get("/console").await.status, 200);
    let answer = browser.submit("/console/sign-out", &[]).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, "/console/sign-in")
    );
    assert!(browser.cookies.is_empty());
    assert_eq!(copy.get("/console").await.status, 303);
    assert_eq!(other.get("/console").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn form_without_the_proof_of_its_session_changes_nothing() {
    let up = Up::start(&[]).await;
    let mut browser = signed_in(&up, KEY).await;
    let foreign = signed_in(&up, KEY).await.get("/console").await.proof();
    let own = browser.get("/console").await.proof();
    let fields = [("name", "forged"), ("scope", "admin")];
    for proof in ["", "a:b", &foreign, &own[1..]] {
        let fields = [&[("csrf", proof)], &fields[..]].concat();
        let answer = browser.post("/console/keys/new", &fields).await;
        assert_eq!(answer.status, 403, "{proof}: {}", answer.body);
        let answer = browser.post("/console/sign-out", &[("csrf", proof)]).await;
        assert_eq!(answer.status, 403, "{proof}");
    }
    assert!(!browser.get("/console/keys").await.body.contains("forged"));
    let answer = browser.submit("/console/keys/new", &fields).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(browser.get("/console/keys").await.body.contains("forged"));
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_hosts_and_pages_reach_nothing() {
    let up = Up::start(&[]).await;
    let mut browser = signed_in(&up, KEY).await;
    let proof = browser.get("/console").await.proof();
    let post = |browser: &Browser, headers: &[(&str, &str)]| {
        let fields = [("csrf", proof.as_str()), ("name", "x"), ("scope", "admin")];
        let request = browser.request(Method::POST, "/console/keys/new");
        let request = request.form(&fields);
        headers
            .iter()
            .fold(request, |it, (name, value)| it.header(*name, *value))
    };
    for headers in [
        &[("host", "evil.example")][..],
        &[("origin", "http://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
    ] {
        let request = post(&browser, headers);
        let answer = browser.send(request).await;
        assert_eq!(answer.status, 403, "{headers:?}: {}", answer.body);
        let request = browser.request(Method::POST, "/console/sign-in");
        let request = request.form(&[("key", KEY)]);
        let request = headers
            .iter()
            .fold(request, |it, (name, value)| it.header(*name, *value));
        let answer = browser.clone().send(request).await;
        assert_eq!(answer.status, 403, "{headers:?}: {}", answer.body);
    }
    let read = browser.request(Method::GET, "/console");
    let answer = browser.send(read.header("host", "evil.example")).await;
    assert_eq!(answer.status, 403);

    // A person may follow a link here. The browser keeps its cookies back, and sends them with the next request.
    let mut stranger = Browser::at(&up.internal);
    let followed = stranger.request(Method::GET, "/console/keys");
    let followed = followed.header("sec-fetch-site", "cross-site");
    let answer = stranger
        .send(followed.header("sec-fetch-mode", "navigate"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let again = "http-equiv=\"refresh\" content=\"0;url=/console/keys\"";
    assert!(answer.body.contains(again), "{}", answer.body);
    assert_eq!(stranger.get("/console/keys").await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_leads_to_no_other_site() {
    let up = Up::start(&[]).await;
    for next in [
        "https://evil.example/",
        "//evil.example/console",
        "/\\evil.example",
        "/console/../v1/keys",
        "/consoles",
        "javascript:alert(1)",
    ] {
        let mut browser = Browser::at(&up.internal);
        let fields = [("key", KEY), ("next", next)];
        let answer = browser.post("/console/sign-in", &fields).await;
        assert_eq!(answer.header("location"), "/console", "{next}");
        let page = Browser::at(&up.internal)
            .request(Method::GET, "/console/sign-in")
            .query(&[("next", next)]);
        let page = browser.send(page).await;
        assert!(
            page.body.contains("name=\"next\" value=\"/console\""),
            "{next}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_limited_and_in_the_audit_log() {
    let up = Up::start(&[]).await;
    let mut browser = Browser::at(&up.internal);
    // On a busy machine some attempts are allowed again meanwhile.
    let mut statuses = Vec::new();
    while !statuses.contains(&429) && statuses.len() < 100 {
        statuses.push(browser.sign_in("evg_wrong").await.status);
    }
    assert!(statuses.len() > 10, "{statuses:?}");
    assert_eq!(statuses[..10], [401; 10]);
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    until("the refusals in the audit log", PATIENCE, || async {
        let url = format!("{}/v1/audit?action=request_refused", up.internal);
        let (_, entries) = client::get(&up.client, &url).await;
        let count = entries["entries"][0]["count"].as_u64();
        holds(count >= Some(10), &entries)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_ins_and_changes_are_in_the_audit_log_with_their_key() {
    let up = Up::start(&[]).await;
    let (_, key) = create_key(&up, "operator-of-the-console", &["admin"]).await;
    let mut browser = signed_in(&up, &key).await;
    let fields = [("name", "crm"), ("scope", "proxy")];
    let made = browser.submit("/console/keys/new", &fields).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let url = format!("{}/v1/audit?key=operator-of-the-console", up.internal);
    let (_, entries) = client::get(&up.client, &url).await;
    for action in ["signed_in", "key_created"] {
        let entries = entries["entries"].as_array().unwrap();
        let by_it = entries
            .iter()
            .any(|it| it["action"] == action && it["by"]["name"] == "operator-of-the-console");
        assert!(by_it, "{action}: {entries:?}");
    }
    let page = browser.get("/console/audit?action=signed_in").await;
    assert!(
        page.body.contains("operator-of-the-console"),
        "{}",
        page.body
    );
    assert!(!page.body.contains("<td data-label=\"Action\">key created"));
}
