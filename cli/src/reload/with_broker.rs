//! The reload of `evergreen broker` and `evergreen up`.

use std::sync::Arc;

use broker::Broker;
use gateway::Gateway;
use service::config::Source;
use service::telemetry;
use store::key_list::RingKind;
use store_writer::Rings;

use super::changes::{Snapshot, Snapshots};
use super::{InUse, Reload, Reloaded, Shared, read_blocking};
use crate::exit::Failure;
use crate::settings::Common;

/// All settings of the process that a reload may use.
pub(crate) struct Read {
    pub(crate) common: Common,
    pub(crate) broker: broker::Config,
    /// `None` for a broker alone.
    pub(crate) gateway: Option<gateway::Config>,
    pub(crate) rings: Rings,
    pub(crate) telemetry: telemetry::Config,
}

/// Reads all settings anew. It gives their source to the second argument.
type ReadAll = dyn Fn(&mut dyn FnMut(&dyn Source)) -> Result<Read, Failure> + Send + Sync;

/// A broker, with a gateway in `up`.
pub(crate) struct BrokerReload {
    pub(crate) broker: Broker,
    pub(crate) gateway: Option<Gateway>,
    pub(crate) shared: Shared,
    pub(crate) read: Arc<ReadAll>,
}

impl BrokerReload {
    /// The settings of the start. `source`: where they were read.
    pub(crate) fn in_use(&self, source: &dyn Source) -> InUse {
        InUse::new(
            source,
            match &self.gateway {
                Some(_) => is_reloaded_by_up,
                None => is_reloaded_by_broker,
            },
        )
    }
}

fn is_reloaded_by_broker(setting: &str) -> bool {
    let rings = [
        "EVERGREEN_ACCESS_KEYS",
        "EVERGREEN_ACCESS_KEYS_COMMAND",
        "EVERGREEN_REFRESH_KEYS",
        "EVERGREEN_REFRESH_KEYS_COMMAND",
    ];
    rings.contains(&setting)
        || broker::RELOADED.contains(&setting)
        || broker::RELOADED_APPS.contains(&setting)
}

fn is_reloaded_by_up(setting: &str) -> bool {
    is_reloaded_by_broker(setting) || gateway::RELOADED.contains(&setting)
}

impl Reload for BrokerReload {
    async fn reload(&self, snapshots: &Snapshots) -> Result<Reloaded, Failure> {
        let (read, snapshots) = (Arc::clone(&self.read), snapshots.clone());
        let (read, settings) = read_blocking(move || {
            let mut settings = Snapshot::default();
            let read = read(&mut |source| settings = snapshots.take(source))?;
            Ok((read, settings))
        })
        .await?;
        let Read {
            common,
            broker,
            gateway,
            rings,
            telemetry,
        } = read;
        // First what may be refused: the store may be away by now.
        let changed = self.broker.reload_rings(&rings).await;
        let changed = changed.map_err(Failure::unavailable)?;
        let reloaded = self.broker.reload(&broker.apps, &broker.endpoints);
        reloaded.map_err(Failure::unavailable)?;
        self.broker.reload_limits(&broker).await;
        if let (Some(gateway), Some(config)) = (&self.gateway, &gateway) {
            gateway.reload(config);
        }
        self.shared.reload(&common, &telemetry);
        Ok(Reloaded {
            settings,
            apps: Some(broker.apps.len()),
            endpoints: Some(broker.endpoints.len()),
            rings: changed.into_iter().map(RingKind::setting).collect(),
        })
    }
}
