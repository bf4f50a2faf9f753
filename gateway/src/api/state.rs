//! What the routes share.

use std::sync::Arc;

use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::upstream::Upstream;

/// What every request needs.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) pipeline: Pipeline,
    pub(crate) broker: Upstream,
    pub(crate) metrics: Arc<Metrics>,
}
