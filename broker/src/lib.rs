//! The broker: owns the refresh of every token, and the consents that tokens begin with.

pub mod admin;
mod auth;
mod breaker;
mod config;
mod consents;
mod crash_point;
mod error;
mod files;
mod line;
mod metrics;
mod oauth;
mod outage;
mod outcome;
mod page;
mod recovery;
mod refresh_api;
mod restore;
mod scheduler;
mod seed;
#[cfg(feature = "simulation")]
pub mod simulation;
mod status;
mod store_check;
mod store_watch;
mod webhook;
mod window;
mod worker;

use std::sync::Arc;

use axum::Router;
use ghl::TokenEndpoint;
use ghl::webhook::Verifier;
use service::readiness::Readiness;
use service::shutdown::Shutdown;
use store::TokenReader;
use store_writer::group_commit_db::DbError;
use store_writer::{Escrow, Journal, Leases, LockNodes, StoreWriter};

pub use config::{Config, DEFAULT_SCOPES};
pub use store_check::{StoreCheck, UnknownStoreCheck, UnsafeStore};

use scheduler::Gates;
use worker::Worker;

/// What a broker works with.
#[derive(Debug)]
pub struct Parts {
    pub writer: StoreWriter,
    pub reader: TokenReader,
    pub leases: Leases,
    pub journal: Journal,
    pub escrow: Escrow,
    /// To be watched; `None` in one process.
    pub lock_nodes: Option<LockNodes>,
}

/// A running broker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    writer: StoreWriter,
    reader: TokenReader,
    worker: Arc<Worker>,
    endpoint: TokenEndpoint,
    verifier: Verifier,
    shutdown: Shutdown,
}

/// Why a broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("TLS cannot be set up")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the journal cannot be read, and there may be answers of GHL in it")]
    Journal(#[from] DbError),
}

impl Broker {
    /// Starts to finish what an earlier process left, and to refresh what is due, until shutdown.
    ///
    /// # Errors
    /// When this machine's TLS cannot be set up.
    pub fn start(
        config: Config,
        parts: Parts,
        readiness: &Readiness,
        shutdown: &Shutdown,
    ) -> Result<Self, StartError> {
        let endpoint = TokenEndpoint::new(config.endpoint.clone())
            .map_err(|error| StartError::Tls(error.into()))?;
        Self::start_over(endpoint, config, parts, readiness, shutdown, |worker| {
            worker
        })
    }

    fn start_over(
        endpoint: TokenEndpoint,
        config: Config,
        parts: Parts,
        readiness: &Readiness,
        shutdown: &Shutdown,
        prepare: impl FnOnce(Worker) -> Worker,
    ) -> Result<Self, StartError> {
        metrics::describe();
        let Parts {
            writer,
            reader,
            leases,
            journal,
            escrow,
            lock_nodes,
        } = parts;
        let worker = Worker::new(
            &config,
            writer.clone(),
            reader.clone(),
            leases,
            (journal, escrow),
            endpoint.clone(),
            shutdown,
        );
        let worker = Arc::new(prepare(worker));
        let asked = recovery::inherit(&worker)?;
        files::watch(&worker.journal, &writer, readiness, shutdown);
        let gates = Gates {
            store: readiness.gate("the store"),
            credentials: readiness.gate("GHL takes the client id and secret"),
        };
        shutdown.spawn(store_check::run(
            config.store_check,
            writer.clone(),
            readiness.gate("a safe store"),
            shutdown.clone(),
        ));
        shutdown.spawn(scheduler::run(
            config.scheduler.clone(),
            writer.clone(),
            worker.clone(),
            gates,
            shutdown.clone(),
        ));
        shutdown.spawn(store_watch::run(worker.clone(), shutdown.clone()));
        shutdown.spawn(restore::run(worker.clone(), shutdown.clone()));
        shutdown.spawn(recovery::sweep(worker.clone(), shutdown.clone()));
        shutdown.spawn(recovery::run(worker.clone(), asked, shutdown.clone()));
        shutdown.spawn(worker::doubt::run(worker.clone(), shutdown.clone()));
        shutdown.spawn(metrics::watch_stock(writer.clone(), shutdown.clone()));
        if let Some(nodes) = lock_nodes {
            shutdown.spawn(metrics::watch_lock_nodes(nodes, shutdown.clone()));
        }
        shutdown.spawn(seed::enrol(
            config.static_tokens.clone(),
            writer.clone(),
            shutdown.clone(),
        ));
        Ok(Self(Arc::new(Inner {
            verifier: config.verifier.clone(),
            config,
            writer,
            reader,
            worker,
            endpoint,
            shutdown: shutdown.clone(),
        })))
    }

    /// What gateways pass on to a broker, and their requests for a refresh. Away from loopback
    /// nothing is told of an installation without a key, even while there is none.
    pub fn public(&self, is_loopback: bool) -> Router {
        Router::new()
            .merge(oauth::routes())
            .merge(status::routes(is_loopback))
            .merge(webhook::routes())
            .merge(refresh_api::routes())
            .with_state(self.clone())
    }

    /// For operators. Away from loopback it asks for a key with the scope `admin`.
    pub fn internal(&self, is_loopback: bool) -> Router {
        let routes = admin::routes();
        let guarded = if is_loopback {
            routes
        } else {
            routes.layer(axum::middleware::from_fn_with_state(
                self.clone(),
                auth::require_admin,
            ))
        };
        guarded.with_state(self.clone())
    }
}
