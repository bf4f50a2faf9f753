//! The state that all routes share.

use std::sync::Arc;

use service::origin::OwnHosts;
use service::readiness::Readiness;
use service::shutdown::Shutdown;

use super::anonymous::AnonymousLimits;
use crate::access_log::AccessLog;
use crate::call_counts::WorkerCounts;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::upstream::Upstream;

/// The pipeline, the connections to the broker, the metrics, the counts of this worker, the access log, the names of the
/// public listener, the bounds for requests without a key, the readiness and the stop of the process.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) pipeline: Pipeline,
    pub(crate) broker: Upstream,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) calls: Arc<WorkerCounts>,
    pub(crate) access_log: Arc<AccessLog>,
    pub(crate) own_hosts: OwnHosts,
    pub(crate) anonymous: Arc<AnonymousLimits>,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: Shutdown,
}
