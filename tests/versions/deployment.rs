//! Two brokers and three gateways of either version, with installations of every kind.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use store::keys;
use tests::client::{self, get, send};
use tests::fleet::{Fleet, FleetConfig};
use tests::receiver::Receiver;
use tests::sandbox::AGENCY;
use tests::scratch::Scratch;
use tests::wait::{holds, until};
use tokio::time::Instant;

use crate::Version;
use crate::calls::Calls;

/// Refreshes that another process has begun may take some seconds more than the lifetime of a token.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Tokens live for 30 s, so every installation is refreshed each 22 s, when 7.5 s are left. A lease of a broker that died
/// ends within 3 s of that, which are 1.5 times the longest token call. The second app has the id `second`.
const SANDBOX: [(&str, &str); 2] = [("TOKEN_LIFETIME", "30s"), ("APPS", "second-a:secret-a")];
const STAGING: &str = "[apps.staging]\nclient_id = \"second-a\"\nclient_secrets = [\"secret-a\"]\n";
/// A location of [`AGENCY`].
const DERIVED: &str = "sandboxHarborDental1";
/// Its access token is refused by GHL from time to time. It gets no other calls.
const REFUSED: &str = "locRefused";
const REVOKED: &str = "locRevoked";
const CONNECTED: &str = "installation.connected";
const RECONNECTED: &str = "installation.reconnected";

pub(crate) struct Deployment {
    pub(crate) fleet: Fleet,
    pub(crate) receiver: Receiver,
    brokers: [Version; 2],
    gateways: [Version; 3],
    /// The location, or the company, of each installation that works, by its name for callers.
    pub(crate) owners: BTreeMap<String, String>,
    /// The installations with a refresh token of their own.
    refreshed: Vec<String>,
    revoked: String,
    /// Calls with a token that GHL refuses.
    refusals: u64,
    /// A client with a key that a broker made.
    backend: Client,
    /// Events that a broker of this version must have written: type and location.
    told: Vec<(&'static str, String)>,
    started: Instant,
    _settings: Scratch,
}

impl Deployment {
    /// All processes are of one version. 20 locations, an agency, and two installations of a second app.
    pub(crate) async fn start(version: Version, receiver: Receiver) -> Self {
        let scratch = Scratch::new();
        let path = scratch.join("evergreen.toml");
        std::fs::write(&path, STAGING).unwrap();
        let events = receiver.settings();
        // A broker of the previous version warns of settings that it does not know.
        let mut settings = vec![
            ("EVERGREEN_TOKEN_TIMEOUT", "2s"),
            ("EVERGREEN_DRAIN", "1s"),
            ("EVERGREEN_CONFIG", path.as_str()),
        ];
        settings.extend(events.iter().map(|(key, value)| (*key, value.as_str())));
        let config = FleetConfig {
            brokers: 2,
            lock_nodes: 3,
            sandbox: &SANDBOX,
            settings: &settings,
        };
        let start = |command: &'static str| move || version.start(&[command]);
        let fleet = Fleet::start_with(&config, start("broker"), start("gateway")).await;
        load_users(&fleet, version).await;
        let backend = client::of_key(&new_key(&fleet, 0).await.unwrap());
        let mut deployment = Self {
            fleet,
            receiver,
            brokers: [version; 2],
            gateways: [version; 3],
            owners: BTreeMap::new(),
            refreshed: Vec::new(),
            revoked: String::new(),
            refusals: 0,
            backend,
            told: Vec::new(),
            started: Instant::now(),
            _settings: scratch,
        };
        deployment.connect_all().await;
        deployment.until_gateways_serve().await;
        deployment
    }

    /// The connections of gateways were closed, too, see [`load_users`].
    async fn until_gateways_serve(&self) {
        let (name, owner) = self.owners.first_key_value().unwrap();
        for number in 0..self.gateways.len() {
            until("a call at each gateway", PATIENCE, || async {
                let called = self.called(&self.backend, number, name).await;
                holds(called == **owner, called)
            })
            .await;
        }
    }

    async fn connect_all(&mut self) {
        for number in 0..20 {
            self.connect(number % 3, &format!("loc{number:03}")).await;
        }
        self.connect(0, REFUSED).await;
        let (client, public) = (self.fleet.client.clone(), self.fleet.haproxy.url.clone());
        for location in ["locS1", "locS2"] {
            let id = client::install_app(&client, &public, "staging", location).await;
            self.add(id, location);
        }
        let agency = client::install_agency(&client, &public, AGENCY).await;
        self.add(agency, AGENCY);
        // Its token is minted when it is called.
        self.owners.insert(DERIVED.to_owned(), DERIVED.to_owned());
        self.revoked = client::install(&client, &public, REVOKED).await;
        let broker = &self.fleet.brokers[0].internal;
        let url = format!("{broker}/v1/installations/{}/revoke", self.revoked);
        let (status, body) = send(client.post(url)).await;
        assert_eq!(status, 200, "{body}");
    }

    fn add(&mut self, id: String, owner: &str) {
        self.refreshed.push(id.clone());
        self.owners.insert(id, owner.to_owned());
    }

    /// The broker that gets the consents of a gateway.
    fn broker_of(&self, gateway: usize) -> Version {
        self.brokers[gateway % self.brokers.len()]
    }

    fn public(&self, gateway: usize) -> String {
        format!("http://{}", self.fleet.gateways[gateway].address)
    }

    /// Connects a new location at a gateway.
    pub(crate) async fn connect(&mut self, gateway: usize, location: &str) -> String {
        let public = self.public(gateway);
        let id = client::install(&self.fleet.client, &public, location).await;
        self.add(id.clone(), location);
        self.note(gateway, CONNECTED, location);
        id
    }

    /// Connects a location again, with a consent that begins at a gateway and comes back to another one.
    pub(crate) async fn connect_again(&mut self, from: usize, to: usize, location: &str) {
        let begin = format!("{}/oauth/install", self.public(from));
        let addresses = (&*self.public(to), &*begin);
        let choice = ("locationId", location);
        let callback = client::consented_from(&self.fleet.client, addresses, choice).await;
        let (status, body) = send(callback.unwrap()).await;
        assert_eq!(status, 200, "{body}");
        let id = body["installationId"].as_str().unwrap();
        let owner = self.owners.get(id).map(String::as_str);
        assert_eq!(owner, Some(location), "it keeps its id: {body}");
        self.note(to, RECONNECTED, location);
    }

    fn note(&mut self, gateway: usize, event: &'static str, location: &str) {
        match self.broker_of(gateway) {
            Version::Current => self.told.push((event, location.to_owned())),
            Version::Previous => {}
        }
    }

    /// Makes the store load the users of this version.
    pub(crate) async fn load_users(&self) {
        self.step("the users of Redis are loaded");
        load_users(&self.fleet, Version::Current).await;
    }

    /// Prints a step with its time, for the output of a test that fails.
    pub(crate) fn step(&self, what: &str) {
        println!("{:?}: {what}", self.started.elapsed());
    }

    /// Calls for all installations except the agency.
    pub(crate) fn calls(&self) -> Calls {
        let names = self.owners.iter();
        let is_called = |owner: &str| owner != AGENCY && owner != REFUSED;
        let names = names.filter(|(_, owner)| is_called(owner));
        let names = names.map(|(name, _)| name.clone()).collect();
        self.step("calls begin");
        let url = self.fleet.haproxy.url.clone();
        Calls::start(self.fleet.client.clone(), url, names)
    }

    /// Stops a broker, and starts it as another version with its data.
    pub(crate) async fn replace_broker(&mut self, number: usize, version: Version) {
        self.step(&format!("broker {number} becomes {version:?}"));
        self.fleet.brokers[number].stop().await;
        self.launch_broker(number, version).await;
    }

    /// As [`Self::replace_broker`], with `kill -9`.
    pub(crate) async fn crash_broker(&mut self, number: usize, version: Version) {
        self.step(&format!("broker {number} dies and becomes {version:?}"));
        self.fleet.brokers[number].kill().await;
        self.launch_broker(number, version).await;
    }

    async fn launch_broker(&mut self, number: usize, version: Version) {
        let broker = &mut self.fleet.brokers[number];
        broker.use_program(version.program());
        broker.launch().await;
        self.brokers[number] = version;
    }

    /// Starts a broker of this version before the store has its users, and expects that it is not ready.
    pub(crate) async fn start_broker_without_rights(&mut self, number: usize) {
        self.step(&format!("broker {number} becomes Current too early"));
        let broker = &mut self.fleet.brokers[number];
        broker.stop().await;
        broker.use_program(Version::Current.program());
        broker.spawn();
        let (client, url) = (&self.fleet.client, format!("{}/readyz", broker.internal));
        until("the missing right", PATIENCE, || async {
            let sent = client.get(&url).send().await;
            let body = client::body(sent.map_err(|error| error.to_string())?).await;
            let body = body.to_string();
            holds(body.contains("deploy/users.acl"), body)
        })
        .await;
    }

    /// Stops a gateway, and starts it as another version. Waits until it gets calls again.
    pub(crate) async fn replace_gateway(&mut self, number: usize, version: Version) {
        self.step(&format!("gateway {number} becomes {version:?}"));
        let gateway = &mut self.fleet.gateways[number];
        gateway.stop().await;
        gateway.use_program(version.program());
        gateway.launch().await;
        self.gateways[number] = version;
        let haproxy = &self.fleet.haproxy;
        haproxy.until_serving(number, true, PATIENCE).await;
    }

    /// The installations as a broker shows them, by their ids.
    pub(crate) async fn shown_by(&self, broker: usize) -> BTreeMap<String, Value> {
        let internal = &self.fleet.brokers[broker].internal;
        let url = format!("{internal}/v1/installations?limit=1000");
        let (status, listed) = get(&self.fleet.client, &url).await;
        assert_eq!(status, 200, "{listed}");
        let listed = listed["installations"].as_array().unwrap().iter();
        let id = |one: &Value| one["installationId"].as_str().unwrap().to_owned();
        listed.map(|one| (id(one), one.clone())).collect()
    }

    /// Waits until every installation has been refreshed from now on, and each broker has refreshed some.
    pub(crate) async fn until_all_refreshed(&self) {
        let earlier = self.shown_by(0).await;
        let seen = self.refreshes();
        until("every refresh", PATIENCE, || async {
            let now = self.shown_by(1).await;
            let generation = |all: &BTreeMap<String, Value>, id: &String| {
                let text = all.get(id).and_then(|it| it["generation"].as_str());
                text.and_then(|text| text.parse::<u64>().ok())
            };
            let mut ids = self.refreshed.iter();
            let late = ids.find(|id| generation(&now, id) <= generation(&earlier, id));
            holds(late.is_none(), late.map(|id| now.get(id)))
        })
        .await;
        until("each broker to refresh", PATIENCE, || async {
            let now = self.refreshes();
            holds(now[0] > seen[0] && now[1] > seen[1], (seen, now))
        })
        .await;
    }

    /// The refreshes of each broker since its start.
    fn refreshes(&self) -> [usize; 2] {
        [0, 1].map(|number| {
            let log = self.fleet.brokers[number].log();
            let refreshes = log.iter().filter(|line| line.contains("[REFRESH] "));
            refreshes.count()
        })
    }

    /// Waits until a broker has sent a refresh token, as far as the store knows.
    pub(crate) async fn until_refresh_in_flight(&self, broker: usize) {
        const INTENTS: &str = "local all = {}
            for i, key in ipairs(KEYS) do all[i] = redis.call('HGET', key, 'intent') or '' end
            return all";
        let ids = self.refreshed.iter();
        let keys: Vec<String> = ids.map(|id| keys::refresh(&id.parse().unwrap())).collect();
        let count = keys.len().to_string();
        let mut command = vec!["EVAL", INTENTS, &count];
        command.extend(keys.iter().map(String::as_str));
        let login = self.fleet.redis.operator();
        let name = format!("broker-{broker}");
        until("a refresh in flight", PATIENCE, || async {
            let intents = self.fleet.redis.store.cli(&login, &command).await;
            holds(intents.contains(&name), intents)
        })
        .await;
    }

    /// Every gateway serves every installation with the right token, keys of brokers open it, and a token that GHL
    /// refuses is refreshed. Every broker shows every installation.
    pub(crate) async fn expect_service(&mut self) {
        for number in 0..self.gateways.len() {
            let versions = (self.gateways[number], self.broker_of(number));
            for (name, owner) in &self.owners {
                let called = self.called(&self.backend, number, name).await;
                assert_eq!(called, **owner, "{name} at {versions:?}");
            }
            let id = self.id_of(REFUSED);
            self.fleet.sandbox.steer("expire", REFUSED).await;
            self.refusals += 1;
            let called = self.called(&self.backend, number, &id).await;
            assert_eq!(called, REFUSED, "{versions:?}");
            let internal = &self.fleet.gateways[number].internal;
            let url = format!("{internal}/v1/installations/{id}/token");
            let (status, body) = get(&self.fleet.client, &url).await;
            assert_eq!(status, 200, "{body} at {versions:?}");
        }
        for number in 0..self.brokers.len() {
            let version = self.brokers[number];
            let shown = self.shown_by(number).await;
            for id in &self.refreshed {
                let status = shown.get(id).map(|it| &it["tokenStatus"]);
                let works = status.is_some_and(|it| it == "valid" || it == "expiring");
                assert!(works, "{id} at {version:?}: {:?}", shown.get(id));
            }
            assert_eq!(
                shown[&self.revoked]["tokenStatus"], "revoked",
                "{version:?}"
            );
        }
    }

    fn id_of(&self, location: &str) -> String {
        let mut owners = self.owners.iter();
        owners
            .find(|(_, owner)| *owner == location)
            .unwrap()
            .0
            .clone()
    }

    /// Whose token a call of this name takes at a gateway, or the error.
    pub(crate) async fn called(&self, client: &Client, gateway: usize, name: &str) -> Value {
        let url = format!("{}/ghl/_sandbox/echo/x", self.public(gateway));
        let call = client.get(url).header("x-installation-id", name);
        let (status, mut body) = send(call).await;
        match status {
            200 => body["authClassId"].take(),
            _ => body,
        }
    }

    /// Waits until the receiver has every event that a broker of this version must have written.
    pub(crate) async fn until_all_told(&self) {
        until("every event", PATIENCE * 2, || async {
            let taken = self.receiver.taken();
            let is_there = |(kind, location): &(&str, String)| {
                let mut taken = taken.iter();
                taken.any(|it| it.kind() == *kind && it.location() == *location)
            };
            let missing = self.told.iter().find(|wanted| !is_there(wanted));
            holds(missing.is_none(), (missing, taken.len()))
        })
        .await;
    }

    /// No refresh token was spent outside the grace, and no call used a token that GHL does not know. Returns how many
    /// spent tokens were repeated within the grace.
    pub(crate) async fn expect_no_token_lost(&self) -> u64 {
        let ledger = self.fleet.sandbox.ledger().await;
        for (name, expected) in [
            ("spent_outside_grace", 0),
            ("calls_with_unknown_token", 0),
            ("calls_with_expired_token", self.refusals),
        ] {
            assert_eq!(ledger[name], expected, "{name}: {ledger}");
        }
        for refused in ["invalid_grant", "invalid_client"] {
            assert_eq!(ledger["token_calls"][refused], 0, "{refused}: {ledger}");
        }
        println!("{ledger}");
        ledger["replays_in_grace"].as_u64().unwrap()
    }
}

/// Makes the store load the users of a version. Redis 7.0 closes all connections then, so the next write may fail.
async fn load_users(fleet: &Fleet, version: Version) {
    fleet.redis.load_users(&version.users()).await;
    for broker in 0..fleet.brokers.len() {
        until("a write of each broker", PATIENCE, || {
            new_key(fleet, broker)
        })
        .await;
    }
}

/// A key for calls that a broker makes, or the error.
async fn new_key(fleet: &Fleet, broker: usize) -> Result<String, String> {
    let url = format!("{}/v1/keys", fleet.brokers[broker].internal);
    let key = json!({ "name": "backend", "scopes": ["proxy"] });
    let (status, created) = send(fleet.client.post(url).json(&key)).await;
    let key = created["key"].as_str().filter(|_| status == 201);
    key.map(str::to_owned).ok_or_else(|| created.to_string())
}
