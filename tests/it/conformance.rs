//! One test suite for all store backends.

mod apps;
mod audit;
mod counts;
mod customers;
mod identity;
mod installations;
mod outbox;
mod refreshes;
mod sealing;
mod shared_state;
mod stats;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use secrecy::{ExposeSecret, SecretString};
use store::connection::Address;
use store::freshness::Lead;
use store::{
    AppName, Caller, Generation, InstallationId, Invalidation, KeyHash, KeyRing, Scope, Status,
    TokenReader, UserType,
};
use store_writer::backend::{DueEntries, Schedule};
use store_writer::grant::Registration;
use store_writer::installation::LastError;
use store_writer::protocol::{AttemptFailure, DEFAULT_GRACE, FailureClass, REFUSALS_TO_INVALID};
use store_writer::writer::{
    AppIdentity, Begin, Begun, Committed, Conditions, FailureOutcome, KnownApps, Wanted,
};
use store_writer::{Grant, Leases, Rings, Store, StoreWriter};
use tests::cluster::Cluster;
use tests::deployed::{Deployed, Topology};
use tests::redis::Redis;
use tests::scratch::Scratch;
use tests::wait::{holds, until};
use tokio::sync::broadcast::Receiver;

/// Identifies client credentials.
const CREDENTIALS: &str = "pair";
const WINDOW: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(90);
/// The most that a reader's copy of the store's clock may be ahead of it.
const CLOCK_SKEW: Duration = Duration::from_secs(1);

/// Runs a check on an embedded store, on Redis, and on a Cluster with the users and ACLs of `deploy/`. A broker's
/// user writes, a gateway's user reads. In Redis the store has a prefix and a database of its own.
async fn on_all<F: Future<Output = ()>>(check: impl Fn(Arc<Store>) -> F) {
    let scratch = Scratch::new();
    let embedded = Store::embedded(scratch.path(), rings(), Lead::Auto).unwrap();
    check(Arc::new(embedded)).await;
    on_deployed::<Redis, F>(&check, 0, ("acme", "3")).await;
    on_deployed::<Cluster, F>(&check, 1, ("ghl", "0")).await;
}

/// Runs it on a store in Redis. Writes that must not be lost are confirmed by this many replicas.
async fn on_deployed<T: Topology, F: Future<Output = ()>>(
    check: &impl Fn(Arc<Store>) -> F,
    replicas: usize,
    (prefix, database): (&str, &str),
) {
    let settings = [("PREFIX", prefix), ("DATABASE", database)];
    let deployed = Deployed::<T>::start_named(0, &settings).await;
    let rings = rings();
    let address = |url: &SecretString| {
        let address = Address::parse(url).unwrap();
        address.with_prefix(prefix.parse().unwrap())
    };
    let broker = address(&deployed.broker_url);
    let broker = Store::at(broker, replicas, rings.clone(), Lead::Auto);
    let gateway = TokenReader::at(address(&deployed.gateway_url), rings.access).unwrap();
    check(Arc::new(Store {
        writer: broker.unwrap().writer,
        reader: gateway,
    }))
    .await;
}

fn rings() -> Rings {
    Rings {
        access: Arc::new(KeyRing::generate("a")),
        refresh: Arc::new(KeyRing::generate("r")),
    }
}

/// The tokens of a consent, valid for `lifetime` from now.
fn registration(store: &Store, location: &str, lifetime: Duration) -> Registration {
    Registration {
        app: AppName::default(),
        client: None,
        access_token: format!("access of {location}").into(),
        refresh_token: Some(format!("refresh of {location}").into()),
        expires_at: Some(store.reader.now() + lifetime),
        lifetime,
        scopes: "contacts.readonly".to_owned(),
        user_type: UserType::Location,
        location: Some(location.parse().unwrap()),
        company: Some("agency".parse().unwrap()),
    }
}

async fn register(store: &Store, location: &str, lifetime: Duration) -> InstallationId {
    store
        .writer
        .register_installation(&registration(store, location, lifetime))
        .await
        .unwrap()
}

/// Begins an attempt as a broker that holds a lease. Leases of other brokers are not simulated.
async fn begin(writer: &StoreWriter, id: &InstallationId, wanted: Wanted) -> Begin {
    begin_within(writer, id, wanted, WINDOW).await
}

async fn begin_within(
    writer: &StoreWriter,
    id: &InstallationId,
    wanted: Wanted,
    window: Duration,
) -> Begin {
    begin_as(writer, id, wanted, (window, &default_app())).await
}

/// A broker that knows the app `default` alone, whatever its client id.
fn default_app() -> KnownApps {
    KnownApps {
        names: vec![AppName::default()],
        clients: Vec::new(),
    }
}

/// As a broker that knows these apps.
async fn begin_as(
    writer: &StoreWriter,
    id: &InstallationId,
    wanted: Wanted,
    known: (Duration, &KnownApps),
) -> Begin {
    begin_by(writer, id, "broker", wanted, known).await
}

/// As the broker of this name.
async fn begin_by(
    writer: &StoreWriter,
    id: &InstallationId,
    holder: &str,
    wanted: Wanted,
    (window, apps): (Duration, &KnownApps),
) -> Begin {
    let leases = Leases::local();
    let lease = leases.take(id, TTL).await.unwrap();
    let conditions = Conditions {
        holder,
        apps,
        window,
        wanted,
        is_after_outage: false,
        may_spend_new: true,
        grace: DEFAULT_GRACE,
        is_orphan: false,
    };
    let began = writer.begin(&lease, conditions).await.unwrap();
    leases.release(lease).await;
    began
}

async fn begun(writer: &StoreWriter, id: &InstallationId) -> Begun {
    match begin(writer, id, Wanted::Now).await {
        Begin::Go(begun) => *begun,
        other => panic!("{other:?}"),
    }
}

async fn revoke(store: &Store, id: &InstallationId) {
    let now = store.reader.now();
    assert!(
        store
            .writer
            .revoke(id, "test", now + CLOCK_SKEW)
            .await
            .unwrap()
    );
}

fn grant_with(store: &Store, begun: &Begun, successor: &str) -> Grant {
    let lifetime = Duration::from_secs(3600);
    Grant {
        client: None,
        installation: begun.installation.clone(),
        spent: begun.link.clone(),
        access_token: format!("access after {successor}").into(),
        refresh_token: successor.into(),
        expires_at: store.reader.now() + lifetime,
        lifetime,
        scopes: None,
    }
}

fn failure(store: &Store, refusal: FailureClass) -> AttemptFailure {
    AttemptFailure {
        class: refusal,
        error: LastError::new("test", "refused", store.reader.now()),
        retry_in: Duration::from_secs(60),
        late_reader: None,
    }
}

async fn until_announced(invalidations: &mut Receiver<Invalidation>, wanted: &Invalidation) {
    let heard = async { while invalidations.recv().await.unwrap() != *wanted {} };
    let in_time = tokio::time::timeout(PATIENCE, heard).await;
    assert!(in_time.is_ok(), "{wanted:?} was not announced");
}

/// Subscribes to invalidations. Returns once the subscription is active.
async fn subscribe(store: &Store) -> Receiver<Invalidation> {
    let mut invalidations = store.reader.invalidations();
    until_announced(&mut invalidations, &Invalidation::ChannelRestored).await;
    invalidations
}
