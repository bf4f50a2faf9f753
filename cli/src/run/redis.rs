//! `evergreen broker` and `evergreen gateway`: any number of processes over Redis.

use std::sync::Arc;

use broker::{Broker, Parts};
use gateway::{Gateway, PublicAccess};
use secrecy::{ExposeSecret, SecretString};
use service::config::{Layered, Settings};
use service::origin::OwnHosts;
use service::telemetry;
use service::tls::{Callers, ClientIdentity, ListenerTls};
use store::connection::{self, Address, RedisTls};
use store::freshness::Lead;
use store::key_list::RingKind;
use store::names::Prefix;
use store::{KeyHash, KeyRing, TokenReader};
use store_writer::{Escrow, Journal, Leases, LockNodes, Rings, Store};
use tracing::info;
use url::Url;

use super::inspect::{self, Checked, Inspected, Place, Redis};
use crate::exit::Failure;
use crate::key_rings;
use crate::process::{Process, bind, read};
use crate::reload::{self, BrokerReload, GatewayReload};
use crate::settings::{Common, Sources, spelling};
use crate::{admin_key, bootstrap_key, data_dir, redis_prefix, redis_tls};

/// Where a gateway looks for brokers.
const DEFAULT_BROKER_URL: &str = "http://127.0.0.1:8081";

/// All settings of a broker.
struct BrokerSettings {
    common: Common,
    broker: broker::Config,
    redis: SecretString,
    prefix: Prefix,
    replicas: usize,
    redis_tls: RedisTls,
    /// The lock nodes. `None` if locks are in the store.
    locks: Option<Vec<SecretString>>,
    rings: Rings,
    bootstrap_key: Option<SecretString>,
    lead: Lead,
    telemetry: telemetry::Config,
    tls: Option<ListenerTls>,
}

fn read_broker(settings: &mut Settings<'_>) -> BrokerSettings {
    let redis = redis_url(settings);
    let common = Common::read(settings, 8081, 9081);
    data_dir::check_disk(settings, &common.data_dir);
    let locks = lock_urls(settings, &redis);
    let urls = locks.iter().flatten().chain([&redis]);
    let all = BrokerSettings {
        common,
        broker: broker::Config::read(settings),
        redis_tls: redis_tls::read_for(settings, urls),
        locks,
        prefix: redis_prefix::read(settings),
        replicas: replicas(settings, &redis),
        redis,
        rings: Rings {
            access: key_rings::required(settings, RingKind::Access),
            refresh: key_rings::required(settings, RingKind::Refresh),
        },
        bootstrap_key: bootstrap_key::read(settings),
        lead: lead(settings),
        telemetry: telemetry::Config::read(settings, "evergreen-broker", crate::VERSION),
        tls: ListenerTls::read(settings),
    };
    spelling::refuse_unknown(settings);
    all
}

/// The settings of a broker, without a start.
pub(super) fn inspect_broker(source: &Layered) -> Inspected {
    let mut settings = Settings::new(source);
    let all = read_broker(&mut settings);
    let (api_url, authorities) = inspect::peers(&mut settings);
    let (apps, endpoints) = inspect::of_broker(&all.broker);
    let checked = Checked {
        common: all.common,
        scheme: inspect::scheme(all.tls.is_some()),
        api_url,
        authorities,
        apps,
        is_sandboxed: false,
        endpoints,
        place: Place::Redis(Box::new(Redis {
            url: all.redis,
            tls: all.redis_tls,
            prefix: all.prefix,
            replicas: Some(all.replicas),
            locks: all.locks,
            access: all.rings.access,
            refresh: Some(all.rings.refresh),
        })),
        broker_url: None,
        identity: None,
        journal_max: Some(all.broker.journal_max),
    };
    Inspected {
        reads: settings.reads(),
        settings: settings.finish(checked),
    }
}

/// `evergreen broker`.
pub(crate) async fn broker(sources: &Sources, source: &Layered) -> Result<(), Failure> {
    let all = read(source, read_broker)?;
    let listener = bind(all.common.listen).await?;
    let internal = bind(all.common.internal_listen).await?;
    data_dir::create_private(&all.common.data_dir)?;
    let admin_key = admin_key::load_or_create(&all.common.data_dir)?;
    let journal = Journal::open(&all.common.data_dir, all.broker.journal_max)
        .map_err(Failure::unavailable)?;
    let process = Process::start(("broker", &all.telemetry), all.common.running(), source)?;
    let has_tls = all.tls.is_some();
    let process = process.with_tls(all.tls);
    let address = Address::parse_with_tls(&all.redis, &all.redis_tls);
    let address = address.map_err(Failure::unavailable)?;
    let address = address.with_prefix(all.prefix.clone());
    let store = Store::at(address, all.replicas, all.rings, all.lead);
    let store = store.map_err(Failure::unavailable)?;
    let checked = all.broker.store_check.at_start(&store.writer).await;
    checked.map_err(Failure::unavailable)?;
    key_rings::check(&store.writer).await?;
    key_rings::prepare_journal(&journal, store.writer.rings()).await?;
    let name = all.broker.name.clone();
    let lease = all.broker.timing.lease;
    let urls = all
        .locks
        .as_deref()
        .unwrap_or(std::slice::from_ref(&all.redis));
    let options = (&all.redis_tls, &all.prefix);
    let lock_nodes = LockNodes::start_with(urls, options, &name, lease);
    let lock_nodes = lock_nodes.map_err(Failure::unavailable)?;
    // Escrow in the store itself would be lost together with the store.
    let escrow = match &all.locks {
        Some(_) => Escrow::over(lock_nodes.clone()),
        None => Escrow::none(),
    };
    let (reader, writer) = (store.reader.clone(), store.writer.clone());
    let parts = Parts {
        writer: store.writer,
        reader: store.reader,
        leases: Leases::redlock(lock_nodes.clone()),
        journal,
        escrow,
        lock_nodes: Some(lock_nodes),
    };
    let broker = Broker::start(all.broker, parts, &process.readiness, &process.shutdown)
        .map_err(Failure::unavailable)?;
    let sources = sources.clone();
    let reload = BrokerReload {
        broker: broker.clone(),
        gateway: None,
        shared: process.reloaded(),
        read: Arc::new(move |seen| {
            let source = sources.read()?;
            let all = read(&source, read_broker)?;
            seen(&source);
            Ok(reload::Read {
                common: all.common,
                broker: all.broker,
                gateway: None,
                rings: all.rings,
                telemetry: all.telemetry,
            })
        }),
    };
    process.reload_on_hangup(reload.in_use(source), reload);
    let local_admin = KeyHash::of(admin_key.expose_secret());
    let shutdown = process.shutdown.clone();
    let keys = admin_key::keep_registered(admin_key, all.bootstrap_key, writer, shutdown);
    process.shutdown.spawn(keys);
    let used = broker.clone();
    let used = Arc::new(move |key: &KeyHash| used.key_used(key));
    let internal_hosts = all.common.internal_hosts();
    let hosts = internal_hosts.clone();
    let ops = process.ops(all.common.internal_listen, hosts, reader, used);
    // Gateways call it by names that it cannot know.
    let public = broker.public(OwnHosts::any(), false);
    process.serve(listener, public, Callers::Internal);
    process.serve_internal(
        internal,
        broker
            .internal(internal_hosts.clone(), local_admin)
            .merge(broker.console(internal_hosts.clone(), local_admin, has_tls))
            .merge(broker.connect(internal_hosts))
            .merge(ops),
    );
    info!(name, listen = %all.common.listen, lock_nodes = urls.len(), "the broker serves");
    process
        .run(all.common.shutdown_timeout, broker.finish_audit())
        .await
}

/// All settings of a gateway.
struct GatewaySettings {
    common: Common,
    gateway: gateway::Config,
    redis: SecretString,
    prefix: Prefix,
    redis_tls: RedisTls,
    ring: Arc<KeyRing>,
    telemetry: telemetry::Config,
    tls: Option<ListenerTls>,
}

fn read_gateway(settings: &mut Settings<'_>) -> GatewaySettings {
    if key_rings::is_set(settings, RingKind::Refresh) {
        settings.mistake(
            "EVERGREEN_REFRESH_KEYS",
            "must not be given to a gateway: it only reads access tokens",
        );
    }
    if settings.secret("GHL_CLIENT_SECRET").is_some() {
        settings.mistake(
            "GHL_CLIENT_SECRET",
            "must not be given to a gateway: only brokers call GHL's token endpoint",
        );
    }
    if settings.secret("GHL_SSO_KEY").is_some() {
        settings.mistake(
            "GHL_SSO_KEY",
            "must not be given to a gateway: only brokers open user contexts",
        );
    }
    let common = Common::read(settings, 8080, 9080);
    let gateway = gateway::Config::read(settings);
    let redis = redis_url(settings);
    let all = GatewaySettings {
        common,
        gateway,
        redis_tls: redis_tls::read_for(settings, [&redis]),
        prefix: redis_prefix::read(settings),
        redis,
        ring: key_rings::required(settings, RingKind::Access),
        telemetry: telemetry::Config::read(settings, "evergreen-gateway", crate::VERSION),
        tls: ListenerTls::read(settings),
    };
    spelling::refuse_unknown(settings);
    all
}

/// The settings of a gateway, without a start.
pub(super) fn inspect_gateway(source: &Layered) -> Inspected {
    let mut settings = Settings::new(source);
    let all = read_gateway(&mut settings);
    let (api_url, authorities) = inspect::peers(&mut settings);
    let broker_url = settings.url_optional("EVERGREEN_BROKER_URL");
    let broker_url = broker_url.or_else(|| Url::parse(DEFAULT_BROKER_URL).ok());
    let is_tls = broker_url
        .as_ref()
        .is_some_and(|url| url.scheme() == "https");
    let identity = is_tls
        .then(|| ClientIdentity::read(&mut settings))
        .flatten();
    let checked = Checked {
        common: all.common,
        scheme: inspect::scheme(all.tls.is_some()),
        api_url,
        authorities,
        apps: Vec::new(),
        is_sandboxed: false,
        endpoints: Vec::new(),
        place: Place::Redis(Box::new(Redis {
            url: all.redis,
            tls: all.redis_tls,
            prefix: all.prefix,
            replicas: None,
            locks: None,
            access: all.ring,
            refresh: None,
        })),
        broker_url,
        identity,
        journal_max: None,
    };
    Inspected {
        reads: settings.reads(),
        settings: settings.finish(checked),
    }
}

/// `evergreen gateway`.
pub(crate) async fn gateway(sources: &Sources, source: &Layered) -> Result<(), Failure> {
    let all = read(source, read_gateway)?;
    let common = all.common;
    let listener = bind(common.listen).await?;
    let internal = bind(common.internal_listen).await?;
    let process = Process::start(("gateway", &all.telemetry), common.running(), source)?;
    let process = process.with_tls(all.tls);
    let address = Address::parse_with_tls(&all.redis, &all.redis_tls);
    let address = address.map(|address| address.with_prefix(all.prefix));
    let reader = address.and_then(|address| TokenReader::at(address, all.ring));
    let reader = reader.map_err(Failure::unavailable)?;
    let access = PublicAccess {
        own_hosts: common.public_hosts(),
        allows_anonymous: false,
        readiness: process.readiness.clone(),
    };
    let gateway = Gateway::new(all.gateway, access, &reader, &process.shutdown);
    gateway::watch_store(reader.clone(), &process.readiness, &process.shutdown);
    let reload = GatewayReload {
        gateway: gateway.clone(),
        reader: reader.clone(),
        shared: process.reloaded(),
        sources: sources.clone(),
        read: |source| {
            let all = read(source, read_gateway)?;
            Ok(reload::gateway::Read {
                common: all.common,
                gateway: all.gateway,
                ring: all.ring,
                telemetry: all.telemetry,
            })
        },
    };
    process.reload_on_hangup(GatewayReload::in_use(source), reload);
    let used = gateway.clone();
    let used = Arc::new(move |key: &KeyHash| used.key_used(key));
    let internal_hosts = common.internal_hosts();
    let hosts = internal_hosts.clone();
    let ops = process.ops(common.internal_listen, hosts, reader, used);
    process.serve_on_workers(listener, gateway.clone())?;
    let log_level = gateway.log_level(internal_hosts.clone());
    let internal_routes = gateway.internal(internal_hosts).merge(log_level);
    process.serve_internal(internal, internal_routes.merge(ops));
    info!(listen = %common.listen, "the gateway serves");
    process
        .run(common.shutdown_timeout, gateway.finish_audit())
        .await
}

fn redis_url(settings: &mut Settings<'_>) -> SecretString {
    let url = settings.secret("EVERGREEN_REDIS_URL");
    let Some(url) = url else {
        settings.mistake(
            "EVERGREEN_REDIS_URL",
            "is missing: the store, redis://[user:password@]host:port, or redis-sentinel:// or \
             redis-cluster://; on one machine without Redis run `evergreen up`",
        );
        return SecretString::default();
    };
    if let Err(error) = Address::parse(&url) {
        settings.mistake("EVERGREEN_REDIS_URL", format!("is {error}"));
    }
    url
}

/// How many replicas must have a write. At least one if the master can change.
pub(crate) fn replicas(settings: &mut Settings<'_>, store: &SecretString) -> usize {
    let can_fail_over = Address::parse(store).is_ok_and(|address| !address.is_single());
    let replicas = settings.parse(
        "EVERGREEN_REDIS_REPLICAS",
        usize::from(can_fail_over),
        "how many replicas must have a write, such as 1",
    );
    if can_fail_over && replicas == 0 {
        settings.mistake(
            "EVERGREEN_REDIS_REPLICAS",
            "must be at least 1 behind Sentinels or in a Cluster: a failover would lose tokens",
        );
    }
    replicas
}

/// The lock nodes. `None` if none are named.
fn lock_urls(settings: &mut Settings<'_>, store: &SecretString) -> Option<Vec<SecretString>> {
    let Some(list) = settings.secret("EVERGREEN_LOCK_URLS") else {
        if Address::parse(store).is_ok_and(|address| !address.is_single()) {
            settings.mistake(
                "EVERGREEN_LOCK_URLS",
                "is missing: a store behind Sentinels or in a Cluster can lose a lock when its \
                 master changes; name 1, 3 or 5 independent Redis masters",
            );
        }
        return None;
    };
    let urls: Vec<SecretString> = list
        .expose_secret()
        .split(',')
        .map(|url| SecretString::from(url.trim()))
        .collect();
    if !matches!(urls.len(), 1 | 3 | 5) {
        settings.mistake(
            "EVERGREEN_LOCK_URLS",
            format!(
                "must name 1, 3 or 5 independent Redis masters, but names {}",
                urls.len()
            ),
        );
    }
    for url in &urls {
        if let Err(error) = connection::client(url) {
            settings.mistake("EVERGREEN_LOCK_URLS", format!("is {error}"));
        }
    }
    Some(urls)
}

/// How long before its expiry a token is refreshed.
pub(super) fn lead(settings: &mut Settings<'_>) -> Lead {
    settings.parse(
        "EVERGREEN_REFRESH_LEAD",
        Lead::Auto,
        "auto or a duration such as 5m",
    )
}
