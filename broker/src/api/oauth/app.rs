//! Which app a consent is for.

use std::sync::Arc;

use store::consent_state;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::apps::{App, NoApp};

/// The app with this name, or without a name the only or the default one.
pub(super) fn named(broker: &Broker, name: Option<&str>) -> Result<Arc<App>, Error> {
    let apps = broker.0.worker.apps.current();
    // No caller has a key here.
    let chosen = apps.chosen(name, None).cloned();
    chosen.map_err(|no_app| {
        Error::from(no_app).with_hint(match no_app {
            NoApp::Unnamed => "name the app: /oauth/install?app=NAME",
            NoApp::Unknown | NoApp::NotOfKey => "ask for the right link",
        })
    })
}

/// The app of a callback: that of its state, or else that of its path. A consent that began in GHL's marketplace has no
/// state.
pub(super) fn of_callback(
    broker: &Broker,
    state: Option<&str>,
    path: Option<&str>,
) -> Result<Arc<App>, Error> {
    let (ring, now) = (&broker.0.writer.rings().access, broker.0.reader.now());
    let of_state = state.and_then(|state| Some(consent_state::verify(ring, state, now)?.app));
    match (of_state, path) {
        (Some(app), Some(path)) if app.as_str() != path => Err(Error::new(
            ErrorKind::ConsentStateInvalid,
            "This consent was started for another app",
        )
        .with_hint("start again at /oauth/install")),
        (Some(app), _) => named(broker, Some(app.as_str())),
        (None, path) => named(broker, path),
    }
}
