//! Runs a broker inside a simulation: the real scheduler and worker over a simulated GHL.

use std::sync::Arc;

use ghl::token_endpoint::Transport;
use ghl::{AgencyApi, TokenEndpoint};
use service::readiness::Readiness;
use service::shutdown::Shutdown;
use service::simulation::Process;
use store::{Generation, InstallationId};
use store_writer::writer::Wanted;

pub use crate::refresh::rules::Rules;

use crate::api::refresh_api;
use crate::{Broker, Config, Parts, StartError};

/// Starts a broker whose tasks belong to `process`.
///
/// # Errors
/// [`StartError::Journal`] if the journal cannot be read.
pub fn start(
    process: Process,
    transport: Arc<dyn Transport>,
    config: Config,
    parts: Parts,
    rules: Rules,
) -> Result<Broker, StartError> {
    let endpoint = TokenEndpoint::with_transport(transport, config.endpoint.clone());
    let agency_api = AgencyApi::disconnected(config.api_url.clone(), &config.endpoint);
    let (readiness, shutdown) = (Readiness::new(), Shutdown::of(process));
    Broker::start_with(
        (endpoint, agency_api),
        config,
        parts,
        &readiness,
        &shutdown,
        |worker| worker.with_rules(rules),
    )
}

/// Requests a refresh as a gateway does: a token of a later generation than `past`. The result is in the
/// store.
pub fn request_refresh(broker: &Broker, id: InstallationId, past: Generation) {
    let requested = broker.clone();
    broker.0.shutdown.spawn(async move {
        // The gateway reads the store and ignores this response.
        drop(refresh_api::now(&requested, &id, Wanted::Past(past)).await);
    });
}
