//! The broker: owns the refresh of every token, and the consents that tokens begin with.

pub mod admin;
mod auth;
mod breaker;
mod config;
mod crash_point;
mod error;
mod line;
mod metrics;
mod oauth;
mod outcome;
mod page;
mod recovery;
mod refresh_api;
mod scheduler;
mod seed;
mod status;
mod webhook;
mod worker;

use std::sync::Arc;

use axum::Router;
use ghl::TokenEndpoint;
use ghl::webhook::Verifier;
use service::readiness::Readiness;
use service::shutdown::Shutdown;
use store::TokenReader;
use store_writer::durable::DurableError;
use store_writer::{Escrow, Journal, Leases, LockNodes, StoreWriter};

pub use config::{Config, DEFAULT_SCOPES};

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
    Journal(#[from] DurableError),
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
        metrics::describe();
        let endpoint = TokenEndpoint::new(config.endpoint.clone())
            .map_err(|error| StartError::Tls(error.into()))?;
        let Parts {
            writer,
            reader,
            leases,
            journal,
            escrow,
            lock_nodes,
        } = parts;
        let worker = Arc::new(Worker::new(
            &config,
            writer.clone(),
            leases,
            (journal, escrow),
            endpoint.clone(),
            shutdown,
        ));
        let asked = recovery::inherit(&worker)?;
        let ready = readiness.gate("the store");
        shutdown.spawn(scheduler::run(
            config.scheduler.clone(),
            writer.clone(),
            worker.clone(),
            ready,
            shutdown.clone(),
        ));
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
