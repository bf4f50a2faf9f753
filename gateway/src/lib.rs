//! The gateway: stateless replicas that put a live access token on every request to GHL.
//!
//! `api` has the routes. `pipeline` runs the stages of a call to GHL: `request` (caller and installation), `token`
//! (a usable token), `admission` (a concurrency permit and a rate limit permit), `upstream` (connections), and
//! `retry`, the only decision about what follows an attempt.

#![warn(missing_docs)]

mod access_log;
mod admission;
mod api;
mod audit;
mod call_counts;
mod config;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod metrics;
mod pipeline;
mod readiness;
mod reload;
mod request;
mod retry;
mod token;
mod upstream;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use service::handler::{Handler, Peer};
use service::origin::OwnHosts;
use service::readiness::Readiness;
use service::shutdown::Shutdown;
use store::{KeyHash, TokenReader};

pub use api::openapi;
pub use config::Config;
pub use metrics::BUCKETS;
pub use readiness::watch_store;
pub use reload::RELOADED;

use access_log::AccessLog;
use admission::concurrency::{Concurrency, Shares};
use admission::limits::RateLimits;
use api::{AnonymousLimits, Api};
use audit::{AuditQueue, Delivery};
use call_counts::CallCounts;
use limits::Limits;
use metrics::{Metrics, Queued, watch_in_flight};
use pipeline::Pipeline;
use pipeline::admit::Admission;
use pipeline::retry_budget::RetryBudget;
use pipeline::select::Selection;
use pipeline::unauthorized::Persistent401s;
use request::caller::Callers;
use request::path;
use token::cache::{Cache, Counters};
use token::cache_invalidation::Caches;
use token::location_lookup::LocationLookup;
use token::provider::TokenProvider;
use token::refresher::Refresher;
use token::sources::{Owners, Tokens};
use upstream::Upstream;

/// One gateway. Clones share it.
#[derive(Clone)]
pub struct Gateway {
    api: Arc<Api>,
    reports: Arc<Delivery>,
    calls: Arc<CallCounts>,
}

/// The routes for callers and browsers.
#[derive(Clone)]
pub struct Public {
    api: Arc<Api>,
    routes: Router,
}

/// The callers that reach the public listener.
#[derive(Debug, Clone)]
pub struct PublicAccess {
    /// The names of the listener.
    pub own_hosts: OwnHosts,
    /// Whether programs on this machine may call GHL without a key. Only for the sandbox.
    pub allows_anonymous: bool,
    /// Whether the process can do its work, for the page at `/`.
    pub readiness: Readiness,
}

impl Gateway {
    /// A gateway over this store. It needs the runtime and an installed metrics recorder. It listens to the
    /// store's announcements until the shutdown starts.
    #[must_use]
    pub fn new(
        config: Config,
        access: PublicAccess,
        reader: &TokenReader,
        shutdown: &Shutdown,
    ) -> Self {
        // Subscribed before the first read, so that no change of a read value is missed.
        let invalidations = reader.invalidations();
        let metrics = Arc::new(Metrics::new());
        let tokens = Tokens {
            reader: reader.clone(),
            limits: RateLimits::new(Queued::new()),
        };
        let tokens = Cache::new(tokens, metrics::token_lookups());
        let owners = Cache::new(Owners(reader.clone()), Counters::none());
        let proxies = config.trusted_proxies.clone();
        let audit = Arc::new(AuditQueue::new(reader.clone(), proxies));
        let limits = Arc::new(Limits::new(&config));
        let callers = Arc::new(Callers::new(
            reader,
            Arc::clone(&audit),
            Shares::new(config.max_requests_per_key),
            Arc::clone(&limits),
            access.allows_anonymous,
        ));
        let caches = Caches {
            tokens: tokens.clone(),
            owners: owners.clone(),
            callers: Arc::clone(&callers),
            coherent: metrics.coherent.clone(),
        };
        shutdown.spawn(caches.run(reader.clone(), invalidations, shutdown.clone()));

        let (ghl, broker) = Upstream::both(&config);
        let reports = Delivery::new(Arc::clone(&audit), broker.clone(), reader.clone());
        let reports = Arc::new(reports);
        shutdown.spawn(Arc::clone(&reports).run(shutdown.clone()));
        let calls = Arc::new(CallCounts::new(reader.now()));
        shutdown.spawn(Arc::clone(&calls).run(Arc::clone(&reports), shutdown.clone()));
        if config.broker_tls.is_some() {
            shutdown.spawn(broker.clone().probe(shutdown.clone()));
        }
        if let Some(identity) = config.client_identity.clone() {
            shutdown.spawn(identity.keep_current(shutdown.clone()));
        }
        let concurrency = Concurrency::with_limit(config.max_requests);
        shutdown.spawn(watch_in_flight(concurrency.clone(), shutdown.clone()));
        let provider = TokenProvider {
            tokens: tokens.clone(),
            refresher: Refresher::new(broker.clone(), reader.clone(), tokens.clone()),
            reader: reader.clone(),
            concurrency: concurrency.clone(),
            limits: Arc::clone(&limits),
            shed: metrics.shed.clone(),
            waited: metrics.token_wait.clone(),
        };
        let anonymous = Arc::new(AnonymousLimits::new(&config));
        let access_log = Arc::new(AccessLog::new(config.access_log));
        shutdown.spawn(Arc::clone(&access_log).report_left_out(shutdown.clone()));
        let pipeline = Pipeline {
            config: Arc::new(config),
            limits,
            callers,
            selection: Selection {
                tokens,
                owners,
                lookup: LocationLookup::new(broker.clone(), reader.clone()),
            },
            admission: Admission {
                concurrency,
                tokens: provider.clone(),
                shed: metrics.shed.clone(),
            },
            tokens: provider,
            ghl,
            retry_budget: Arc::new(RetryBudget::full()),
            persistent_401s: Arc::new(Persistent401s::default()),
            attempts: Arc::clone(&metrics.attempts),
            audit,
        };
        let api = Arc::new(Api {
            pipeline,
            broker,
            metrics,
            calls: calls.worker(),
            access_log,
            own_hosts: access.own_hosts,
            anonymous,
            readiness: access.readiness,
            shutdown: shutdown.clone(),
        });
        Self {
            api,
            reports,
            calls,
        }
    }

    /// The same gateway with its own upstream connections. Each worker calls this within its runtime.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        let (ghl, broker) = Upstream::both(&self.api.pipeline.config);
        let pipeline = Pipeline {
            ghl,
            ..self.api.pipeline.clone()
        };
        Self {
            api: Arc::new(Api {
                pipeline,
                broker,
                calls: self.calls.worker(),
                ..Api::clone(&self.api)
            }),
            reports: Arc::clone(&self.reports),
            calls: Arc::clone(&self.calls),
        }
    }

    /// Notes that a key was used for something else than this gateway's routes.
    pub fn key_used(&self, key: &KeyHash) {
        let audit = &self.api.pipeline.audit;
        audit.used(key, &audit.last_use(key), self.api.pipeline.tokens.now());
    }

    /// Reports the last calls and the end of the audit log to a broker. After the last request.
    pub async fn finish_audit(&self) {
        tokio::join!(self.calls.finish(&self.reports), self.reports.finish());
    }

    /// The routes for callers and browsers.
    pub fn public(&self) -> Public {
        let api = Arc::clone(&self.api);
        let routes = api::public(Arc::clone(&api));
        Public { api, routes }
    }

    /// The routes for internal services. `own_hosts`: the names of the internal listener.
    pub fn internal(&self, own_hosts: OwnHosts) -> Router {
        api::internal(Arc::clone(&self.api), own_hosts)
    }

    /// The route that changes the log filter, for a process without a broker. `own_hosts`: as for [`Gateway::internal`].
    pub fn log_level(&self, own_hosts: OwnHosts) -> Router {
        api::log_level(Arc::clone(&self.api), own_hosts)
    }
}

impl Handler for Public {
    async fn handle(&self, request: Request, peer: IpAddr) -> Response {
        let page = self.api.pipeline.config.cors_origins.page_of(&request);
        if let Some(origin) = page.preflight(&request) {
            let origin = origin.clone();
            // Boxed, since it is rare and would make the future of every request larger.
            return Box::pin(api::preflight(&self.api, request, origin)).await;
        }
        let mut response = self.route(request, peer).await;
        page.decide(&mut response);
        response
    }

    fn answer_timeout(&self) -> Duration {
        self.api.pipeline.config.total_timeout
    }
}

impl Public {
    async fn route(&self, mut request: Request, peer: IpAddr) -> Response {
        if let Some(path) = request.uri().path().strip_prefix("/ghl")
            && path.starts_with('/')
        {
            // The audit log has the address of these. Others need none.
            if path::gives_tokens(path) {
                request.extensions_mut().insert(Peer(peer));
            }
            api::proxy(&self.api, request).await
        } else {
            // Boxed, since it is rare and would make the future of every request larger.
            Box::pin(self.routes.handle(request, peer)).await
        }
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
            .field("config", &self.api.pipeline.config)
            .finish_non_exhaustive()
    }
}
