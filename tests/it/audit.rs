//! The audit log, with real processes: who did what is in the store and in a file, and no secret is.

mod gateways;
mod lines;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tests::client::{self, KEY, send};
use tests::sandbox::{AGENCY, Sandbox};
use tests::up::Up;
use tests::wait::{holds, until};

/// Equal events of a minute are counted together at its end.
const PATIENCE: Duration = Duration::from_secs(90);

/// The entries that the command line shows with these arguments, as many as it can.
async fn shown(up: &Up, more: &[&str]) -> Vec<Value> {
    let limit: &[&str] = match more {
        ["--limit", ..] => &[],
        _ => &["--limit", "10000"],
    };
    let args = [&["audit", "--output", "json"], limit, more].concat();
    let output = up.command(&args).run().await;
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn with_action<'e>(entries: &'e [Value], action: &str) -> Vec<&'e Value> {
    entries.iter().filter(|it| it["action"] == action).collect()
}

/// Waits until there are entries with this action whose counts add up to `count`. Returns all entries.
async fn until_counted(up: &Up, action: &str, count: u64) -> Vec<Value> {
    let what = format!("{count} times {action}");
    until(&what, PATIENCE, || async {
        let entries = shown(up, &[]).await;
        let counts = with_action(&entries, action).into_iter();
        let counted: u64 = counts.filter_map(|it| it["count"].as_u64()).sum();
        holds(counted == count, &entries).map(|()| entries)
    })
    .await
}

/// Creates a key. Returns its id and the key.
async fn create_key(up: &Up, name: &str, scope: &str) -> (String, String) {
    let url = format!("{}/v1/keys", up.internal);
    let body = json!({ "name": name, "scopes": [scope] });
    let (status, made) = send(up.client.post(url).json(&body)).await;
    assert_eq!(status, 201, "{made}");
    let text = |member: &str| made[member].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

fn token_url(up: &Up, id: &str) -> String {
    format!("{}/v1/installations/{id}/token", up.internal)
}

/// Gets the token of an installation. Returns the token.
async fn fetch(up: &Up, id: &str, key: &str) -> String {
    let request = client::anonymous().get(token_url(up, id)).bearer_auth(key);
    let (status, body) = send(request).await;
    assert_eq!(status, 200, "{body}");
    body["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_action_leaves_its_entry() {
    let up = Up::start(&[]).await;
    let hook = format!("{}/webhooks/ghl", up.public);
    let sandbox = Sandbox::start(&[("WEBHOOK_URL", &hook)]).await;
    let webhook_key = sandbox.webhook_key().await;
    let up = up.with("GHL_WEBHOOK_ED25519_KEY", webhook_key);
    let up = up.against(&sandbox).await;

    let (one, two) = (up.install("locA").await, up.install("locB").await);
    let (key_id, key) = create_key(&up, "crm", "tokens").await;
    let token = fetch(&up, &one, &key).await;
    let known = client::anonymous().get(token_url(&up, &two));
    let known = known.bearer_auth(&key).header("if-none-match", "\"1\"");
    assert_eq!(send(known).await.0, 304, "without a token");
    for args in [
        &["installations", "refresh", &one][..],
        &["keys", "rotate", "first"],
        &["keys", "revoke", "crm"],
        &["seal", "rotate"],
        &["installations", "revoke", &one],
    ] {
        let output = up.command(args).run().await;
        assert!(output.status.success(), "{output:?}");
    }
    let uninstall = json!({ "type": "UNINSTALL", "locationId": "locB", "webhookId": "w" });
    assert_eq!(sandbox.webhook(&uninstall).await["status"], 200);
    until("the revoked key to be refused", PATIENCE, || async {
        let request = client::anonymous()
            .get(token_url(&up, &two))
            .bearer_auth(&key);
        let (status, body) = send(request).await;
        holds(status == 401, body)
    })
    .await;

    until_counted(&up, "token_fetched", 1).await;
    let entries = until_counted(&up, "request_refused", 1).await;
    let mut counts = BTreeMap::new();
    for entry in &entries {
        *counts.entry(entry["action"].as_str().unwrap()).or_insert(0) += 1;
    }
    let expected = [
        ("installation_connected", 2),
        ("installation_revoked", 1),
        ("installation_uninstalled", 1),
        // The others are the administrator's, and that of the first start over GHL.
        ("key_created", 3),
        ("key_revoked", 1),
        ("key_rotated", 1),
        ("request_refused", 1),
        ("sealing_keys_rotated", 1),
        ("token_fetched", 1),
        ("token_refreshed", 1),
    ];
    assert_eq!(counts, BTreeMap::from(expected), "{entries:#?}");
    let only = |action: &str| with_action(&entries, action)[0].clone();

    let crm = json!({ "id": key_id[..8], "name": "crm" });
    let by_crm = json!({ "kind": "key", "id": key_id[..8], "name": "crm" });
    let fetched = only("token_fetched");
    assert_eq!(
        (&fetched["by"], &fetched["installation"]),
        (&by_crm, &json!(one))
    );
    assert_eq!(fetched["address"], "127.0.0.1");
    let refused = only("request_refused");
    assert_eq!(
        (&refused["by"], &refused["outcome"]),
        (&by_crm, &json!("refused"))
    );
    for action in ["key_created", "key_revoked"] {
        let entry = with_action(&entries, action);
        let entry = entry.iter().find(|it| it["key"] == crm);
        let entry = entry.unwrap_or_else(|| panic!("{action}: {entries:#?}"));
        assert_eq!(entry["by"]["kind"], "local_admin", "{entry}");
    }
    for (action, by, installation) in [
        ("token_refreshed", "local_admin", &one),
        ("installation_revoked", "local_admin", &one),
        ("installation_uninstalled", "webhook", &two),
    ] {
        let entry = only(action);
        assert_eq!(entry["by"]["kind"], by, "{entry}");
        assert_eq!(entry["installation"], **installation, "{entry}");
        assert_eq!(entry["outcome"], "done", "{entry}");
    }
    let connected = with_action(&entries, "installation_connected");
    assert_eq!(connected[0]["installation"], two, "the newest first");
    assert_eq!(connected[0]["detail"], "location locB");
    assert_eq!(connected[1]["by"]["kind"], "anonymous");

    // The filters.
    let about_two = shown(&up, &["--installation", "locB"]).await;
    assert_eq!(about_two.len(), 2, "{about_two:#?}");
    assert!(about_two.iter().all(|it| it["installation"] == two));
    for name in ["crm", &key_id[..8], &key_id] {
        let of_crm = shown(&up, &["--key", name]).await;
        assert_eq!(of_crm.len(), 4, "{name}: {of_crm:#?}");
    }
    let both = shown(&up, &["--key", "crm", "--installation", &one]).await;
    assert_eq!(both.len(), 1, "{both:#?}");
    assert_eq!(shown(&up, &["--limit", "3"]).await.len(), 3);
    let table = up.command(&["audit", "--key", "crm"]).run().await;
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.lines().count() == 5 && table.contains("token_fetched"),
        "{table}"
    );
    let unknown = up
        .command(&["audit", "--installation", "nobody"])
        .run()
        .await;
    assert_eq!(unknown.status.code(), Some(1));

    let all = json!(entries).to_string() + &table;
    for secret in [&token, &key, KEY] {
        assert!(!all.contains(secret), "{all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_fetches_are_one_entry_that_a_shutdown_completes() {
    let mut up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let (_, key) = create_key(&up, "busy", "tokens").await;
    for _ in 0..20 {
        fetch(&up, &id, &key).await;
    }
    until("an entry", PATIENCE, || async {
        let entries = shown(&up, &["--key", "busy"]).await;
        holds(!with_action(&entries, "token_fetched").is_empty(), entries)
    })
    .await;
    for _ in 0..20 {
        fetch(&up, &id, &key).await;
    }
    // The minute is not over.
    let (code, log) = up.restart().await;
    assert_eq!(code, Some(0), "{log:#?}");
    let entries = until_counted(&up, "token_fetched", 40).await;
    let fetched = with_action(&entries, "token_fetched");
    assert_eq!(fetched.len(), 1, "{fetched:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cannot_flood_the_audit_log() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let before = shown(&up, &[]).await;
    let (token, keys) = (token_url(&up, &id), format!("{}/v1/keys", up.internal));
    let open = client::anonymous();
    for last in 0..=255 {
        for url in [&token, &keys] {
            let wrong = format!("evg_stranger{last}");
            let request = open.get(url).bearer_auth(wrong);
            let request = request.header("x-forwarded-for", format!("203.0.113.{last}"));
            assert_eq!(send(request).await.0, 401);
        }
    }
    let entries = until_counted(&up, "request_refused", 2 * 256).await;
    let refused = with_action(&entries, "request_refused");
    assert!(refused.len() < 80, "{} entries", refused.len());
    assert_eq!(entries.len(), before.len() + refused.len());
    let all = json!(entries).to_string();
    assert!(
        !all.contains("stranger") && all.contains("203.0.113.0"),
        "{all}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn token_through_ghls_own_path_and_refused_scopes_leave_entries() {
    let up = Up::start(&[]).await;
    let company = client::install_agency(&up.client, &up.public, AGENCY).await;
    let search = format!("{}/ghl/locations/search?companyId={AGENCY}", up.public);
    let search = up.client.get(search).header("x-installation-id", &company);
    let (_, found) = send(search).await;
    let location = found["locations"][0]["id"].as_str().unwrap().to_owned();
    let (_, tokens) = create_key(&up, "minter", "tokens").await;
    let (_, proxy) = create_key(&up, "plain", "proxy").await;
    let mint = |key: &str| {
        let url = format!("{}/ghl/oauth/locationToken", up.public);
        let wish = json!({ "companyId": AGENCY, "locationId": location });
        let request = client::anonymous().post(url).json(&wish);
        request
            .bearer_auth(key)
            .header("x-installation-id", &company)
    };
    let (status, body) = send(mint(&proxy)).await;
    assert_eq!(status, 403, "{body}");
    let (status, body) = send(mint(&tokens)).await;
    assert_eq!(status, 200, "{body}");
    let entries = until_counted(&up, "token_fetched", 1).await;
    let fetched = with_action(&entries, "token_fetched");
    assert_eq!(fetched[0]["installation"], company);
    assert_eq!(fetched[0]["by"]["name"], "minter");
    let entries = until_counted(&up, "request_refused", 1).await;
    let refused = with_action(&entries, "request_refused");
    assert_eq!(refused[0]["by"]["name"], "plain");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_list_shows_the_day_of_the_last_use() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let (_, key) = create_key(&up, "used", "proxy").await;
    create_key(&up, "unused", "proxy").await;
    let call = client::anonymous().get(format!("{}/ghl/_sandbox/echo/x", up.public));
    let call = call.bearer_auth(&key).header("x-installation-id", &id);
    assert_eq!(send(call).await.0, 200);

    let url = format!("{}/v1/keys", up.internal);
    let today = || store::Timestamp::of_this_machine().to_string()[..10].to_owned();
    let first = today();
    let days = until("the day of the use", PATIENCE, || async {
        let (_, listed) = client::get(&up.client, &url).await;
        let keys = listed["keys"].as_array().cloned().unwrap_or_default();
        let keys = keys.into_iter();
        let days: BTreeMap<String, Value> = keys
            .map(|key| {
                (
                    key["name"].as_str().unwrap().to_owned(),
                    key["lastUsedOn"].clone(),
                )
            })
            .collect();
        let is_there = |name: &str| !days[name].is_null();
        let is_so = is_there("used") && is_there("local administrator");
        holds(is_so, &days).map(|()| days)
    })
    .await;
    let day = days["used"].as_str().unwrap();
    assert!(day == first || day == today(), "{days:?}");
    assert_eq!(days["unused"], Value::Null);

    let listed = up.command(&["keys", "list"]).run().await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    let line = |name: &str| listed.lines().find(|line| line.contains(name)).unwrap();
    assert!(line(" used ").contains(day), "{listed}");
    assert!(line("unused").contains("never"), "{listed}");
}
