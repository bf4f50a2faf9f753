//! Pauses of refreshes with the credentials of one client id.

use std::sync::Arc;

use store::InstallationId;
use store_writer::installation::Installation;
use store_writer::writer::Wanted;

use super::{Risk, Worker, unavailable};
use crate::apps::App;
use crate::metrics;
use crate::refresh::breaker::{CREDENTIAL_PAUSE, PauseReason};
use crate::refresh::obstacle::Obstacle;
use crate::refresh::outcome::Outcome;

impl Worker {
    /// An attempt while refreshes with its credentials pause. The scheduler of an app sees the pauses of one client id. If the
    /// app has another one, too, the test of those credentials happens here, and the others leave the schedule for a while.
    pub(super) async fn paused(
        self: &Arc<Self>,
        id: &InstallationId,
        wanted: Wanted,
        app: &App,
        pause: PauseReason,
    ) -> Outcome {
        let has_sibling = self.apps.current().has_sibling(app);
        if wanted == Wanted::Due && has_sibling && pause == PauseReason::ClientRejected {
            match app.breaker.try_acquire_probe().await {
                Ok(true) => return self.attempt(id, wanted, Risk::Probe).await,
                Ok(false) => {
                    let grace = self.timing.grace;
                    if let Err(error) = self.writer.postpone(id, CREDENTIAL_PAUSE, grace).await {
                        return unavailable(id, &error);
                    }
                }
                Err(error) => return unavailable(id, &error),
            }
        }
        metrics::obstructed(Obstacle::Paused);
        Outcome::Unavailable(Obstacle::Paused, pause.as_str().to_owned())
    }

    /// The app of an installation, and why refreshes with its credentials pause. `None` if they do not.
    pub(super) async fn pause_of(
        &self,
        installation: &Installation,
    ) -> Option<(Arc<App>, PauseReason)> {
        let app = &installation.access.app;
        let app = self.apps.of_token(app, installation.client.as_ref())?;
        let pause = app.breaker.pause_reason()?;
        let is_unresolved = installation.intent.is_some() && app.breaker.allows_retry(pause);
        // A mint uses neither the token endpoint nor the client credentials.
        let may_start = is_unresolved || self.is_minted(installation).await;
        (!may_start).then_some((app, pause))
    }
}
