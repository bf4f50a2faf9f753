//! The apps at GHL whose installations this broker refreshes.
//!
//! Each app has its own client id, secrets, schedule and circuit breaker. A refresh token works only with the client id
//! that it was issued to, so an installation is refreshed with the credentials of its own app alone.

mod choice;
pub(crate) mod config;
pub(crate) mod identity;
mod redirect;
mod reload;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ghl::TokenEndpoint;
use ghl::consent::Consent;
use ghl::webhook::Verifier;
use secrecy::SecretString;
use store::{AppName, ClientId};
use store_writer::StoreWriter;
use store_writer::writer::KnownApps;

use crate::api::html::Brand;
use crate::broker::StartError;
use crate::refresh::breaker::Breaker;
pub(crate) use choice::NoApp;
pub(crate) use config::AppConfig;
use identity::Identity;

/// An app at GHL.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) name: AppName,
    pub(crate) client: ClientId,
    pub(crate) consent: Consent,
    pub(crate) endpoint: TokenEndpoint,
    pub(crate) verifier: Verifier,
    pub(crate) brand: Brand,
    /// See [`AppConfig::sso_keys`].
    pub(crate) sso_keys: Vec<SecretString>,
    pub(crate) breaker: Breaker,
    /// Whether the name stands for this app in the store.
    pub(crate) identity: Identity,
    /// Of the settings, to tell whether a reload changes them.
    fingerprint: String,
}

impl App {
    /// Whether this is its id at GHL. GHL's webhooks name an app by it, or by its client id.
    pub(crate) fn is_at_ghl(&self, id: &str) -> bool {
        self.client.app_id() == id || self.client.as_str() == id
    }
}

/// Makes the client of a token endpoint.
pub(crate) type Connect =
    Box<dyn Fn(&AppConfig) -> Result<TokenEndpoint, StartError> + Send + Sync>;

/// The apps of this broker. They can change while it runs.
pub(crate) struct Apps {
    writer: StoreWriter,
    grace: Duration,
    connect: Connect,
    current: RwLock<Arc<AppSet>>,
}

/// The apps at one moment.
#[derive(Debug, Default)]
pub(crate) struct AppSet {
    /// In the order of their names.
    pub(crate) apps: Vec<Arc<App>>,
}

impl Apps {
    /// # Errors
    /// If the client of a token endpoint cannot be made.
    pub(crate) fn new(
        configs: &[AppConfig],
        writer: StoreWriter,
        grace: Duration,
        connect: Connect,
    ) -> Result<Self, StartError> {
        let apps = Self {
            writer,
            grace,
            connect,
            current: RwLock::default(),
        };
        apps.replace(configs)?;
        Ok(apps)
    }

    /// The apps of now.
    pub(crate) fn current(&self) -> Arc<AppSet> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// The app with this name.
    pub(crate) fn named(&self, name: &AppName) -> Option<Arc<App>> {
        self.current().named(name).cloned()
    }

    /// The app whose credentials a token works with. A token that an older build stored has no client id.
    pub(crate) fn of_token(&self, name: &AppName, client: Option<&ClientId>) -> Option<Arc<App>> {
        let current = self.current();
        let found = match client {
            Some(client) => current.apps.iter().find(|app| app.client == *client),
            None => current.named(name),
        };
        found.cloned()
    }

    /// Uses other apps from now on. One whose settings are the same keeps its state.
    ///
    /// # Errors
    /// If the client of a token endpoint cannot be made. Nothing is changed then.
    fn replace(&self, configs: &[AppConfig]) -> Result<(), StartError> {
        let current = self.current();
        let mut apps = Vec::with_capacity(configs.len());
        for config in configs {
            let fingerprint = config.fingerprint();
            let held = current.named(&config.name);
            apps.push(match held.filter(|app| app.fingerprint == fingerprint) {
                Some(same) => same.clone(),
                None => Arc::new(self.app(config, fingerprint)?),
            });
        }
        apps.sort_by(|a, b| a.name.cmp(&b.name));
        let mut held = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(AppSet { apps });
        Ok(())
    }

    fn app(&self, config: &AppConfig, fingerprint: String) -> Result<App, StartError> {
        let endpoint = (self.connect)(config)?;
        let credentials = endpoint.credentials_fingerprint();
        Ok(App {
            breaker: Breaker::new(
                self.writer.clone(),
                config.name.clone(),
                credentials,
                self.grace,
            ),
            name: config.name.clone(),
            client: config.client.clone(),
            consent: config.consent.clone(),
            verifier: config.verifier.clone(),
            brand: config.brand.clone(),
            sso_keys: config.sso_keys.clone(),
            identity: Identity::default(),
            endpoint,
            fingerprint,
        })
    }
}

impl AppSet {
    /// The apps whose installations this broker may refresh. A name that is another app's does not count.
    pub(crate) fn known(&self) -> KnownApps {
        let named = self.apps.iter().filter(|app| !app.identity.is_taken());
        KnownApps {
            names: named.map(|app| app.name.clone()).collect(),
            clients: self.apps.iter().map(|app| app.client.clone()).collect(),
        }
    }

    /// Whether another app here is the same one at GHL: its earlier client id, or its next.
    pub(crate) fn has_sibling(&self, app: &App) -> bool {
        let is_sibling = |other: &Arc<App>| {
            other.name != app.name && other.client.app_id() == app.client.app_id()
        };
        self.apps.iter().any(is_sibling)
    }

    /// The app with this name.
    pub(crate) fn named(&self, name: &AppName) -> Option<&Arc<App>> {
        self.apps.iter().find(|app| app.name == *name)
    }

    /// The app, if there is one alone.
    pub(crate) fn only(&self) -> Option<&Arc<App>> {
        match self.apps.as_slice() {
            [only] => Some(only),
            [] | [_, _, ..] => None,
        }
    }

    /// The app of a request: the one that it names, or else that of its key, or else the only or the default one.
    ///
    /// # Errors
    /// When there is none, or the key is for another app.
    pub(crate) fn chosen(
        &self,
        named: Option<&str>,
        of_key: Option<&AppName>,
    ) -> Result<&Arc<App>, NoApp> {
        let known: Vec<&AppName> = self.apps.iter().map(|app| &app.name).collect();
        let name = choice::choose(&known, named, of_key)?;
        self.named(name).ok_or(NoApp::Unknown)
    }

    /// The only or the default app.
    pub(crate) fn unnamed(&self) -> Option<&Arc<App>> {
        self.chosen(None, None).ok()
    }
}

impl fmt::Debug for Apps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Apps");
        shown
            .field("current", &self.current())
            .finish_non_exhaustive()
    }
}
