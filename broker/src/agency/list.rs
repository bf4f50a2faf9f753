//! Lists the locations on which an agency has installed the app, and gives each an installation.
//!
//! GHL does not say with the consent which locations the agency has chosen. The list is read after each consent, and
//! once a day, in case an announcement was lost.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use ghl::AgencyFailure;
use store::{InstallationId, LocationId, Timestamp};
use store_writer::WriteError;
use store_writer::installation::{LastError, LocationList};
use store_writer::protocol::LIST_CLAIM;
use store_writer::writer::{CallPurpose, LocationNews};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::grant::{Agency, NoAgency, Turn, wait_for_turn};
use crate::refresh::crash_point::{self, Step};
use crate::refresh::worker::Worker;

const INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// At most this much is added, so that agencies that were listed together are not listed together for ever.
const JITTER: Duration = Duration::from_secs(60 * 60);
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(60 * 60);
/// At most half of the calls that brokers may make for an agency, so that mints are not held up.
const BETWEEN_PAGES: Duration = Duration::from_millis(300);
/// How long a page waits for GHL's limit of the agency. Mints may take all of it.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How long a list waits for others of this process. It is less than [`LIST_CLAIM`].
const LONGEST_QUEUE: Duration = Duration::from_secs(10);
/// Locations that are stored at once.
const WRITES: usize = 16;
/// Far more than any agency has. GHL could repeat pages for ever.
const MAX_PAGES: usize = 10_000;

#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error("the agency must connect again")]
    NoAgency,
    #[error("{0}")]
    Unknown(String),
    #[error("the rate limit of the agency is used up")]
    RateLimited,
    #[error("GHL's list has no end after {MAX_PAGES} pages")]
    NoEnd,
    #[error("the broker is stopping")]
    Stopping,
    #[error(transparent)]
    Ghl(#[from] AgencyFailure),
    #[error(transparent)]
    Store(#[from] WriteError),
}

fn jitter() -> Duration {
    JITTER * u32::from(store::random::bytes::<1>()[0]) / 256
}

/// GHL's list of the locations of an agency.
#[derive(Debug, Default)]
struct Found {
    count: u64,
    added: u64,
    is_for_future_locations: Option<bool>,
}

impl Worker {
    /// Lists the locations of an agency, and says when to list them again.
    pub(crate) async fn list_locations(self: Arc<Self>, id: InstallationId) {
        let Some(_slot) = self.list_slot().await else {
            // The claim of the list ends by itself.
            return;
        };
        let known = match self.writer.load(&id).await {
            Ok(Some(known)) => known,
            // The claim of the list ends by itself.
            Ok(None) | Err(_) => return,
        };
        let of = known.installation.consented_at;
        let before = known
            .installation
            .locations
            .unwrap_or(LocationList::due_at(known.now));
        let listed = self.read_list(&id, of, &before).await;
        let now = self.reader.now();
        let next = match listed {
            Ok(found) => {
                info!(installation = %id, locations = found.count, added = found.added,
                    "listed the locations of an agency");
                LocationList {
                    due: now + INTERVAL + jitter(),
                    listed_at: Some(now),
                    count: found.count,
                    is_for_future_locations: found.is_for_future_locations,
                    failures: 0,
                    error: None,
                }
            }
            // Another broker begins at once.
            Err(ListError::Stopping) => LocationList { due: now, ..before },
            Err(error) => {
                let wait = FIRST_RETRY * 2_u32.saturating_pow(before.failures.min(10));
                let wait = wait.min(LONGEST_RETRY);
                warn!(installation = %id, error = &error as &dyn std::error::Error,
                    "the locations of an agency could not be listed. It is tried again in {wait:?}");
                LocationList {
                    due: now + wait,
                    failures: before.failures.saturating_add(1),
                    error: Some(LastError::new("list", error.to_string(), now)),
                    ..before
                }
            }
        };
        if let Err(error) = self.writer.record_list(&id, of, &next).await {
            warn!(installation = %id, error = &error as &dyn std::error::Error,
                "the list of an agency's locations could not be recorded. It is read again");
        }
        crash_point::reached(Step::ListRecorded);
    }

    /// A place among the lists of this process. `None` if none gets free in time, or the broker is stopping.
    async fn list_slot(&self) -> Option<SemaphorePermit<'_>> {
        tokio::select! {
            biased;
            () = self.shutdown.started() => None,
            slot = timeout(LONGEST_QUEUE, self.list_slots.acquire()) => slot.ok().and_then(Result::ok),
        }
    }

    async fn read_list(
        self: &Arc<Self>,
        id: &InstallationId,
        of: Timestamp,
        before: &LocationList,
    ) -> Result<Found, ListError> {
        let mut agency = self.listing_agency(id, None).await?;
        let mut found = Found::default();
        let mut from = 0;
        let mut is_renewed = false;
        for _ in 0..MAX_PAGES {
            self.wait_for_page(&agency).await?;
            let whose = (agency.company.as_str(), agency.app_id.as_str());
            let page = self
                .agency_api()
                .installed_locations(&agency.token, whose, from);
            let page = match page.await {
                Err(AgencyFailure::TokenRefused(_)) if !is_renewed => {
                    is_renewed = true;
                    agency = self.listing_agency(id, Some(agency.generation)).await?;
                    continue;
                }
                page => page?,
            };
            self.store_page(&agency, &page.installed, &mut found)
                .await?;
            crash_point::reached(Step::PageListed);
            found.is_for_future_locations = page.is_for_future_locations;
            let is_last = page.is_last(from);
            from += page.length;
            if is_last {
                return Ok(found);
            }
            let claim = LocationList {
                due: self.reader.now() + LIST_CLAIM,
                ..before.clone()
            };
            self.writer.record_list(id, of, &claim).await?;
            sleep(BETWEEN_PAGES).await;
        }
        Err(ListError::NoEnd)
    }

    async fn wait_for_page(&self, agency: &Agency) -> Result<(), ListError> {
        let since = Instant::now();
        loop {
            if self.shutdown.is_started() {
                return Err(ListError::Stopping);
            }
            match self.count_call(agency, CallPurpose::Known).await {
                Ok(()) => return Ok(()),
                Err(Turn::Later(wait)) => wait_for_turn(wait, since, LONGEST_WAIT)
                    .await
                    .ok_or(ListError::RateLimited)?,
                Err(Turn::Store(error)) => return Err(error.into()),
            }
        }
    }

    async fn listing_agency(
        self: &Arc<Self>,
        id: &InstallationId,
        refused: Option<store::Generation>,
    ) -> Result<Agency, ListError> {
        let agency = self.agency(id, refused).await;
        agency.map_err(|error| match error {
            NoAgency::NotConnected => ListError::NoAgency,
            NoAgency::Unknown(reason) => ListError::Unknown(reason),
        })
    }

    async fn store_page(
        &self,
        agency: &Agency,
        installed: &[String],
        found: &mut Found,
    ) -> Result<(), ListError> {
        let locations = installed
            .iter()
            .filter_map(|id| id.parse::<LocationId>().ok());
        let known: Vec<_> = locations
            .map(|location| agency.location(&location))
            .collect();
        let stored = stream::iter(known).map(|known| {
            let writer = self.writer.clone();
            async move { writer.list_location(&known).await }
        });
        let mut stored = stored.buffer_unordered(WRITES);
        while let Some(news) = stored.next().await {
            match news {
                Ok((_, LocationNews::Added)) => found.added += 1,
                Ok((_, LocationNews::Known | LocationNews::Uninstalled)) => {}
                // One damaged record must not hide the others.
                Err(error @ WriteError::Unreadable { .. }) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "a location is left out"
                    );
                }
                Err(error) => return Err(error.into()),
            }
            found.count += 1;
        }
        Ok(())
    }
}
