//! A broker within a simulation: the real scheduler and worker, over a GHL that is simulated.

use std::sync::Arc;

use ghl::TokenEndpoint;
use ghl::token_endpoint::Transport;
use service::readiness::Readiness;
use service::shutdown::Shutdown;
use service::simulation::Process;
use store::{Generation, InstallationId};
use store_writer::writer::Wanted;

use crate::refresh_api;
use crate::{Broker, Config, Parts, StartError};

/// Rules that a simulation can take away, to show that it notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// An answer that comes after the timeout is read.
    pub late_answers: bool,
    /// In an outage at GHL no new token is spent, and few refreshes are in flight before it.
    pub containment: bool,
    /// Answers are kept until they are superseded, and brought back to a store that lost them.
    pub keep_answers: bool,
    /// A refusal is not the end: the token is tried again.
    pub suspects: bool,
}

impl Rules {
    pub const ALL: Self = Self {
        late_answers: true,
        containment: true,
        keep_answers: true,
        suspects: true,
    };
}

/// Starts a broker as a part of `process`.
///
/// # Errors
/// When the journal cannot be read.
pub fn start(
    process: Process,
    transport: Arc<dyn Transport>,
    config: Config,
    parts: Parts,
    rules: Rules,
) -> Result<Broker, StartError> {
    let endpoint = TokenEndpoint::over(transport, config.endpoint.clone());
    let (readiness, shutdown) = (Readiness::new(), Shutdown::of(process));
    Broker::start_over(endpoint, config, parts, &readiness, &shutdown, |worker| {
        worker.under(rules)
    })
}

/// A gateway asks for a token after `past`. What comes of it is in the store.
pub fn ask(broker: &Broker, id: InstallationId, past: Generation) {
    let asked = broker.clone();
    broker.0.shutdown.spawn(async move {
        // The gateway reads the store, whatever the answer says.
        drop(refresh_api::now(&asked, &id, Wanted::Past(past)).await);
    });
}
