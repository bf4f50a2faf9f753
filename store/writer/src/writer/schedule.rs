//! The schedules of each app.

use std::time::Duration;

use store::{AppName, InstallationId, Timestamp};

use super::{Decision, StoreWriter, WriteError};
use crate::backend::{DueEntries, DuePoll, Schedule};
use crate::protocol;

impl StoreWriter {
    /// Takes installations of an app that are due. They are due again after `claim`, unless they are processed.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn claim(
        &self,
        schedule: Schedule,
        app: &AppName,
        due: DueEntries,
        claim: Duration,
    ) -> Result<Vec<InstallationId>, WriteError> {
        self.backend.claim(schedule, app, due, claim).await
    }

    /// Reschedules an installation of an app to `at`, unless it is due earlier or not scheduled.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn reschedule_earlier(
        &self,
        id: &InstallationId,
        app: &AppName,
        at: Timestamp,
    ) -> Result<(), WriteError> {
        self.backend.reschedule_earlier(id, app, at).await
    }

    /// Puts off an installation whose app cannot be used now. `grace`: GHL's.
    ///
    /// # Errors
    /// When there is no such installation, or the store is unavailable.
    pub async fn postpone(
        &self,
        id: &InstallationId,
        pause: Duration,
        grace: Duration,
    ) -> Result<(), WriteError> {
        self.decide_known(id, |current, now| {
            match protocol::postpone(current, pause, grace, now) {
                Some(next) => Decision::Write(Box::new(next), ()),
                None => Decision::Leave(()),
            }
        })
        .await
    }

    /// Removes an id without a record from the schedules of an app.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn unschedule(&self, id: &InstallationId, app: &AppName) -> Result<(), WriteError> {
        self.backend.unschedule(id, app).await
    }

    /// Polls a schedule of an app.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn poll_due(&self, schedule: Schedule, app: &AppName) -> Result<DuePoll, WriteError> {
        self.backend.poll_due(schedule, app).await
    }

    /// Counts the installations of an app that were due at `by`, and are not processed.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn count_due(&self, app: &AppName, by: Timestamp) -> Result<u64, WriteError> {
        self.backend.count_due(app, by).await
    }
}
