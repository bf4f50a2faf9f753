//! Which app a consent is for.

use std::sync::Arc;

use store::consent_state;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::apps::App;

/// The app with this name, or without a name the only one.
pub(super) fn named(broker: &Broker, name: Option<&str>) -> Result<Arc<App>, Error> {
    let apps = broker.0.worker.apps.current();
    let found = match name {
        Some(name) => name
            .parse()
            .ok()
            .and_then(|name| apps.named(&name).cloned()),
        None => apps.unnamed().cloned(),
    };
    found.ok_or_else(|| match name {
        Some(_) => Error::new(ErrorKind::AppUnknown, "There is no app of this name")
            .with_hint("ask for the right link"),
        None => Error::new(
            ErrorKind::AppUnknown,
            "The link does not say which app it is for",
        )
        .with_hint("name the app: /oauth/install?app=NAME"),
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
