//! Stands in for `local_ghl` in a build without the cargo feature `sandbox`: `evergreen up` needs an app at
//! GHL.

use std::collections::HashMap;

use service::config::{Layered, Settings, Source};

use crate::exit::Failure;
use crate::process::Process;

/// Marks, among the settings, that there is no app at GHL.
const MARKER: &str = "(no app)";

/// There is no sandbox to start.
pub(super) enum LocalGhl {}

impl LocalGhl {
    /// If there is no app at GHL, the marker for [`LocalGhl::read`]. The placeholders prevent a second
    /// message about the same settings.
    pub(super) fn overrides(source: &Layered) -> HashMap<&'static str, String> {
        if source.get("GHL_CLIENT_ID").is_some() {
            return HashMap::new();
        }
        let keys = [MARKER, "GHL_CLIENT_ID", "GHL_CLIENT_SECRET"];
        keys.map(|key| (key, "missing".to_owned())).into()
    }

    /// Reports the mistake if there is no app at GHL.
    pub(super) fn read(settings: &mut Settings<'_>) -> Option<Self> {
        if settings.text(MARKER).is_some() {
            settings.mistake(
                "GHL_CLIENT_ID",
                "is not set: this build has no sandbox, so `evergreen up` needs an app at GHL. Set \
                 GHL_CLIENT_ID and GHL_CLIENT_SECRET to the client id and secret of your app in GHL's \
                 marketplace, or use a build with the cargo feature `sandbox`",
            );
        }
        None
    }

    pub(super) async fn bind(self) -> Result<BoundGhl, Failure> {
        match self {}
    }
}

/// There is no sandbox to serve.
pub(super) enum BoundGhl {}

impl BoundGhl {
    pub(super) fn serve(self, _: &Process) {
        match self {}
    }
}
