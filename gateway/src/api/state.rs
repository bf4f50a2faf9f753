//! The state that all routes share.

use std::sync::Arc;

use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::upstream::Upstream;

/// The pipeline, the connections to the broker, and the metrics.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) pipeline: Pipeline,
    pub(crate) broker: Upstream,
    pub(crate) metrics: Arc<Metrics>,
}
