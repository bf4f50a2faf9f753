//! The place of an installation on the schedule after an attempt.

use store::{AppName, InstallationId};
use store_writer::{StoreWriter, WriteError};

use crate::refresh::outcome::Outcome;

/// Updates the schedule after the attempts that do not update it themselves.
pub(super) async fn update_schedule(
    writer: &StoreWriter,
    id: &InstallationId,
    app: &AppName,
    outcome: Outcome,
) -> Result<(), WriteError> {
    match outcome {
        // Retry before the claim expires, in case the holder of the lease is dead.
        Outcome::Busy(wait) => match writer.load(id).await? {
            Some(snapshot) => {
                writer
                    .reschedule_earlier(id, app, snapshot.now + wait)
                    .await
            }
            None => writer.unschedule(id, app).await,
        },
        Outcome::NotRefreshable(_) | Outcome::NotDue(_) | Outcome::UnknownApp => {
            // An older build may have put it on the schedule of the default app.
            match writer.load(id).await? {
                Some(known) if known.installation.access.app != *app => {
                    writer.unschedule(id, app).await
                }
                Some(_) if matches!(outcome, Outcome::NotRefreshable(_)) => {
                    writer.reschedule(id).await
                }
                Some(_) | None => Ok(()),
            }
        }
        Outcome::UnknownInstallation => writer.unschedule(id, app).await,
        Outcome::Refreshed { .. }
        | Outcome::Superseded
        | Outcome::RateLimited(_)
        | Outcome::Contained
        | Outcome::Failed(_)
        | Outcome::Adopted
        | Outcome::Journaled
        | Outcome::Unavailable(..) => Ok(()),
    }
}
