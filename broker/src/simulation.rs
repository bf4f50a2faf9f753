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
use crate::apps::Connect;
use crate::{AppConfig, Broker, Config, Parts, StartError};

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
    let connect: Connect = Box::new(move |app: &AppConfig| {
        let (transport, endpoint) = (transport.clone(), app.endpoint.clone());
        Ok(TokenEndpoint::with_transport(transport, endpoint))
    });
    let first = config.apps.first().ok_or(StartError::NoApp)?;
    let agency_api = AgencyApi::disconnected(config.api_url.clone(), &first.endpoint);
    let (readiness, shutdown) = (Readiness::new(), Shutdown::of(process));
    Broker::start_with(
        (connect, agency_api, None),
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
