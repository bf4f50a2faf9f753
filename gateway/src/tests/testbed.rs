//! A gateway between an in-memory store and two fake servers on loopback.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::Value;
use service::config::Settings;
use service::connection_limits::ConnectionLimits;
use service::handler::Handler as _;
use service::origin::OwnHosts;
use service::readiness::Readiness;
use service::shutdown::Shutdown;
use store::reader::ReadBackend;
use store::record::{Fields, StoredAccess, access_label};
use store::{
    AppName, Caller, Generation, InstallationId, Invalidation, KeyHash, KeyRing, Quota, ReadError,
    Scope, Status, Timestamp, TokenReader, UserType,
};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tower::ServiceExt;

use crate::{Config, Gateway, PublicAccess};

pub(super) const LIFETIME: Duration = Duration::from_secs(86_400);

/// A gateway with its store, GHL and broker.
pub(super) struct Testbed {
    pub(super) store: Arc<FakeStore>,
    pub(super) ghl: Server,
    pub(super) broker: Server,
    pub(super) gateway: Gateway,
    _shutdown: Shutdown,
}

impl Testbed {
    pub(super) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(super) async fn with(settings: &[(&str, &str)]) -> Self {
        let store = Arc::new(FakeStore::new());
        let (ghl, broker) = (Server::start().await, Server::start().await);
        broker.answers(async |_| StatusCode::SERVICE_UNAVAILABLE.into_response());
        ghl.answers(async |_| Response::default());
        let (ghl_url, broker_url) = (ghl.url(), broker.url());
        let defaults = [
            ("GHL_API_URL", ghl_url.as_str()),
            ("EVERGREEN_BROKER_URL", broker_url.as_str()),
        ];
        let pairs = defaults.iter().chain(settings);
        let source: HashMap<String, String> = pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut settings = Settings::new(&source);
        let config = Config::read(&mut settings);
        let config = settings.finish(config).unwrap();
        let shutdown = Shutdown::new();
        let reader = TokenReader::from_backend(store.clone(), store.ring.clone());
        let access = PublicAccess {
            own_hosts: OwnHosts::any(),
            allows_anonymous: true,
            readiness: Readiness::new(),
        };
        let gateway = Gateway::new(config, access, &reader, &shutdown);
        let testbed = Self {
            store,
            ghl,
            broker,
            gateway,
            _shutdown: shutdown,
        };
        testbed.process_announcements().await;
        testbed
    }

    /// Lets the gateway process all announcements.
    pub(super) async fn process_announcements(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn send(&self, request: Request) -> Response {
        self.gateway.public().handle(request, LOCAL).await
    }

    pub(super) async fn get(&self, uri: &str) -> Response {
        self.send(get(uri)).await
    }

    /// Sends it with an administrator's key, unless it has another one.
    pub(super) async fn internal(&self, mut request: Request) -> Response {
        self.store.put_caller("evg_admin", &[Scope::Admin], None);
        let key = "evg_admin".parse().unwrap();
        request.headers_mut().entry("x-api-key").or_insert(key);
        let routes = self.gateway.internal(OwnHosts::any());
        routes.oneshot(request).await.unwrap()
    }

    /// A location's installation. Its token has the first generation and expires after `left`.
    pub(super) fn install(&self, left: Duration) -> InstallationId {
        let id = InstallationId::random();
        self.store.put(&id, |_| {}, left);
        id
    }

    /// Makes the broker store the next token of `id` for each refresh request.
    pub(super) fn let_broker_refresh(&self, id: &InstallationId) {
        let (store, id) = (self.store.clone(), id.clone());
        self.broker.answers(move |_| {
            let (store, id) = (store.clone(), id.clone());
            async move {
                store.put(
                    &id,
                    |record| record.generation = record.generation.next(),
                    LIFETIME,
                );
                Response::default()
            }
        });
    }
}

/// The address of every caller.
pub(super) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) fn get(uri: &str) -> Request {
    let request = Request::get(uri).header("host", "127.0.0.1:8080");
    request.body(Body::empty()).unwrap()
}

pub(super) fn post(uri: &str, body: impl Into<Body>) -> Request {
    let request = Request::post(uri).header("host", "127.0.0.1:8080");
    request.body(body.into()).unwrap()
}

pub(super) fn post_json(uri: &str, body: impl Into<Body>) -> Request {
    with(post(uri, body), "content-type", "application/json")
}

pub(super) fn with(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

pub(super) async fn text(response: Response) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

pub(super) async fn json(response: Response) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

/// A fake server. Its responses come from a closure that a test can replace.
pub(super) struct Server {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

type Answer = Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

/// A received request without its body.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: http::HeaderMap,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Server {
    async fn start() -> Self {
        let answer: Answer = Arc::new(|_| Box::pin(async { Response::default() }));
        let answer = Arc::new(Mutex::new(answer));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback({
            let (answer, seen) = (answer.clone(), seen.clone());
            async move |request: Request| {
                seen.lock().unwrap().push(Seen {
                    line: format!("{} {}", request.method(), request.uri()),
                    headers: request.headers().clone(),
                });
                let answer: Answer = answer.lock().unwrap().clone();
                answer(request).await
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        tokio::spawn(service::listen::serve(
            listener,
            router,
            ConnectionLimits::none(),
            shutdown,
        ));
        Self {
            address,
            answer,
            seen,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn answers<F>(&self, answer: impl Fn(Request) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Response> + Send + 'static,
    {
        *self.answer.lock().unwrap() = Arc::new(move |request| {
            // No agency has any other location.
            if request.uri().path().ends_with("/lookup") {
                return Box::pin(async { StatusCode::NOT_FOUND.into_response() });
            }
            Box::pin(answer(request))
        });
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

pub(super) struct FakeStore {
    pub(super) ring: Arc<KeyRing>,
    changes: broadcast::Sender<Invalidation>,
    records: Mutex<HashMap<InstallationId, StoredAccess>>,
    owners: Mutex<HashMap<String, BTreeMap<AppName, InstallationId>>>,
    callers: Mutex<HashMap<KeyHash, Caller>>,
    is_down: AtomicBool,
    is_silent: AtomicBool,
}

impl FakeStore {
    fn new() -> Self {
        Self {
            ring: Arc::new(KeyRing::generate("a")),
            changes: broadcast::channel(1024).0,
            records: Mutex::default(),
            owners: Mutex::default(),
            callers: Mutex::default(),
            is_down: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
        }
    }

    /// Writes the installation's record after `change`, with the token `token-<generation>`.
    pub(super) fn put(
        &self,
        id: &InstallationId,
        change: impl FnOnce(&mut StoredAccess),
        left: Duration,
    ) {
        let mut records = self.records.lock().unwrap();
        let record = records.entry(id.clone()).or_insert_with(|| StoredAccess {
            token: self.ring.seal(access_label(id, Generation::FIRST), b""),
            expires_at: None,
            lifetime: LIFETIME,
            generation: Generation::FIRST,
            status: Status::Active,
            location: Some(format!("LOC{}", &id.as_str()[8..]).parse().unwrap()),
            company: Some("COM1".parse().unwrap()),
            app: AppName::default(),
            parent: None,
            user_type: UserType::Location,
            scopes: "products.readonly".to_owned(),
        });
        record.expires_at = Some(self.now() + left);
        change(record);
        let plain = format!("token-{}", record.generation);
        let label = access_label(id, record.generation);
        record.token = self.ring.seal(label, plain.as_bytes());
        if let Some(location) = &record.location {
            let mut owners = self.owners.lock().unwrap();
            let apps = owners.entry(location.to_string()).or_default();
            apps.insert(record.app.clone(), id.clone());
        }
        if !self.is_silent.load(Ordering::SeqCst) {
            let _ = self.changes.send(Invalidation::Installation {
                id: id.clone(),
                generation: record.generation,
            });
        }
    }

    /// Announces a lost and a restored channel.
    pub(super) fn interrupt_announcements(&self) {
        let _ = self.changes.send(Invalidation::ChannelLost);
        let _ = self.changes.send(Invalidation::ChannelRestored);
    }

    /// From now on writes are not announced.
    pub(super) fn stop_announcing(&self) {
        self.is_silent.store(true, Ordering::SeqCst);
    }

    pub(super) fn location(&self, id: &InstallationId) -> String {
        let records = self.records.lock().unwrap();
        records[id].location.as_ref().unwrap().to_string()
    }

    pub(super) fn put_owner(&self, name: &str, id: &InstallationId) {
        let mut owners = self.owners.lock().unwrap();
        let apps = owners.entry(name.to_owned()).or_default();
        apps.insert(AppName::default(), id.clone());
    }

    pub(super) fn put_caller(
        &self,
        key: &str,
        scopes: &[Scope],
        installations: Option<Vec<InstallationId>>,
    ) {
        let caller = Caller {
            name: "test".to_owned(),
            scopes: scopes.to_vec(),
            app: None,
            installations,
            calls: None,
            quota: None,
            created_at: self.now(),
            expires_at: None,
            revoked_at: None,
        };
        let hash = KeyHash::of(key);
        self.callers.lock().unwrap().insert(hash, caller);
        let _ = self.changes.send(Invalidation::Caller(hash));
    }

    pub(super) fn limit_to_app(&self, key: &str, app: &str) {
        let hash = KeyHash::of(key);
        let mut callers = self.callers.lock().unwrap();
        callers.get_mut(&hash).unwrap().app = Some(app.parse().unwrap());
        let _ = self.changes.send(Invalidation::Caller(hash));
    }

    pub(super) fn allow_calls(&self, key: &str, calls: &[&str]) {
        let hash = KeyHash::of(key);
        let calls = calls.iter().map(|it| it.parse().unwrap()).collect();
        self.callers.lock().unwrap().get_mut(&hash).unwrap().calls = Some(calls);
        let _ = self.changes.send(Invalidation::Caller(hash));
    }

    pub(super) fn put_quota(&self, key: &str, quota: Quota) {
        let hash = KeyHash::of(key);
        let mut callers = self.callers.lock().unwrap();
        callers.get_mut(&hash).unwrap().quota = Some(quota);
        let _ = self.changes.send(Invalidation::Caller(hash));
    }

    pub(super) fn revoke_caller(&self, key: &str) {
        let hash = KeyHash::of(key);
        let mut callers = self.callers.lock().unwrap();
        callers.get_mut(&hash).unwrap().revoked_at = Some(self.now());
        let _ = self.changes.send(Invalidation::Caller(hash));
    }

    /// From now on every read fails, and the loss of the channel is announced.
    pub(super) fn go_down(&self) {
        self.is_down.store(true, Ordering::SeqCst);
        let _ = self.changes.send(Invalidation::ChannelLost);
    }

    fn read<T: Send + 'static>(&self, value: T) -> BoxFuture<'_, Result<T, ReadError>> {
        let answer = if self.is_down.load(Ordering::SeqCst) {
            Err(ReadError::Unavailable("down".into()))
        } else {
            Ok(value)
        };
        Box::pin(std::future::ready(answer))
    }
}

impl ReadBackend for FakeStore {
    fn access<'a>(&'a self, id: &'a InstallationId) -> BoxFuture<'a, Result<Fields, ReadError>> {
        let record = self.records.lock().unwrap().get(id).cloned();
        self.read(record.map(|it| it.to_fields()).unwrap_or_default())
    }

    fn location<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Fields, ReadError>> {
        let apps = self.owners.lock().unwrap().get(name).cloned();
        let apps = apps.unwrap_or_default().into_iter();
        let fields = apps.map(|(app, id)| (app.to_string(), id.to_string().into_bytes()));
        self.read(fields.collect())
    }

    fn caller<'a>(&'a self, key: &'a KeyHash) -> BoxFuture<'a, Result<Fields, ReadError>> {
        let caller = self.callers.lock().unwrap().get(key).cloned();
        self.read(caller.map(|it| it.to_fields()).unwrap_or_default())
    }

    fn access_key_list(&self) -> BoxFuture<'_, Result<Fields, ReadError>> {
        Box::pin(async { Ok(Fields::new()) })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), ReadError>> {
        self.read(())
    }

    fn invalidations(&self) -> broadcast::Receiver<Invalidation> {
        let changes = self.changes.subscribe();
        let _ = self.changes.send(Invalidation::ChannelRestored);
        changes
    }

    fn now(&self) -> Timestamp {
        Timestamp::of_this_machine()
    }
}
