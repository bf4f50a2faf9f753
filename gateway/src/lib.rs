//! The gateway: stateless replicas that put a live access token on every request to GHL.
//!
//! A request is let in (`caller`, `quota`), its installation found (`installation`), the token taken from
//! memory (`cache`) and guarded (`guard`, `refresh`), and then it is streamed to GHL and its
//! answer back (`forward`, `upstream`), no faster than GHL takes it (`limits`). A 401 that a fresh
//! token cures is cured (`replay`), and what failed in passing is sent once more where that cannot
//! harm (`repeat`).
//! `coherence` keeps the memory true.

mod answer;
mod body;
mod cache;
mod caller;
mod coherence;
mod config;
mod connector;
mod endpoints;
mod error;
mod forward;
mod guard;
mod headers;
mod installation;
mod json;
mod limits;
mod load;
mod metrics;
mod passthrough;
mod path;
mod pool;
mod query;
mod quota;
mod refresh;
mod repeat;
mod replay;
mod routes;
mod token;
mod token_endpoint;
mod upstream;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use service::listen::Handler;
use service::shutdown::Shutdown;
use store::{ReadError, TokenReader};

pub use config::Config;

use cache::{Cache, Counters};
use caller::Callers;
use coherence::Caches;
use limits::Limits;
use load::Load;
use metrics::{Metrics, Queued};
use refresh::Refresher;
use repeat::Budget;
use token::{Places, Tokens};
use upstream::Upstream;

/// One gateway. Clones are the same one.
#[derive(Clone)]
pub struct Gateway(Arc<Core>);

/// What every request needs.
#[derive(Clone)]
struct Core {
    config: Arc<Config>,
    reader: TokenReader,
    tokens: Cache<Tokens>,
    places: Cache<Places>,
    callers: Arc<Callers>,
    refresher: Arc<Refresher>,
    ghl: Upstream,
    broker: Upstream,
    metrics: Arc<Metrics>,
    repeats: Arc<Budget>,
    load: Load,
}

/// What callers and browsers reach.
#[derive(Clone)]
pub struct Public {
    core: Arc<Core>,
    others: Router,
}

/// Why a gateway must not listen where it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Exposed {
    #[error(
        "without a caller's key anybody who reaches {0} could use every installation: \
         run `evergreen keys create --name <caller>` first, or listen on 127.0.0.1"
    )]
    NoKeys(SocketAddr),
    #[error("whether callers need a key to reach {0} cannot be told")]
    Unknown(SocketAddr, #[source] ReadError),
}

impl Gateway {
    /// A gateway over this store. Needs the runtime, and the recorder of metrics installed before;
    /// listens to the store's announcements until the shutdown starts.
    #[must_use]
    pub fn new(config: Config, reader: TokenReader, shutdown: &Shutdown) -> Self {
        // Before anything is read, so that no change of what is read goes unheard.
        let changes = reader.invalidations();
        let metrics = Arc::new(Metrics::new());
        let (ghl, broker) = Upstream::both(&config);
        let load = Load::at_most(config.max_requests);
        let tokens = Tokens {
            reader: reader.clone(),
            limits: Limits::new(Queued::new()),
        };
        let tokens = Cache::new(tokens, metrics::token_lookups());
        let places = Cache::new(Places(reader.clone()), Counters::none());
        let callers = Arc::new(Callers::new(&reader));
        let caches = Caches {
            tokens: tokens.clone(),
            places: places.clone(),
            callers: Arc::clone(&callers),
            coherent: metrics.coherent.clone(),
        };
        shutdown.spawn(caches.keep_true(reader.clone(), changes, shutdown.clone()));
        Self(Arc::new(Core {
            refresher: Refresher::new(broker.clone(), reader.clone(), tokens.clone()),
            config: Arc::new(config),
            reader,
            tokens,
            places,
            callers,
            ghl,
            broker,
            metrics,
            repeats: Arc::new(Budget::full()),
            load,
        }))
    }

    /// The same gateway, with connections of its own: for a worker, within its runtime.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        let (ghl, broker) = Upstream::both(&self.0.config);
        Self(Arc::new(Core {
            ghl,
            broker,
            ..Core::clone(&self.0)
        }))
    }

    pub fn public(&self) -> Public {
        let core = Arc::clone(&self.0);
        let others = routes::others(Arc::clone(&core));
        Public { core, others }
    }

    /// What internal services reach.
    pub fn internal(&self) -> Router {
        routes::internal(Arc::clone(&self.0))
    }

    /// To be asked before listening: without any caller's key only this host may reach a gateway.
    ///
    /// # Errors
    /// When `listen` can be reached from elsewhere and no key was ever made, or the store does
    /// not say.
    pub async fn check_exposure(&self, listen: SocketAddr) -> Result<(), Exposed> {
        if listen.ip().is_loopback() {
            return Ok(());
        }
        match self.0.reader.keys_in_use().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Exposed::NoKeys(listen)),
            Err(reason) => Err(Exposed::Unknown(listen, reason)),
        }
    }
}

impl Handler for Public {
    async fn handle(&self, request: Request) -> Response {
        if request.uri().path().starts_with("/ghl/") {
            routes::ghl(&self.core, request).await
        } else {
            // Rare, so it shall not make the future of every request larger.
            Box::pin(self.others.handle(request)).await
        }
    }

    fn answer_timeout(&self) -> Duration {
        self.core.config.total_timeout
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Public").finish_non_exhaustive()
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

/// A panic while it was held has left nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
