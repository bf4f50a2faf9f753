//! Finds the agency of a location that is not known, by asking GHL for a token of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ghl::AgencyFailure;
use service::shutdown::Shutdown;
use service::single_flight::{NoFlight, ShortMemory, SingleFlight};
use service::trace::TraceContext;
use store::{AppName, InstallationId, LocationId};
use store_writer::WriteError;
use store_writer::grant::Registration;
use store_writer::writer::{CallPurpose, MintOutcome};
use tokio::time::Instant;
use tracing::{Instrument, debug_span, info, warn};

use super::grant::{Agency, NoAgency, wait_for_turn};
use super::mint::MintError;
use crate::refresh::worker::Worker;

/// How long a location that belongs to nobody is not looked up again. Strangers could cause mints otherwise.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
/// How long a question waits for GHL's limit of one agency.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How many such locations are remembered.
const MAX_UNKNOWN: usize = 10_000;
/// How many locations are looked up at a time.
const MAX_SEARCHES: usize = 64;
/// How many agencies are asked for one location. A location that GHL has listed or announced needs no question.
const MAX_AGENCIES: usize = 16;

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// It has an installation now, with a token.
    Found(InstallationId),
    /// None of the agencies has it, or it does not have the app.
    Unknown,
    /// More agencies could have it than are asked. None of those that were asked gave a token.
    TooManyAgencies,
    /// Nobody knows at the moment.
    Unavailable(String),
}

impl Lookup {
    /// For callers, see [`Lookup::TooManyAgencies`].
    pub(crate) const TOO_MANY_AGENCIES: &str =
        "more agencies could have this location than are asked. GHL's webhooks announce it";
}

/// The searches of this process, one at a time for each location.
#[derive(Debug)]
pub(crate) struct Lookups {
    searches: SingleFlight<Wanted, Lookup>,
    unknown: ShortMemory<Wanted>,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            searches: SingleFlight::new(MAX_SEARCHES),
            unknown: ShortMemory::new(UNKNOWN_FOR, MAX_UNKNOWN),
        }
    }
}

/// A location whose installation is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) location: LocationId,
    /// The agencies that may have it. All if there is none.
    pub(crate) agencies: Vec<InstallationId>,
    /// The app whose agencies may have it. `None`: any.
    pub(crate) app: Option<AppName>,
}

impl Lookups {
    /// Finds the installation of a location.
    pub(crate) async fn find(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        shutdown: &Shutdown,
        mut wanted: Wanted,
    ) -> Lookup {
        wanted.agencies.sort_unstable();
        if self.unknown.has(&wanted) {
            return Lookup::Unknown;
        }
        let search = {
            let (lookups, worker, wanted) = (self.clone(), worker.clone(), wanted.clone());
            move || lookups.search(worker, wanted)
        };
        // It outlives the request that asks for it first.
        let span = debug_span!(parent: None, "look up a location", otel.kind = "internal");
        TraceContext::current().adopt(&span);
        let spawn = |task: BoxFuture<'static, ()>| drop(shutdown.spawn(task.instrument(span)));
        let found = self.searches.join(wanted, search, spawn);
        found.await.unwrap_or_else(|error| {
            let reason = match error {
                NoFlight::Full => "too many locations are looked up at a time",
                NoFlight::Lost => "the broker is stopping",
            };
            Lookup::Unavailable(reason.to_owned())
        })
    }

    async fn search(self: Arc<Self>, worker: Arc<Worker>, wanted: Wanted) -> Lookup {
        let found = worker.look_up(&wanted).await;
        if found == Lookup::Unknown {
            self.unknown.remember(wanted);
        }
        found
    }

    /// Forgets that locations are unknown, because an agency has connected or a location was announced.
    pub(crate) fn forget_unknown(&self) {
        self.unknown.clear();
    }
}

impl Worker {
    /// As [`Worker::mint`], once GHL's limit of the agency allows it.
    async fn mint_in_turn(
        self: &Arc<Self>,
        agency: &InstallationId,
        location: &LocationId,
        purpose: CallPurpose,
    ) -> Result<(Agency, Registration), MintError> {
        let since = Instant::now();
        loop {
            match self.mint(agency, location, purpose).await {
                Err(MintError::Later(wait)) => wait_for_turn(wait, since, LONGEST_WAIT)
                    .await
                    .ok_or(MintError::Later(wait))?,
                minted => return minted,
            }
        }
    }

    async fn look_up(self: &Arc<Self>, wanted: &Wanted) -> Lookup {
        let location = &wanted.location;
        match self.announced(wanted).await {
            Ok(Some(id)) => return Lookup::Found(id),
            Ok(None) => {}
            Err(error) => return Lookup::Unavailable(error.to_string()),
        }
        let candidates = match self.candidates(wanted).await {
            Ok(candidates) => candidates,
            Err(error) => return Lookup::Unavailable(error.to_string()),
        };
        let mut unavailable = None;
        let mut asked = 0;
        for agency in &candidates {
            if asked == MAX_AGENCIES {
                warn!(
                    agencies = candidates.len(),
                    asked,
                    "a location is not known, and more agencies could have it than are asked"
                );
                return Lookup::TooManyAgencies;
            }
            let minted = self.mint_in_turn(agency, location, CallPurpose::Unknown);
            match minted.await {
                Ok((agency, token)) => {
                    let known = agency.location(location);
                    let stored = self.writer.store_minted(&known, &token);
                    return match stored.await {
                        Ok((id, MintOutcome::Stored(_))) => {
                            info!(installation = %id, location = %location, parent = %agency.id,
                                "found a location of an agency");
                            Lookup::Found(id)
                        }
                        Ok((id, MintOutcome::Superseded | MintOutcome::Revoked)) => {
                            Lookup::Found(id)
                        }
                        Err(error) => Lookup::Unavailable(error.to_string()),
                    };
                }
                Err(MintError::Agency(NoAgency::NotConnected)) => {}
                Err(MintError::Ghl(AgencyFailure::NotInstalled(_))) => asked += 1,
                Err(error) => {
                    asked += 1;
                    unavailable = Some(error.to_string());
                }
            }
        }
        unavailable.map_or(Lookup::Unknown, Lookup::Unavailable)
    }
    /// The installation of a location that GHL has announced since the question.
    async fn announced(&self, wanted: &Wanted) -> Result<Option<InstallationId>, WriteError> {
        for (app, id) in self.writer.resolve(wanted.location.as_str()).await? {
            let may_be = wanted.app.as_ref().is_none_or(|its| *its == app);
            if may_be && self.writer.load(&id).await?.is_some() {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The agencies that may have a location.
    async fn candidates(&self, wanted: &Wanted) -> Result<Vec<InstallationId>, WriteError> {
        let mut candidates = self.writer.agencies().await?;
        candidates.retain(|id| wanted.agencies.is_empty() || wanted.agencies.contains(id));
        let Some(app) = &wanted.app else {
            return Ok(candidates);
        };
        let mut of_app = Vec::new();
        for id in candidates {
            let known = self.writer.load(&id).await?;
            if known.is_some_and(|known| known.installation.access.app == *app) {
                of_app.push(id);
            }
        }
        Ok(of_app)
    }
}
