//! Assembles a broker from its parts and starts its background tasks.

use std::sync::{Arc, Mutex as StdMutex};

use ghl::{AgencyApi, TokenEndpoint};
use service::rate_limit::AddressLimits;
use service::readiness::Readiness;
use service::receive::ReceiveMemory;
use service::shutdown::Shutdown;
use store::{KeyHash, TokenReader};
use store_writer::group_commit_db::DbError;
use store_writer::{Escrow, Journal, Leases, LockNodes, StoreWriter};
use tokio::sync::Mutex;
use tokio::sync::Semaphore;

use crate::agency::Lookups;
use crate::apps::{AppConfig, Apps, Connect};
use crate::audit::{Audit, AuditLogError};
use crate::config::Config;
use crate::events::client::Client as EventsClient;
use crate::events::deliveries::Deliveries;
use crate::events::delivery::Context;
use crate::events::sweep;
use crate::health::readiness::Gates;
use crate::health::{files, readiness as health, store_check};
use crate::overview::gather;
use crate::overview::statistics::Statistics;
use crate::refresh::rate_limiter::RateLimiter;
use crate::refresh::scheduler::{self, Progress, Schedulers};
use crate::refresh::worker::{self, Worker};
use crate::refresh::{recovery, restore, store_monitor};
use crate::sealing::rotation::Rotation;
use crate::sealing::{journal as journal_keys, registration};
use crate::{metrics, static_tokens};

const SEARCHES: usize = 2;

/// All addresses together may cause as many times as many code exchanges as one.
pub(crate) const CONSENT_ADDRESSES: u32 = 5;

/// The stores and locks that a broker works with.
#[derive(Debug)]
pub struct Parts {
    /// Writes installations to the store.
    pub writer: StoreWriter,
    /// Reads access tokens and caller keys from the store.
    pub reader: TokenReader,
    /// Leases that exclude other brokers from an installation.
    pub leases: Leases,
    /// The journal on this broker's disk.
    pub journal: Journal,
    /// Copies of GHL's responses on the lock nodes.
    pub escrow: Escrow,
    /// The lock nodes whose health is reported as a metric. `None` if leases are local.
    pub lock_nodes: Option<LockNodes>,
}

/// A running broker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) writer: StoreWriter,
    pub(crate) reader: TokenReader,
    pub(crate) audit: Arc<Audit>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) schedulers: Arc<Schedulers>,
    pub(crate) receive_memory: ReceiveMemory,
    pub(crate) consent_limits: AddressLimits,
    pub(crate) rotation: Arc<Rotation>,
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) deliveries: Deliveries,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) overview: gather::Shared,
    /// The searches through all installations that run at a time. More would slow down calls and refreshes.
    pub(crate) searches: Semaphore,
    /// As in [`Parts`].
    pub(crate) lock_nodes: Option<LockNodes>,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: Shutdown,
}

/// Why a broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings have no app.
    #[error("the settings have no app at GHL: set GHL_CLIENT_ID, or a section [apps.NAME]")]
    NoApp,
    /// The TLS client for GHL could not be built.
    #[error("TLS cannot be set up")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The journal may hold responses that the store lacks, so the broker does not run without it.
    #[error("the journal cannot be read, and it may hold responses of GHL")]
    Journal(#[from] DbError),
    /// The file of the audit log cannot be opened.
    #[error(transparent)]
    AuditLog(#[from] AuditLogError),
}

impl Broker {
    /// Starts the background tasks. They finish the work of an earlier process, then refresh due
    /// tokens until shutdown.
    ///
    /// # Errors
    /// [`StartError::Tls`] if the HTTP client cannot be built, [`StartError::Journal`] if the journal
    /// cannot be read, [`StartError::AuditLog`] if the file of the audit log cannot be opened.
    pub fn start(
        config: Config,
        parts: Parts,
        readiness: &Readiness,
        shutdown: &Shutdown,
    ) -> Result<Self, StartError> {
        let connect: Connect = Box::new(|app: &AppConfig| {
            TokenEndpoint::new(app.endpoint.clone()).map_err(|error| StartError::Tls(error.into()))
        });
        let first = config.apps.first().ok_or(StartError::NoApp)?;
        let agency_api = AgencyApi::new(config.api_url.clone(), &first.endpoint)
            .map_err(|error| StartError::Tls(error.into()))?;
        let events_client = EventsClient::new(&config.events_client);
        let events_client = events_client.map_err(|error| StartError::Tls(error.into()))?;
        let ghl = (connect, agency_api, Some(events_client));
        let broker = Self::start_with(ghl, config, parts, readiness, shutdown, |worker| worker)?;
        let worker = &broker.0.worker;
        let statistics = &broker.0.statistics;
        let counting = metrics::count_fleet(worker.clone(), statistics.clone(), shutdown.clone());
        shutdown.spawn(counting);
        shutdown.spawn({
            let (statistics, shutdown) = (statistics.clone(), shutdown.clone());
            async move { statistics.run(shutdown).await }
        });
        let journal = worker.journal.clone();
        shutdown.spawn(metrics::watch_journal(journal, shutdown.clone()));
        Ok(broker)
    }

    /// Notes that a key was used for something else than this broker's routes.
    pub fn key_used(&self, key: &KeyHash) {
        self.0.audit.used(key);
    }

    /// Writes the end of the audit log, and the last counts. After the last request.
    pub async fn finish_audit(&self) {
        tokio::join!(self.0.audit.finish(), self.0.statistics.finish());
    }

    /// Starts over given token endpoints. `prepare` changes the worker before anything runs.
    pub(crate) fn start_with(
        (connect, agency_api, events_client): (Connect, AgencyApi, Option<EventsClient>),
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
        let audit = Audit::open(&config.audit_log, writer.clone(), reader.clone())?;
        let audit = Arc::new(audit);
        let statistics = Statistics::new(&config.name, writer.clone(), reader.clone());
        let statistics = Arc::new(statistics);
        let grace = config.timing.grace;
        let apps = Arc::new(Apps::new(&config.apps, writer.clone(), grace, connect)?);
        let worker = Worker::new(
            &config,
            writer.clone(),
            reader.clone(),
            leases,
            (journal, escrow),
            (apps.clone(), agency_api),
            shutdown,
        );
        let worker = Arc::new(prepare(worker));
        // Before the first write, so that its event has its endpoints.
        let deliveries = Deliveries::new(Context {
            writer: writer.clone(),
            apps: apps.clone(),
            worker: worker.clone(),
            client: events_client,
            shutdown: shutdown.clone(),
        });
        deliveries.set(&config.endpoints);
        let unanswered = recovery::load_journal(&worker)?;
        files::watch(&worker.journal, &writer, readiness, shutdown);
        let gates = Gates::new(readiness, lock_nodes.as_ref());
        let schedulers = Arc::new(Schedulers {
            rate_limiter: Mutex::new(RateLimiter::new(config.scheduler.rate)),
            config: config.scheduler.clone(),
            writer: writer.clone(),
            worker: worker.clone(),
            apps_gate: readiness.gate("apps", "the schedule of no app has been read yet"),
            progress: Progress::default(),
            shutdown: shutdown.clone(),
            running: StdMutex::default(),
        });
        shutdown.spawn(store_check::run(
            config.store_check,
            writer.clone(),
            statistics.clone(),
            readiness.gate(
                "store_safety",
                "it is not known yet whether the store keeps what is written to it",
            ),
            shutdown.clone(),
        ));
        shutdown.spawn(registration::run(
            worker.clone(),
            readiness.gate(
                "sealing_keys",
                "the sealing keys have not been compared with those of the store yet",
            ),
            shutdown.clone(),
        ));
        shutdown.spawn(journal_keys::run(worker.clone(), shutdown.clone(), 0));
        for app in &apps.current().apps {
            shutdown.spawn(scheduler::run(schedulers.clone(), app.name.clone()));
        }
        shutdown.spawn(store_monitor::run(worker.clone(), shutdown.clone()));
        shutdown.spawn(restore::run(worker.clone(), shutdown.clone()));
        shutdown.spawn(recovery::sweep_escrow(worker.clone(), shutdown.clone()));
        shutdown.spawn(recovery::run(
            worker.clone(),
            audit.clone(),
            unanswered,
            shutdown.clone(),
        ));
        shutdown.spawn(sweep::run(worker.clone(), writer.clone(), shutdown.clone()));
        shutdown.spawn(worker::lost_response::run(worker.clone(), shutdown.clone()));
        shutdown.spawn(metrics::watch_unclaimed(worker.clone(), shutdown.clone()));
        shutdown.spawn(health::run(schedulers.clone(), lock_nodes.clone(), gates));
        if let Some(nodes) = &lock_nodes {
            shutdown.spawn(metrics::watch_lock_nodes(nodes.clone(), shutdown.clone()));
        }
        shutdown.spawn({
            let (audit, shutdown) = (audit.clone(), shutdown.clone());
            async move { audit.run(shutdown).await }
        });
        shutdown.spawn(static_tokens::register(
            config.static_tokens.clone(),
            worker.clone(),
            shutdown.clone(),
        ));
        Ok(Self(Arc::new(Inner {
            receive_memory: ReceiveMemory::new(config.receive_memory),
            consent_limits: AddressLimits::new(
                config.consent_rate,
                config.consent_rate.times(CONSENT_ADDRESSES),
            ),
            config,
            writer,
            reader,
            audit,
            worker,
            rotation: Arc::default(),
            lookups: Arc::default(),
            deliveries,
            schedulers,
            statistics,
            overview: gather::Shared::default(),
            searches: Semaphore::new(SEARCHES),
            lock_nodes,
            readiness: readiness.clone(),
            shutdown: shutdown.clone(),
        })))
    }
}
