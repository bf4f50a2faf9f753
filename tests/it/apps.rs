//! Several apps at GHL: each installation is refreshed with the credentials of its own app.

mod brokers;
mod consents;

use std::time::Duration;

use serde_json::{Value, json};
use tests::client::{self, get};
use tests::sandbox::{AGENCY, Sandbox};
use tests::scratch::Scratch;
use tests::up::Up;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(90);
/// The default app of the sandbox has the id `sandbox`, and the second one `second`.
const SANDBOX_APPS: (&str, &str) = ("APPS", "second-a:secret-a,second-b:secret-b");
const STAGING: &str = "[apps.staging]\nclient_id = \"second-a\"\nclient_secrets = [\"secret-a\"]\n";

/// `evergreen up` with the apps `default` and `staging`, over one sandbox.
struct TwoApps {
    up: Up,
    sandbox: Sandbox,
    settings: Settings,
}

/// A settings file.
struct Settings {
    scratch: Scratch,
}

impl Settings {
    fn new(text: &str) -> Self {
        let settings = Self {
            scratch: Scratch::new(),
        };
        settings.write(text);
        settings
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn path(&self) -> String {
        self.scratch.join("evergreen.toml")
    }
}

impl TwoApps {
    /// `apps`: the settings file.
    async fn start(apps: &str, sandbox: &[(&str, &str)], settings: &[(&str, &str)]) -> Self {
        let up = Up::start(settings).await;
        let webhooks = format!("{}/webhooks/ghl", up.public);
        let mut own = vec![SANDBOX_APPS, ("WEBHOOK_URL", &webhooks)];
        own.extend(sandbox);
        let sandbox = Sandbox::start(&own).await;
        let settings = Settings::new(apps);
        let key = sandbox.webhook_key().await;
        let up = up
            .with("EVERGREEN_CONFIG", settings.path())
            .with("GHL_WEBHOOK_ED25519_KEY", key)
            .against(&sandbox)
            .await;
        Self {
            up,
            sandbox,
            settings,
        }
    }

    async fn install_staging(&self, location: &str) -> String {
        client::install_app(&self.up.client, &self.up.public, "staging", location).await
    }

    async fn shown(&self, id: &str) -> Value {
        let url = format!("{}/v1/installations/{id}", self.up.internal);
        get(&self.up.client, &url).await.1
    }

    async fn listed(&self, query: &str) -> Vec<Value> {
        let url = format!("{}/v1/installations?{query}", self.up.internal);
        let (_, listed) = get(&self.up.client, &url).await;
        listed["installations"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    async fn generation(&self, id: &str) -> u64 {
        let shown = self.shown(id).await;
        shown["generation"].as_str().unwrap_or("0").parse().unwrap()
    }

    /// Waits until each of them has been refreshed this often from now on.
    async fn until_all_refreshed(&self, ids: &[String], times: u64) {
        let mut wanted = Vec::with_capacity(ids.len());
        for id in ids {
            wanted.push((id, self.generation(id).await + times));
        }
        for (id, generation) in wanted {
            self.until_refreshed(id, generation).await;
        }
    }

    async fn until_refreshed(&self, id: &str, generation: u64) {
        // While credentials are refused, each is tried every 30 s, and one of them tests the credentials.
        let patience = 2 * PATIENCE;
        until(&format!("{id} to be refreshed"), patience, || async {
            let now = self.generation(id).await;
            holds(now >= generation, now)
        })
        .await;
    }
}

/// Expects that no token was sent with the credentials of another app, and none was refused.
async fn expect_right_pairs(sandbox: &Sandbox) {
    let ledger = sandbox.ledger().await;
    for never in ["invalid_client", "invalid_grant"] {
        assert_eq!(ledger["token_calls"][never], 0, "{never}: {ledger}");
    }
    let clients = ledger["clients"].as_object().unwrap();
    for (client, tally) in clients {
        assert_eq!(tally["presented_by_other_client"], 0, "{client}: {ledger}");
    }
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn location_of_two_apps_has_two_installations_each_with_its_own_pair() {
    let apps = TwoApps::start(STAGING, &[("TOKEN_LIFETIME", "8s")], &[]).await;
    let default = apps.up.install("loc1").await;
    let staging = apps.install_staging("loc1").await;
    assert_ne!(default, staging);
    for (id, app, client) in [
        (&default, "default", "sandbox-client"),
        (&staging, "staging", "second-a"),
    ] {
        let shown = apps.shown(id).await;
        assert_eq!(
            (&shown["app"], &shown["clientId"]),
            (&json!(app), &json!(client))
        );
        apps.until_refreshed(id, 3).await;
        let of_app = apps.listed(&format!("app={app}")).await;
        assert_eq!(of_app.len(), 1);
        assert_eq!(of_app[0]["installationId"], id.as_str());
    }
    expect_right_pairs(&apps.sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn call_for_a_location_of_two_apps_names_its_app() {
    let apps = TwoApps::start(STAGING, &[], &[]).await;
    apps.up.install("loc1").await;
    let staging = apps.install_staging("loc1").await;
    let url = format!("{}/ghl/contacts/?locationId=loc1", apps.up.public);
    let (status, body) = get(&apps.up.client, &url).await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("app_ambiguous")),
        "{body}"
    );
    for app in ["default", "staging"] {
        let call = apps.up.client.get(&url).header("x-evergreen-app", app);
        let (status, body) = client::send(call).await;
        assert_eq!(status, 200, "{app}: {body}");
    }
    let (status, body) = get(
        &apps.up.client,
        &format!("{}/v1/installations/loc1", apps.up.internal),
    )
    .await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("app_ambiguous")),
        "{body}"
    );
    let shown = apps.shown("loc1?app=staging").await;
    assert_eq!(shown["installationId"], staging.as_str());

    let key = apps
        .up
        .command(&["keys", "create", "--name", "staging", "--app", "staging"])
        .run()
        .await;
    assert!(key.status.success(), "{key:?}");
    let key = String::from_utf8(key.stdout).unwrap();
    let with_key = |url: &str| apps.up.client.get(url).header("x-api-key", key.trim());
    assert_eq!(
        client::send(with_key(&url)).await.0,
        200,
        "the key is for one app"
    );
    // A key for one installation does not learn that the location has another one.
    let only = [
        "keys",
        "create",
        "--name",
        "one",
        "--installation",
        &staging,
    ];
    let only = apps.up.command(&only).run().await;
    let only = String::from_utf8(only.stdout).unwrap();
    let status = format!("{}/api/oauth/status?locationId=loc1", apps.up.public);
    let status = apps.up.client.get(status).header("x-api-key", only.trim());
    let (code, body) = client::send(status).await;
    assert_eq!(
        (code, &body["installationId"]),
        (200, &json!(staging)),
        "{body}"
    );

    let other = with_key(&url).header("x-evergreen-app", "default");
    assert_eq!(client::send(other).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstallation_ends_the_installation_of_its_app_alone() {
    let apps = TwoApps::start(STAGING, &[], &[]).await;
    let default = apps.up.install("loc1").await;
    let staging = apps.install_staging("loc1").await;
    let gone = json!({ "locationId": "loc1", "appId": "second" });
    let uninstall = format!("{}/_sandbox/uninstall", apps.sandbox.url);
    let (status, body) = client::send(apps.up.client.post(&uninstall).json(&gone)).await;
    assert_eq!(status, 200, "{body}");
    until("the webhook", PATIENCE, || async {
        let shown = apps.shown(&staging).await;
        holds(shown["tokenStatus"] == "revoked", shown)
    })
    .await;
    let shown = apps.shown(&staging).await;
    assert_eq!(shown["reconnect"], "/oauth/install?app=staging");
    assert_eq!(apps.shown(&default).await["tokenStatus"], "valid");
    let url = format!("{}/ghl/contacts/?locationId=loc1", apps.up.public);
    assert_eq!(get(&apps.up.client, &url).await.0, 200, "one is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_for_an_app_with_its_own_keys_needs_one_of_them() {
    let stranger = Sandbox::start(&[("CLIENT_SECRET", "another")]).await;
    let keys = stranger.webhook_key().await;
    let settings = format!("{STAGING}webhook_keys = \"\"\"\n{keys}\n\"\"\"\n");
    let apps = TwoApps::start(&settings, &[], &[]).await;
    let default = apps.up.install("loc1").await;
    let staging = apps.install_staging("loc1").await;
    // The sandbox signs both with its own key, which is that of the default app alone.
    for app in ["second", "sandbox"] {
        let gone = json!({ "locationId": "loc1", "appId": app });
        let uninstall = format!("{}/_sandbox/uninstall", apps.sandbox.url);
        let (status, body) = client::send(apps.up.client.post(&uninstall).json(&gone)).await;
        assert_eq!(status, 200, "{body}");
    }
    until("both webhooks", PATIENCE, || async {
        let shown = apps.shown(&default).await;
        let pending = apps.sandbox.ledger().await["webhooks"].clone();
        let is_told = pending["created"] == pending["delivered"];
        holds(
            is_told && shown["tokenStatus"] == "revoked",
            (shown, pending),
        )
    })
    .await;
    assert_eq!(apps.shown(&staging).await["tokenStatus"], "valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_are_added_and_removed_while_it_runs() {
    let apps = TwoApps::start("", &[("TOKEN_LIFETIME", "8s")], &[]).await;
    let default = apps.up.install("loc1").await;
    let reload = async |text: &str, expected: &str| {
        apps.settings.write(text);
        apps.up.program.signal(1);
        apps.up.program.wait_for_line(&[expected], PATIENCE).await;
    };
    reload(
        "[apps.staging]\nclient_id = \"second-a\"\n",
        "have mistakes",
    )
    .await;
    assert_eq!(apps.shown(&default).await["tokenStatus"], "valid");
    reload(STAGING, "the app is new").await;
    let staging = apps.install_staging("loc1").await;
    apps.until_refreshed(&staging, 2).await;
    reload("", "the app is gone").await;
    assert_eq!(apps.shown(&staging).await["tokenStatus"], "unclaimed");
    let unclaimed = apps.listed("status=unclaimed").await;
    assert_eq!(unclaimed.len(), 1, "{unclaimed:?}");
    let left_at = apps.shown(&staging).await["generation"].clone();
    let generation = apps.generation(&default).await;
    apps.until_refreshed(&default, generation + 3).await;
    assert_eq!(
        apps.shown(&staging).await["generation"],
        left_at,
        "it is left alone"
    );
    assert_eq!(apps.sandbox.count("spent_outside_grace").await, 0);
}

/// The settings in a directory with one file for each app, and secrets in files of their own.
#[tokio::test(flavor = "multi_thread")]
async fn apps_come_from_a_directory_too() {
    let directory = Scratch::new();
    let secret = directory.join("secret");
    std::fs::write(&secret, "wrong\nsecret-a\n").unwrap();
    let app = format!("client_id = \"second-a\"\nclient_secrets_file = \"{secret}\"\n");
    std::fs::write(directory.join("staging.toml"), app).unwrap();
    let settings = [("EVERGREEN_APPS_DIR", directory.path().to_str().unwrap())];
    // Without the default app's credentials it starts over the real GHL, which is not called.
    let apps = TwoApps::start("", &[], &[]).await;
    let mut up = apps.up.with(settings[0].0, settings[0].1);
    up.restart().await;
    let id = client::install_app(&up.client, &up.public, "staging", "loc1").await;
    let shown = get(
        &up.client,
        &format!("{}/v1/installations/{id}", up.internal),
    )
    .await
    .1;
    assert_eq!(
        shown["clientId"], "second-a",
        "the second secret is tried: {shown}"
    );
}

/// A client key of an app at GHL is replaced: the earlier one is kept until all customers have consented again.
#[tokio::test(flavor = "multi_thread")]
async fn earlier_client_id_refreshes_until_the_next_consent() {
    let before = "[apps.before]\nclient_id = \"second-a\"\nclient_secrets = [\"secret-a\"]\n";
    let now = STAGING
        .replace("second-a", "second-b")
        .replace("secret-a", "secret-b");
    let apps = TwoApps::start(STAGING, &[("TOKEN_LIFETIME", "8s")], &[]).await;
    let one = apps.install_staging("loc1").await;
    apps.settings.write(&format!("{now}{before}"));
    apps.up.program.signal(1);
    let changed = "the settings of the app have changed";
    apps.up.program.wait_for_line(&[changed], PATIENCE).await;
    let other = apps.install_staging("loc2").await;
    for (id, client) in [(&one, "second-a"), (&other, "second-b")] {
        let generation = apps.generation(id).await;
        apps.until_refreshed(id, generation + 2).await;
        let shown = apps.shown(id).await;
        let of = (&shown["app"], &shown["clientId"]);
        assert_eq!(of, (&json!("staging"), &json!(client)));
    }
    expect_right_pairs(&apps.sandbox).await;
    assert_eq!(apps.install_staging("loc1").await, one, "it keeps its id");
    assert_eq!(apps.shown(&one).await["clientId"], "second-b");
    assert_eq!(
        apps.listed("app=before").await.len(),
        0,
        "no webhook makes another one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn agency_of_the_second_app_opens_its_locations_for_that_app() {
    const LOCATION: &str = "sandboxHarborDental1";
    let apps = TwoApps::start(STAGING, &[], &[]).await;
    let begin = format!("{}/oauth/install?app=staging", apps.up.public);
    let at = (apps.up.public.as_str(), begin.as_str());
    let callback = client::consented_from(&apps.up.client, at, ("companyId", AGENCY)).await;
    let (_, installed) = client::send(callback.unwrap()).await;
    let agency = installed["installationId"].as_str().unwrap().to_owned();
    until("the list of locations", PATIENCE, || async {
        let shown = apps.shown(&agency).await;
        holds(shown["locations"]["count"] == 3, shown)
    })
    .await;
    let location = apps.shown(LOCATION).await;
    assert_eq!(
        (&location["app"], &location["parentId"]),
        (&json!("staging"), &json!(agency))
    );
    let url = format!("{}/ghl/contacts/?locationId={LOCATION}", apps.up.public);
    let (status, body) = get(&apps.up.client, &url).await;
    assert_eq!(status, 200, "{body}");
    let other = apps
        .up
        .client
        .get(&url)
        .header("x-evergreen-app", "default");
    let (status, body) = client::send(other).await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("installation_not_found")),
        "{body}"
    );
}

/// GHL refuses the earlier client id. Installations of the current one go on, and the others go on once GHL accepts it.
#[tokio::test(flavor = "multi_thread")]
async fn refused_earlier_client_id_pauses_its_own_installations_alone() {
    let before = "[apps.before]\nclient_id = \"second-a\"\nclient_secrets = [\"secret-a\"]\n";
    let now = STAGING.replace("second-a", "second-b");
    let now = now.replace("secret-a", "secret-b");
    let apps = TwoApps::start(STAGING, &[("TOKEN_LIFETIME", "8s")], &[]).await;
    let (mut earlier, mut current) = (Vec::new(), Vec::new());
    for number in 0..4 {
        earlier.push(apps.install_staging(&format!("early{number}")).await);
    }
    apps.settings.write(&format!("{now}{before}"));
    apps.up.program.signal(1);
    let changed = "the settings of the app have changed";
    apps.up.program.wait_for_line(&[changed], PATIENCE).await;
    for number in 0..4 {
        current.push(apps.install_staging(&format!("late{number}")).await);
    }
    let refused = |location: String| json!({ "on": "token", "kind": "invalid_client", "share": 1.0, "locationId": location });
    let rules: Vec<Value> = (0..4)
        .map(|number| refused(format!("early{number}")))
        .collect();
    apps.sandbox.faults(json!(rules)).await;
    let alarm = [
        "GHL refuses this broker's client id and secret",
        "app=before",
    ];
    apps.up.program.wait_for_line(&alarm, PATIENCE).await;
    apps.until_all_refreshed(&current, 3).await;
    let (ready, body) = get(&apps.up.client, &format!("{}/readyz", apps.up.internal)).await;
    assert_eq!(ready, 200, "{body}");
    apps.sandbox.faults(json!([])).await;
    apps.until_all_refreshed(&earlier, 1).await;
    for id in &earlier {
        assert_eq!(apps.shown(id).await["clientId"], "second-a");
    }
    assert_eq!(apps.sandbox.count("spent_outside_grace").await, 0);
}
