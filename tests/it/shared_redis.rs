//! Deployments that share Redis and a lock node, by a prefix of their keys and by a database.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::client::{self, get, send};
use tests::deployed::Secrets;
use tests::fleet::Member;
use tests::port;
use tests::program::Start;
use tests::redis::{Redis, cli};
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;
use tests::wait::{holds, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// The servers, with the users of all deployments.
struct Servers {
    store: Redis,
    locks: Redis,
    scratch: Scratch,
}

/// The names of a deployment: its prefix, and its database in the store.
type Name = (&'static str, &'static str);

impl Servers {
    /// Makes the secrets of each deployment as an operator does, and starts the servers with the users of all.
    async fn start(names: &[Name]) -> Self {
        let scratch = Scratch::new();
        let (store_port, lock_port) = (port::free(), port::free());
        let make = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/make-secrets");
        for (prefix, database) in names {
            let made = Start::new(&make)
                .args(&[scratch.join(prefix)])
                .env("STORE", format!("127.0.0.1:{store_port}"))
                .env("LOCKS", format!("127.0.0.1:{lock_port}"))
                .env("PREFIX", prefix)
                .env("DATABASE", database)
                .run()
                .await;
            assert!(made.status.success(), "{made:?}");
        }
        let servers = [
            ("store-users.acl", store_port),
            ("lock-users.acl", lock_port),
        ];
        let mut started = Vec::new();
        for (file, port) in servers {
            let mut users = String::new();
            for (prefix, _) in names {
                let own = fs::read_to_string(scratch.path().join(prefix).join(file)).unwrap();
                // The users of the servers themselves are those of the first deployment.
                let is_new =
                    |line: &&str| users.is_empty() || line.starts_with(&format!("user {prefix}-"));
                let lines: Vec<&str> = own.lines().filter(is_new).collect();
                users.push_str(&format!("{}\n", lines.join("\n")));
            }
            let merged = scratch.join(file);
            fs::write(&merged, users).unwrap();
            started.push(Redis::start_at(port, &["--aclfile", &merged]).await);
        }
        let [store, locks] = started.try_into().unwrap();
        Self {
            store,
            locks,
            scratch,
        }
    }

    fn secrets(&self, prefix: &str) -> Secrets {
        Secrets::at(self.scratch.path().join(prefix))
    }

    /// The names of all keys of a database, as the operator sees them.
    async fn keys(&self, server: &Redis, database: &str) -> Vec<String> {
        let operator = self.secrets("ghl").operator();
        let all = ["-n", database, "keys", "*"];
        let listed = cli(server.port(), Some(&operator), &all).await;
        listed.lines().map(str::to_owned).collect()
    }
}

/// A broker and a gateway.
struct Deployment {
    sandbox: Sandbox,
    broker: Member,
    gateway: Member,
    client: reqwest::Client,
}

impl Deployment {
    async fn start(servers: &Servers, prefix: &'static str) -> Self {
        let (sandbox, secrets) = (Sandbox::start(&[]).await, servers.secrets(prefix));
        let with = |start: Start, url: &str| {
            start
                .env("EVERGREEN_REDIS_URL_FILE", secrets.file(url))
                .env("EVERGREEN_REDIS_PREFIX", prefix)
                .env("EVERGREEN_ACCESS_KEYS_FILE", secrets.file("access-keys"))
                .env("GHL_API_URL", &sandbox.url)
        };
        let broker = with(Start::evergreen(&["broker"]), "broker-redis-url")
            .env("EVERGREEN_LOCK_URLS_FILE", secrets.file("lock-urls"))
            .env("EVERGREEN_REFRESH_KEYS_FILE", secrets.file("refresh-keys"))
            .env(
                "EVERGREEN_DATA_DIR",
                servers.scratch.join(&format!("data-{prefix}")),
            )
            .env("GHL_CLIENT_ID", "sandbox-client")
            .env("GHL_CLIENT_SECRET", "sandbox-secret")
            .env(
                "GHL_AUTHORIZE_URL",
                format!("{}/v2/oauth/chooselocation", sandbox.url),
            );
        let broker = Member::start(broker).await;
        let gateway = with(Start::evergreen(&["gateway"]), "gateway-redis-url")
            .env("EVERGREEN_BROKER_URL", format!("http://{}", broker.address));
        Self {
            gateway: Member::start(gateway).await,
            broker,
            sandbox,
            client: client::new(),
        }
    }

    async fn install(&self, location: &str) -> String {
        let url = format!("http://{}", self.broker.address);
        client::install(&self.client, &url, location).await
    }

    async fn refresh(&self, id: &str) {
        let url = format!("{}/v1/installations/{id}/refresh", self.broker.internal);
        let (status, refreshed) = send(self.client.post(url)).await;
        assert_eq!(status, 200, "{refreshed}");
    }

    /// The answer of the gateway to a service that asks for a token.
    async fn token(&self, id: &str) -> (u16, Value) {
        let url = format!("{}/v1/installations/{id}/token", self.gateway.internal);
        get(&self.client, &url).await
    }

    async fn generation(&self, id: &str) -> Value {
        self.token(id).await.1["generation"].clone()
    }

    async fn listed(&self) -> usize {
        let url = format!("{}/v1/installations", self.broker.internal);
        let (_, listed) = get(&self.client, &url).await;
        listed["installations"].as_array().map_or(0, Vec::len)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_with_prefixes_and_a_database_do_not_see_each_other() {
    let servers = Servers::start(&[("ghl", "0"), ("acme", "0"), ("third", "3")]).await;
    let mut all = Vec::new();
    for prefix in ["ghl", "acme", "third"] {
        all.push(Deployment::start(&servers, prefix).await);
    }
    let mut ids = Vec::new();
    for (number, one) in all.iter().enumerate() {
        ids.push(one.install(&format!("loc{number}")).await);
    }
    for (number, one) in all.iter().enumerate() {
        assert_eq!(one.listed().await, 1);
        for (of, id) in ids.iter().enumerate() {
            let (status, answer) = one.token(id).await;
            assert_eq!(status == 200, of == number, "{answer}");
        }
    }

    // A refresh of one is announced to its own gateway, and to no other.
    for (number, one) in all.iter().enumerate() {
        let before = one.generation(&ids[number]).await;
        one.refresh(&ids[number]).await;
        until("the announced generation", PATIENCE, || async {
            let now = one.generation(&ids[number]).await;
            holds(now != before, now)
        })
        .await;
        assert_eq!(one.sandbox.ledger().await["spent_outside_grace"], 0);
    }

    // The command line finds the keys of callers by the prefix.
    let third = servers.secrets("third");
    let created = Start::evergreen(&["keys", "create", "--name", "shop", "--scope", "proxy"])
        .env("EVERGREEN_REDIS_URL_FILE", third.file("broker-redis-url"))
        .env("EVERGREEN_REDIS_PREFIX", "third")
        .run()
        .await;
    let said = String::from_utf8(created.stdout).unwrap();
    let key = said
        .split_whitespace()
        .find(|word| word.starts_with("evg_"));
    let key = key.unwrap_or_else(|| panic!("no key: {said}"));
    for (number, one) in all.iter().enumerate() {
        let url = format!(
            "http://{}/api/ghl/products?installation_id={}",
            one.gateway.address, ids[number]
        );
        let request = client::anonymous().get(url).bearer_auth(key);
        let expected = if number == 2 { 200 } else { 401 };
        let (status, answer) = send(request).await;
        assert_eq!(status, expected, "{number}: {answer}");
    }

    // Each has its keys under its own prefix, and in its own database.
    let first = servers.keys(&servers.store, "0").await;
    for prefix in ["ghl:", "acme:"] {
        assert!(first.iter().any(|key| key.starts_with(prefix)), "{first:?}");
    }
    let is_of_two = |key: &String| key.starts_with("ghl:") || key.starts_with("acme:");
    assert!(first.iter().all(is_of_two), "{first:?}");
    let third = servers.keys(&servers.store, "3").await;
    assert!(third.len() > 5, "{third:?}");
    assert!(
        third.iter().all(|key| key.starts_with("third:")),
        "{third:?}"
    );
    let locks = servers.keys(&servers.locks, "0").await;
    for prefix in ["ghl:lock:", "acme:lock:", "third:lock:"] {
        assert!(locks.iter().any(|key| key.starts_with(prefix)), "{locks:?}");
    }

    // Without the prefix its users may read nothing, and the process says so.
    let acme = servers.secrets("acme");
    let wrong = Start::evergreen(&["gateway"])
        .env("EVERGREEN_REDIS_URL_FILE", acme.file("gateway-redis-url"))
        .env("EVERGREEN_ACCESS_KEYS_FILE", acme.file("access-keys"));
    let mut wrong = Member::new(wrong);
    wrong.spawn();
    let (client, url) = (client::new(), format!("{}/readyz", wrong.internal));
    until("a gateway that is not ready", PATIENCE, || async {
        let Ok(response) = client.get(&url).send().await else {
            return Err("no answer".to_owned());
        };
        let (status, body) = (response.status(), client::body(response).await.to_string());
        let is_told = body.contains("refuses what a gateway reads");
        holds(status == 503 && is_told, (status, body))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefix_with_other_characters_is_a_mistake() {
    for prefix in ["a:b", "Acme", "a*", "seventeen-letters"] {
        let output = Start::evergreen(&["gateway"])
            .env("EVERGREEN_REDIS_URL", "redis://127.0.0.1:1")
            .env("EVERGREEN_REDIS_PREFIX", prefix)
            .run()
            .await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("EVERGREEN_REDIS_PREFIX must be"), "{said}");
    }
}
