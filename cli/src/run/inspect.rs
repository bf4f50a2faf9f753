//! The settings of a process that is not started: for `evergreen check` and `evergreen config print`.

use std::sync::Arc;

use secrecy::SecretString;
use service::config::{Layered, Mistakes, Read, Settings};
use service::tls::{Authorities, ClientIdentity};
use store::connection::RedisTls;
use store::names::Prefix;
use store::{AppName, KeyRing};
use store_writer::Rings;
use url::Url;

use crate::role::Role;
use crate::settings::Common;

/// The settings, as the process would read them.
pub(crate) struct Inspected {
    /// All that was read.
    pub(crate) reads: Vec<Read>,
    /// `Err` if the process would not start with them.
    pub(crate) settings: Result<Checked, Mistakes>,
}

/// All that a process would use.
pub(crate) struct Checked {
    pub(crate) common: Common,
    pub(crate) scheme: &'static str,
    /// The base of GHL's API.
    pub(crate) api_url: Url,
    pub(crate) authorities: Authorities,
    /// The apps, and where GHL sends browsers after a consent. Empty for a gateway.
    pub(crate) apps: Vec<(AppName, Url)>,
    /// Whether a sandbox in the process stands in for GHL.
    pub(crate) is_sandboxed: bool,
    /// Endpoints of events and of forwarded webhooks.
    pub(crate) endpoints: Vec<Url>,
    pub(crate) place: Place,
    /// The brokers of a gateway.
    pub(crate) broker_url: Option<Url>,
    /// The certificate that brokers are shown.
    pub(crate) identity: Option<ClientIdentity>,
    /// The most bytes that the journal takes. `None` for a gateway.
    pub(crate) journal_max: Option<u64>,
}

/// The store.
pub(crate) enum Place {
    /// A file in the data directory. `rings`: if they are in the settings.
    File { rings: Option<Rings> },
    /// Redis.
    Redis(Box<Redis>),
}

/// A store in Redis, its lock nodes and its keys.
pub(crate) struct Redis {
    pub(crate) url: SecretString,
    pub(crate) tls: RedisTls,
    pub(crate) prefix: Prefix,
    /// `None` for a gateway.
    pub(crate) replicas: Option<usize>,
    /// `None` if locks are in the store, and for a gateway.
    pub(crate) locks: Option<Vec<SecretString>>,
    pub(crate) access: Arc<KeyRing>,
    /// `None` for a gateway.
    pub(crate) refresh: Option<Arc<KeyRing>>,
}

/// Reads the settings as a process of this kind would.
pub(crate) fn inspect(role: Role, source: &Layered) -> Inspected {
    match role {
        Role::Up => super::up::inspect(source),
        Role::Broker => super::redis::inspect_broker(source),
        Role::Gateway => super::redis::inspect_gateway(source),
    }
}

/// The settings that each process reads for its peers. They are read again, since their readers keep them to themselves.
pub(super) fn peers(settings: &mut Settings<'_>) -> (Url, Authorities) {
    let api_url = settings.url("GHL_API_URL", ghl::api::DEFAULT_BASE_URL);
    (api_url, Authorities::read(settings))
}

/// The apps and endpoints of a broker.
pub(super) fn of_broker(broker: &broker::Config) -> (Vec<(AppName, Url)>, Vec<Url>) {
    let apps = broker.apps.iter();
    let apps = apps.map(|app| (app.name.clone(), app.consent.redirect_uri.clone()));
    let endpoints = broker.endpoints.iter().map(|endpoint| endpoint.url.clone());
    (apps.collect(), endpoints.collect())
}

/// The scheme of the listeners.
pub(super) fn scheme(has_tls: bool) -> &'static str {
    if has_tls { "https" } else { "http" }
}
