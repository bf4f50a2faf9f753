//! The pages about installations, events and new customers.

use std::time::Duration;

use serde_json::json;
use tests::client::{self, KEY, get, send};
use tests::sandbox::AGENCY;
use tests::up::{ENDPOINT_THAT_IS_DOWN, Up};
use tests::wait::{holds, until};

use super::{Browser, create_key, signed_in};

const PATIENCE: Duration = Duration::from_secs(90);
const LIST: &str = "/console/installations";

fn page_of(id: &str) -> String {
    format!("{LIST}/{id}")
}

/// Waits until the locations of the agency are listed.
async fn agency(up: &Up) -> String {
    let agency = client::install_agency(&up.client, &up.public, AGENCY).await;
    until("the locations", PATIENCE, || async {
        let url = format!("{}/v1/installations?parent={agency}", up.internal);
        let (_, seen) = get(&up.client, &url).await;
        let count = seen["installations"].as_array().map_or(0, Vec::len);
        holds(count == 3, seen)
    })
    .await;
    agency
}

/// How often the text is in the page.
fn count(page: &str, text: &str) -> usize {
    page.matches(text).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn list_is_filtered_and_searched() {
    let up = Up::start(&[]).await;
    let agency = agency(&up).await;
    let mut ids = Vec::new();
    for location in ["harborOne", "harborTwo"] {
        ids.push(up.install(location).await);
    }
    let url = format!("{}/v1/installations/harborTwo", up.internal);
    let body = json!({ "external_id": "org-2", "tags": ["vip & co"] });
    assert_eq!(send(up.client.patch(url).json(&body)).await.0, 200);
    let mut browser = signed_in(&up, KEY).await;
    // On a busy machine a page ends before the search does.
    let whole = async |path: String| {
        until("the end of the list", PATIENCE, || async {
            let page = browser.clone().get(&path).await;
            assert_eq!(page.status, 200, "{}", page.body);
            let is_whole = page.body.contains("This is the end of the list.");
            holds(is_whole, &page.body).map(|()| page.body)
        })
        .await
    };
    let all = whole(LIST.to_owned()).await;
    for id in ids.iter().chain([&agency]) {
        assert!(all.contains(&page_of(id)), "no {id} in {all}");
    }
    for (query, expected) in [
        ("q=HARBOR", &["harborOne", "harborTwo"][..]),
        ("q=org-2", &["harborTwo"]),
        ("q=vip+%26+co", &["harborTwo"]),
        ("tag=vip+%26+co", &["harborTwo"]),
        ("status=revoked", &[]),
        ("kind=agencies", &[AGENCY]),
        ("q=harbor&kind=agencies", &[]),
        ("q=nobody", &[]),
    ] {
        let page = whole(format!("{LIST}?{query}")).await;
        for name in ["harborOne", "harborTwo", AGENCY] {
            let cell = format!("class=\"mono\">{name}</td>");
            let is_expected = expected.contains(&name);
            assert_eq!(page.contains(&cell), is_expected, "{query}: {name}");
        }
        let is_empty = page.contains("No installation matches.");
        assert_eq!(is_empty, expected.is_empty(), "{query}: {page}");
    }
    let wrong = browser.get(&format!("{LIST}?status=wrong")).await;
    assert_eq!(wrong.status, 400);

    // The agency opens its locations.
    let path = format!("{LIST}?parent={agency}");
    assert!(all.contains(&path), "{all}");
    let tree = browser.get(&path).await.body;
    assert_eq!(count(&tree, "class=\"tree-1\""), 3, "{tree}");
    assert!(tree.contains("sandboxMapleYoga0002"), "{tree}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_list_have_each_installation_once() {
    let up = Up::start(&[]).await;
    let mut expected = Vec::new();
    for number in 0..55 {
        expected.push(up.install(&format!("loc{number}")).await);
    }
    let mut browser = signed_in(&up, KEY).await;
    let (mut path, mut seen) = (LIST.to_owned(), Vec::new());
    for _ in 0..9 {
        let page = browser.get(&path).await.body;
        let links = page.split("href=\"").skip(1);
        let links = links.filter_map(|rest| rest.split('"').next());
        let links: Vec<&str> = links.collect();
        let ids = links
            .iter()
            .filter_map(|it| it.strip_prefix("/console/installations/"));
        seen.extend(ids.map(str::to_owned));
        let next = links.iter().find(|it| it.contains("after="));
        let Some(next) = next else { break };
        path = next.replace("&amp;", "&").replace("&#38;", "&");
    }
    expected.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_installation_is_explained_and_mended() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let mut browser = signed_in(&up, KEY).await;
    let path = page_of(&id);
    let page = browser.get(&path).await.body;
    assert!(page.contains("It is well."), "{page}");
    assert!(page.contains("<time datetime="), "{page}");
    assert!(page.contains("The customer connected"), "{page}");

    up.sandbox.steer("revoke", "locA").await;
    until("it to need consent", PATIENCE, || async {
        let url = format!("{}/v1/installations/{id}/refresh?force=true", up.internal);
        send(up.client.post(url)).await;
        let url = format!("{}/v1/installations/{id}", up.internal);
        let (_, seen) = get(&up.client, &url).await;
        holds(seen["tokenStatus"] == "invalid", seen)
    })
    .await;
    let page = browser.get(&path).await.body;
    for text in [
        "Something must be done.",
        "Needs consent",
        "Try the token once more",
    ] {
        assert!(page.contains(text), "no {text:?} in {page}");
    }
    let refused = browser
        .submit(&format!("{path}/refresh"), &[("force", "yes")])
        .await;
    assert_eq!(
        (refused.status, refused.header("location")),
        (303, path.as_str())
    );
    assert!(browser.get(&path).await.body.contains("Not done."));

    let made = browser.submit(&format!("{path}/link"), &[]).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let link = made.body.split("data-copy=\"").nth(1).unwrap();
    let link = link.split('"').next().unwrap();
    assert!(link.contains("/connect/"), "{link}");
    let at = link.find("/connect/").unwrap();
    let begin = format!("{}{}", up.public, &link[at..]);
    let opened = client::anonymous().get(begin).send().await.unwrap();
    assert!(opened.status().is_redirection() || opened.status().is_success());
    up.install("locA").await;
    let page = browser.get(&path).await.body;
    assert!(page.contains("It is well."), "{page}");
    assert!(page.contains("The customer connected again"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_others_are_escaped() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let evil = "<img src=x onerror=alert(1)>";
    let url = format!("{}/v1/installations/{id}", up.internal);
    let body = json!({ "external_id": "<script>", "tags": [evil, "\"><b>"] });
    assert_eq!(send(up.client.patch(url).json(&body)).await.0, 200);
    // GHL tells the name of the company.
    let event =
        json!({ "type": "INSTALL", "locationId": "locA", "fields": { "companyName": evil } });
    up.sandbox.webhook(&event).await;
    let shown = format!("{}/v1/installations/{id}", up.internal);
    until("the name of the company", PATIENCE, || async {
        let (_, seen) = get(&up.client, &shown).await;
        holds(seen["details"]["companyName"] == evil, seen)
    })
    .await;
    let mut browser = signed_in(&up, KEY).await;
    for path in [
        LIST.to_owned(),
        page_of(&id),
        format!("{}/delete", page_of(&id)),
        format!("{LIST}?q=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E"),
        format!("/console/events?installation={id}"),
        "/console/events?installation=%3Cscript%3E".to_owned(),
    ] {
        let page = browser.get(&path).await.body;
        for raw in ["<img src=x", "<script>", "\"><b>"] {
            assert!(!page.contains(raw), "{path}: {raw} in {page}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn end_is_asked_for_and_names_the_customer() {
    let up = Up::start(&[]).await;
    let agency = agency(&up).await;
    let id = up.install("locA").await;
    let mut browser = signed_in(&up, KEY).await;
    let question = browser.get(&format!("{}/revoke", page_of(&id))).await;
    assert!(question.body.contains("locA"), "{}", question.body);
    let path = format!("{}/revoke", page_of(&id));
    assert_eq!(browser.submit(&path, &[]).await.status, 303);
    let page = browser.get(&page_of(&id)).await.body;
    assert!(
        page.contains("Done.") && page.contains("Revoked at"),
        "{page}"
    );

    let path = format!("{}/delete", page_of(&agency));
    let question = browser.get(&path).await.body;
    assert!(
        question.contains(AGENCY) && question.contains("Up to 4 locations"),
        "{question}"
    );
    let deleted = browser.submit(&path, &[]).await;
    assert_eq!((deleted.status, deleted.header("location")), (303, LIST));
    let page = browser.get(LIST).await.body;
    assert!(page.contains("3 locations were deleted with it"), "{page}");
    assert!(!page.contains(&agency), "{page}");
    let url = format!("{}/v1/audit?action=installation_deleted", up.internal);
    let (_, audit) = get(&up.client, &url).await;
    let entry = &audit["entries"][0];
    assert_eq!(entry["installation"], agency.as_str(), "{audit}");
    assert!(entry["by"]["name"].is_string(), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_and_external_id_are_changed() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let mut browser = signed_in(&up, KEY).await;
    let path = format!("{}/customer", page_of(&id));
    let fields = [
        ("external_id", " org/7 "),
        ("tags", "vip\r\ngröße 2, trial\r\n"),
    ];
    assert_eq!(browser.submit(&path, &fields).await.status, 303);
    let url = format!("{}/v1/installations/{id}", up.internal);
    let (_, seen) = get(&up.client, &url).await;
    assert_eq!(seen["externalId"], "org/7");
    assert_eq!(seen["tags"], json!(["größe 2", "trial", "vip"]));
    browser.submit(&path, &[("external_id", "two words")]).await;
    assert!(browser.get(&page_of(&id)).await.body.contains("Not done."));
    browser
        .submit(&path, &[("external_id", ""), ("tags", "")])
        .await;
    let (_, seen) = get(&up.client, &url).await;
    assert_eq!(
        (&seen["externalId"], &seen["tags"]),
        (&json!(null), &json!([]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn form_makes_a_link_for_a_customer() {
    let up = Up::start(&[]).await;
    let mut browser = signed_in(&up, KEY).await;
    let form = browser.get("/console/connect").await;
    assert_eq!(form.status, 200, "{}", form.body);
    let fields = [
        ("external_id", "org-7"),
        ("tags", "vip"),
        ("expires_in", "1800"),
    ];
    let made = browser.submit("/console/connect", &fields).await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert!(made.body.contains("/connect/") && made.body.contains("data-copy="));
    for wrong in [
        ("external_id", "two words"),
        ("return_to", "javascript:alert(1)"),
        ("expires_in", "0"),
        ("location", "a:b"),
    ] {
        let refused = browser.submit("/console/connect", &[wrong]).await;
        assert_eq!(refused.status, 400, "{wrong:?}: {}", refused.body);
        assert!(refused.body.contains("No link was made."), "{wrong:?}");
    }
    let url = format!("{}/v1/audit?action=connect_link_created", up.internal);
    let (_, audit) = get(&up.client, &url).await;
    assert_eq!(
        audit["entries"].as_array().map(Vec::len),
        Some(1),
        "{audit}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_shown_and_sent_again() {
    let up = Up::start(&ENDPOINT_THAT_IS_DOWN).await;
    let id = up.install("locA").await;
    let other = up.install("locB").await;
    let mut browser = signed_in(&up, KEY).await;
    let page = browser.get("/console/events").await.body;
    assert!(page.contains("installation.connected"), "{page}");
    assert!(page.contains(&id) && page.contains(&other), "{page}");
    let page = browser.get("/console/events?installation=locA").await.body;
    assert!(
        page.contains(&page_of(&id)) && !page.contains(&page_of(&other)),
        "{page}"
    );
    let none = browser
        .get("/console/events?type=installation.paused")
        .await;
    assert!(
        none.body.contains("There is no such event"),
        "{}",
        none.body
    );
    let unknown = browser.get("/console/events?installation=nobody").await;
    assert_eq!(unknown.status, 200);
    assert!(
        unknown.body.contains("Installation not found"),
        "{}",
        unknown.body
    );

    let url = format!("{}/v1/event-endpoints", up.internal);
    let (_, endpoints) = get(&up.client, &url).await;
    let endpoint = endpoints["endpoints"][0]["id"].as_str().unwrap();
    assert_eq!(endpoints["endpoints"][0]["deadLetters"], 0, "{endpoints}");
    browser
        .submit("/console/events/test", &[("endpoint", endpoint)])
        .await;
    let page = browser.get("/console/events").await.body;
    assert!(page.contains("did not take the test message"), "{page}");
    let (_, events) = get(&up.client, &format!("{}/v1/events", up.internal)).await;
    let event = events["events"][0]["id"].as_str().unwrap();
    let fields = [("endpoint", endpoint), ("event", event)];
    browser.submit("/console/events/resend", &fields).await;
    let page = browser.get("/console/events").await.body;
    assert!(page.contains("is sent to"), "{page}");
    let fields = [("endpoint", endpoint), ("letter", "msg_none")];
    browser.submit("/console/events/resend", &fields).await;
    let page = browser.get("/console/events").await.body;
    assert!(page.contains("no longer there"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_may_view_sees_no_buttons_and_changes_nothing() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let (_, view) = create_key(&up, "looks", &["view"]).await;
    let mut browser = signed_in(&up, &view).await;
    for path in [LIST.to_owned(), page_of(&id), "/console/events".to_owned()] {
        let page = browser.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        let forms = count(&page.body, "method=\"post\"");
        assert_eq!(forms, 1, "only to sign out, {path}: {}", page.body);
        assert!(!page.body.contains("/delete\""), "{path}");
    }
    for path in [
        format!("{}/delete", page_of(&id)),
        format!("{}/revoke", page_of(&id)),
        "/console/connect".to_owned(),
    ] {
        assert_eq!(browser.get(&path).await.status, 403, "{path}");
    }
    for path in [
        format!("{}/refresh", page_of(&id)),
        format!("{}/link", page_of(&id)),
        format!("{}/customer", page_of(&id)),
        format!("{}/revoke", page_of(&id)),
        format!("{}/delete", page_of(&id)),
        "/console/connect".to_owned(),
        "/console/events/test".to_owned(),
        "/console/events/resend".to_owned(),
        "/console/events/resend-all".to_owned(),
    ] {
        assert_eq!(browser.submit(&path, &[]).await.status, 403, "{path}");
    }
    let mut stranger = Browser::at(&up.internal);
    assert_eq!(stranger.get(LIST).await.status, 303);
    let url = format!("{}/v1/installations/{id}", up.internal);
    let (_, seen) = get(&up.client, &url).await;
    assert_eq!(seen["tokenStatus"], "valid", "{seen}");
}
