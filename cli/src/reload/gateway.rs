//! The reload of `evergreen gateway`.

use std::sync::Arc;

use gateway::Gateway;
use service::config::Source;
use service::telemetry;
use store::key_list::{KeyCheck, RingKind};
use store::{KeyRing, TokenReader};

use super::changes::Snapshots;
use super::{InUse, Reload, Reloaded, Shared, read_blocking};
use crate::exit::Failure;
use crate::settings::{Common, Sources};

/// All settings of a gateway that a reload may use.
pub(crate) struct Read {
    pub(crate) common: Common,
    pub(crate) gateway: gateway::Config,
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) telemetry: telemetry::Config,
}

/// A gateway that runs alone.
pub(crate) struct GatewayReload {
    pub(crate) gateway: Gateway,
    pub(crate) reader: TokenReader,
    pub(crate) shared: Shared,
    pub(crate) sources: Sources,
    pub(crate) read: fn(&dyn Source) -> Result<Read, Failure>,
}

impl GatewayReload {
    /// The settings of the start. `source`: where they were read.
    pub(crate) fn in_use(source: &dyn Source) -> InUse {
        InUse::new(source, |setting| {
            ["EVERGREEN_ACCESS_KEYS", "EVERGREEN_ACCESS_KEYS_COMMAND"].contains(&setting)
                || gateway::RELOADED.contains(&setting)
        })
    }

    /// Whether the ring has changed and may be used.
    async fn is_new(&self, ring: &KeyRing) -> Result<bool, Failure> {
        if self.reader.access_ring().is_same_as(ring) {
            return Ok(false);
        }
        let checked = self.reader.check_ring(ring).await;
        match checked.map_err(Failure::unavailable)? {
            // Brokers have not registered their keys yet.
            KeyCheck::Fits | KeyCheck::Unlisted => Ok(true),
            KeyCheck::Wrong(wrong) => Err(Failure::unavailable(wrong)),
        }
    }
}

impl Reload for GatewayReload {
    async fn reload(&self, snapshots: &Snapshots) -> Result<Reloaded, Failure> {
        let (sources, snapshots, read) = (self.sources.clone(), snapshots.clone(), self.read);
        let (read, settings) = read_blocking(move || {
            let source = sources.read()?;
            Ok((read(&source)?, snapshots.take(&source)))
        })
        .await?;
        let is_new = self.is_new(&read.ring).await?;
        if is_new {
            self.reader.access_ring().replace(&read.ring);
        }
        self.gateway.reload(&read.gateway);
        self.shared.reload(&read.common, &read.telemetry);
        Ok(Reloaded {
            settings,
            apps: None,
            endpoints: None,
            rings: is_new
                .then(|| RingKind::Access.setting())
                .into_iter()
                .collect(),
        })
    }
}
