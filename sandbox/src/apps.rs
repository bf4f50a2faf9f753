//! The apps that the sandbox knows, and their client credentials.

use std::collections::HashMap;
use std::sync::Arc;

use ring::digest;
use secrecy::{ExposeSecret, SecretString};

use crate::Config;
use crate::ids::hex;

/// A client id and its secret. One app may have several.
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    /// The client id: `<app id>-<suffix>`.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
}

/// All client credentials.
#[derive(Debug)]
pub(crate) struct Apps {
    clients: HashMap<Arc<str>, SecretString>,
    /// The client ids, the default one first.
    order: Vec<Arc<str>>,
}

impl Apps {
    pub(crate) fn new(config: &Config) -> Self {
        let default = (&config.client_id, &config.client_secret);
        let others = config.apps.iter();
        let others = others.map(|other| (&other.client_id, &other.client_secret));
        let mut apps = Self {
            clients: HashMap::new(),
            order: Vec::new(),
        };
        for (client_id, secret) in std::iter::once(default).chain(others) {
            let client_id: Arc<str> = client_id.as_str().into();
            apps.clients.insert(client_id.clone(), secret.clone());
            apps.order.push(client_id);
        }
        apps
    }

    /// The known client id that equals this one.
    pub(crate) fn client(&self, client_id: &str) -> Option<&Arc<str>> {
        self.clients
            .get_key_value(client_id)
            .map(|(known, _)| known)
    }

    /// The client id if the secret belongs to it.
    pub(crate) fn authenticate(&self, client_id: &str, secret: &str) -> Option<Arc<str>> {
        self.clients
            .get_key_value(client_id)
            .filter(|(_, expected)| expected.expose_secret() == secret)
            .map(|(known, _)| known.clone())
    }

    /// The client id of the setting `EVERGREEN_SANDBOX_CLIENT_ID`.
    pub(crate) fn default_client(&self) -> &Arc<str> {
        &self.order[0]
    }

    /// The first client id of an app.
    pub(crate) fn client_of(&self, app: &str) -> Option<&Arc<str>> {
        self.order.iter().find(|client| app_id(client) == app)
    }

    /// The ids of all apps. An app with several client ids is repeated.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(|client| app_id(client))
    }
}

/// The app of a client id of the form `<app id>-<suffix>`.
pub(crate) fn app_id(client_id: &str) -> &str {
    client_id.split('-').next().unwrap_or(client_id)
}

/// The id of the current version of an app: 24 hex digits, as at GHL.
pub(crate) fn version_id(app: &str) -> String {
    let text = format!("version of {app}");
    hex(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_belongs_to_one_client_id() {
        let pair = |client_id: &str, secret: &str| ClientCredentials {
            client_id: client_id.to_owned(),
            client_secret: secret.into(),
        };
        let apps = Apps::new(&Config {
            apps: vec![pair("second-a", "one"), pair("second-b", "two")],
            ..Config::default()
        });
        assert!(apps.authenticate("second-a", "one").is_some());
        assert!(apps.authenticate("second-a", "two").is_none());
        assert!(
            apps.authenticate("sandbox-client", "sandbox-secret")
                .is_some()
        );
        assert_eq!(apps.client_of("second").map(|id| &**id), Some("second-a"));
        assert_eq!(
            apps.ids().collect::<Vec<_>>(),
            ["sandbox", "second", "second"]
        );
        assert_eq!(version_id("second").len(), 24);
    }
}
