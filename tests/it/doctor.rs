//! `evergreen doctor`: installations are broken in every way that the sandbox can, and each is explained.

use std::time::Duration;

use serde_json::{Value, json};
use tests::client::{self, get, send};
use tests::sandbox::{AGENCY, Sandbox};
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);

/// The result of the command: its exit code, and what it printed.
struct Told {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn doctor(up: &Up, args: &[&str]) -> Told {
    let output = up.command(&[&["doctor"][..], args].concat()).run().await;
    Told {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Told {
    #[track_caller]
    fn says(&self, code: i32, texts: &[&str]) {
        let Self { stdout, stderr, .. } = self;
        assert_eq!(self.code, Some(code), "{stdout}\n{stderr}");
        for text in texts {
            assert!(
                stdout.contains(text) || stderr.contains(text),
                "no {text:?} in:\n{stdout}\n{stderr}"
            );
        }
    }
}

async fn diagnosis(up: &Up, name: &str) -> Value {
    let url = format!("{}/v1/installations/{name}/diagnosis", up.internal);
    let (status, body) = get(&up.client, &url).await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn refresh(up: &Up, name: &str) {
    let url = format!("{}/v1/installations/{name}/refresh?force=true", up.internal);
    send(up.client.post(url)).await;
}

/// Refreshes until the status is this one.
async fn until_status(up: &Up, name: &str, status: &str) {
    until(&format!("{name} to be {status}"), PATIENCE, || async {
        refresh(up, name).await;
        let seen = diagnosis(up, name).await;
        holds(seen["installation"]["tokenStatus"] == status, seen)
    })
    .await;
}

async fn control(up: &Up, what: &str, body: Value) {
    let url = format!("{}/_sandbox/{what}", up.sandbox.url);
    let (status, answer) = send(up.client.post(url).json(&body)).await;
    assert_eq!(status, 200, "{what}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn healthy_installation_is_well_and_has_a_history() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    refresh(&up, "locA").await;
    let told = doctor(&up, &["locA"]).await;
    told.says(
        0,
        &[
            &id,
            "Connected: the token is valid until",
            "Calls work.",
            "nothing to do",
        ],
    );
    let told = doctor(&up, &["locA", "--output", "json"]).await;
    let explained: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(explained[0]["verdict"], "well", "{explained}");
    let history = explained[0]["history"].as_array().unwrap();
    let kinds: Vec<&str> = history
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    for kind in [
        "installation.connected",
        "token_refreshed",
        "installation_connected",
    ] {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    let times: Vec<&str> = history
        .iter()
        .map(|it| it["at"].as_str().unwrap())
        .collect();
    assert!(
        times.is_sorted_by(|newer, older| newer >= older),
        "{times:?}"
    );
    let told = doctor(&up, &["locA", "--quiet"]).await;
    assert_eq!(told.stdout, format!("{id} well\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_break_an_installation_is_explained() {
    let up = Up::start(&[]).await;
    for location in ["refused", "uninstalled", "paused", "revoked", "failing"] {
        up.install(location).await;
    }

    up.sandbox.steer("revoke", "refused").await;
    refresh(&up, "refused").await;
    let suspect = doctor(&up, &["refused"]).await;
    suspect.says(
        0,
        &[
            "In doubt: GHL refused its refresh token",
            "Calls work until",
        ],
    );
    until_status(&up, "refused", "invalid").await;
    let invalid = doctor(&up, &["refused"]).await;
    invalid.says(
        1,
        &[
            "Needs consent",
            "installation_invalid",
            "reconnect-link",
            "--force",
            "Something must be done",
        ],
    );

    control(&up, "uninstall", json!({ "locationId": "uninstalled" })).await;
    until("the end", PATIENCE, || async {
        let seen = diagnosis(&up, "uninstalled").await;
        holds(seen["installation"]["tokenStatus"] == "revoked", seen)
    })
    .await;
    let uninstalled = doctor(&up, &["uninstalled"]).await;
    uninstalled.says(
        1,
        &[
            "Uninstalled at",
            "installation_revoked",
            "installations delete",
        ],
    );

    up.sandbox.steer("pause", "paused").await;
    until_status(&up, "paused", "paused").await;
    let paused = doctor(&up, &["paused"]).await;
    paused.says(
        1,
        &[
            "Paused: GHL holds the location inactive",
            "Ask the customer",
        ],
    );

    let url = format!("{}/v1/installations/revoked/revoke", up.internal);
    assert_eq!(send(up.client.post(url)).await.0, 200);
    let revoked = doctor(&up, &["revoked"]).await;
    revoked.says(
        1,
        &[
            "Revoked at",
            "revoked by an operator",
            "Installation revoked by",
        ],
    );

    let fault = json!([{ "on": "token", "kind": "status", "status": 503, "share": 1.0 }]);
    up.sandbox.faults(fault).await;
    refresh(&up, "failing").await;
    let failing = doctor(&up, &["failing"]).await;
    failing.says(0, &["Connected", "`transient`", "failed"]);
    assert_eq!(diagnosis(&up, "failing").await["verdict"], "waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_secret_is_named_and_not_the_customer() {
    let up = Up::start(&[("EVERGREEN_SANDBOX_TOKEN_LIFETIME", "8s")]).await;
    for number in 0..5 {
        up.install(&format!("loc{number}")).await;
    }
    let fault = json!([{ "on": "token", "kind": "invalid_client", "share": 1.0 }]);
    up.sandbox.faults(fault).await;
    until(
        "the diagnosis to name the credentials",
        PATIENCE,
        || async {
            let seen = diagnosis(&up, "loc0").await;
            let why = seen["why"].to_string();
            let is_named = why.contains("refuses the client id and secret of the app default");
            holds(is_named && seen["verdict"] == "action", seen)
        },
    )
    .await;
    let told = doctor(&up, &["loc0"]).await;
    told.says(
        1,
        &["Compare the client id and secret", "evergreen apps list"],
    );
    assert!(!told.stdout.contains("reconnect-link"), "{}", told.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn app_that_left_the_settings_is_named() {
    let sandbox = Sandbox::start(&[]).await;
    let up = Up::start(&[]).await.against(&sandbox).await;
    up.install("locA").await;
    let mut up = up.with("GHL_CLIENT_ID", "another-client");
    up.restart().await;
    until("the diagnosis", PATIENCE, || async {
        let url = format!("{}/v1/installations/locA/diagnosis", up.internal);
        let (status, seen) = get(&up.client, &url).await;
        let is_known = seen["installation"]["tokenStatus"] == "unclaimed";
        holds(status == 200 && is_known, seen)
    })
    .await;
    let told = doctor(&up, &["locA"]).await;
    told.says(1, &["Unclaimed", "GHL_CLIENT_ID", "Calls work until"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn location_of_an_agency_is_explained_with_its_agency() {
    let up = Up::start(&[]).await;
    let agency = client::install_agency(&up.client, &up.public, AGENCY).await;
    let location = "sandboxMapleYoga0002";
    until("the locations", PATIENCE, || async {
        let url = format!("{}/v1/installations?location={location}", up.internal);
        let (_, seen) = get(&up.client, &url).await;
        holds(seen["installations"][0].is_object(), seen)
    })
    .await;
    let told = doctor(&up, &[location]).await;
    told.says(0, &["Asleep", "takes a moment longer"]);
    up.sandbox.steer("revoke", AGENCY).await;
    until_status(&up, &agency, "invalid").await;
    let told = doctor(&up, &[location]).await;
    told.says(
        1,
        &[
            "Waiting for its agency",
            "GHL no longer accepts the agency's",
            &agency,
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_matches_are_explained_and_near_names_are_offered() {
    let up = Up::start(&[]).await;
    for (location, external_id) in [("locA", "org-1"), ("locB", "org-2")] {
        up.install(location).await;
        let url = format!("{}/v1/installations/{location}", up.internal);
        let body = json!({ "external_id": external_id, "tags": ["vip"] });
        assert_eq!(send(up.client.patch(url).json(&body)).await.0, 200);
    }
    let told = doctor(&up, &["vip"]).await;
    told.says(0, &["locA", "locB"]);
    let told = doctor(&up, &["org-2"]).await;
    told.says(0, &["locB"]);
    assert!(!told.stdout.contains("locA"), "{}", told.stdout);

    let told = doctor(&up, &["LOCA"]).await;
    told.says(
        1,
        &["No installation has exactly", "These are near it", "locA"],
    );
    let told = doctor(&up, &["nobody", "--app", "default"]).await;
    told.says(1, &["of the app default", "nobody", "connect-link"]);
    assert!(!told.stderr.contains("near it"), "{}", told.stderr);
    let none = doctor(&up, &["nobody", "--output", "json"]).await;
    assert_eq!((none.stdout.as_str(), none.code), ("[]\n", Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn search_finds_by_parts_and_by_exact_names() {
    let up = Up::start(&[]).await;
    for location in ["harborDental", "mapleYoga", "harborCafe"] {
        up.install(location).await;
    }
    let list = async |query: &str| -> Value {
        let url = format!("{}/v1/installations?{query}", up.internal);
        let (status, body) = get(&up.client, &url).await;
        assert_eq!(status, 200, "{body}");
        body
    };
    let locations = |page: &Value| -> Vec<String> {
        let all = page["installations"].as_array().unwrap().iter();
        let mut all: Vec<String> = all
            .map(|it| it["locationId"].as_str().unwrap().to_owned())
            .collect();
        all.sort_unstable();
        all
    };
    // On a busy machine a page ends before the search does.
    let whole = async |query: &str| {
        until("the end of the search", PATIENCE, || async {
            let page = list(query).await;
            holds(page["next"].is_null(), &page).map(|()| page)
        })
        .await
    };
    let page = whole("q=HARBOR").await;
    assert_eq!(locations(&page), ["harborCafe", "harborDental"]);
    assert_eq!(page["exact"], false);
    assert_eq!(page["searched"], 3);
    let page = list("q=mapleYoga").await;
    assert_eq!(
        (&page["exact"], locations(&page)),
        (&json!(true), vec!["mapleYoga".to_owned()])
    );
    let page = whole("q=mapleYoga&everywhere=true").await;
    assert_eq!(page["exact"], false);
    assert_eq!(locations(&page), ["mapleYoga"]);
    let page = whole("q=harbor&status=revoked").await;
    assert_eq!(locations(&page), [""; 0]);
    let page = list("").await;
    assert_eq!(page.get("exact"), None, "{page}");

    // Each page goes on where the one before has ended.
    let (mut seen, mut next) = (Vec::new(), String::new());
    for _ in 0..9 {
        let page = list(&format!("q=harbor&limit=1{next}")).await;
        seen.extend(locations(&page));
        let Some(after) = page["next"].as_str() else {
            break;
        };
        next = format!("&after={after}");
    }
    seen.sort_unstable();
    assert_eq!(seen, ["harborCafe", "harborDental"]);
}
