//! Other apps while the broker runs, after its settings were read again.

use std::sync::Arc;

use tracing::info;

use super::AppConfig;
use crate::Broker;
use crate::broker::StartError;
use crate::events::endpoint::Endpoint;
use crate::metrics;
use crate::refresh::scheduler;

impl Broker {
    /// Uses these apps and endpoints from now on. Installations of an app that is gone are left alone. An app whose settings are the
    /// same goes on undisturbed.
    ///
    /// # Errors
    /// [`StartError::Tls`] if the client of a token endpoint cannot be made. Nothing is changed then.
    pub fn reload(&self, configs: &[AppConfig], endpoints: &[Endpoint]) -> Result<(), StartError> {
        let inner = &self.0;
        let before = inner.worker.apps.current();
        inner.worker.apps.replace(configs)?;
        inner.deliveries.set(endpoints);
        let now = inner.worker.apps.current();
        for app in &now.apps {
            match before.named(&app.name) {
                Some(same) if Arc::ptr_eq(same, app) => {}
                Some(_) => info!(app = %app.name, "the settings of the app have changed"),
                None => {
                    info!(app = %app.name, "the app is new");
                    inner
                        .shutdown
                        .spawn(scheduler::run(inner.schedulers.clone(), app.name.clone()));
                }
            }
        }
        for app in before
            .apps
            .iter()
            .filter(|app| now.named(&app.name).is_none())
        {
            info!(app = %app.name, "the app is gone: its installations are left alone");
            metrics::app_is_gone(&app.name);
        }
        Ok(())
    }
}
