//! Finds the agency of a location that is not known, by asking GHL for a token of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use ghl::AgencyFailure;
use service::locks::lock;
use service::shutdown::Shutdown;
use store::{InstallationId, LocationId};
use store_writer::grant::Registration;
use store_writer::writer::MintOutcome;
use tokio::time::Instant;
use tracing::{info, warn};

use super::grant::{Agency, NoAgency, wait_for_turn};
use super::mint::MintError;
use crate::refresh::worker::Worker;

/// How long a location that belongs to nobody is not looked up again. Strangers could cause mints otherwise.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
/// How long a question waits for GHL's limit of one agency.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How many such locations are remembered.
const MAX_UNKNOWN: usize = 10_000;
/// How many agencies are asked for one location. A location that GHL has listed or announced needs no question.
const MAX_AGENCIES: usize = 16;

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// It has an installation now, with a token.
    Found(InstallationId),
    /// None of the agencies has it, or it does not have the app.
    Unknown,
    /// Nobody knows at the moment.
    Unavailable(String),
}

/// The searches of this process, one at a time for each location.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    flights: Mutex<HashMap<Wanted, Shared<BoxFuture<'static, Lookup>>>>,
    unknown: Mutex<HashMap<Wanted, Instant>>,
}

/// A location, and the agencies that may have it. All if there is none.
type Wanted = (LocationId, Vec<InstallationId>);

impl Lookups {
    /// Finds the installation of a location. `agencies`: those that may have it, or all if there is none.
    pub(crate) async fn find(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        shutdown: &Shutdown,
        location: LocationId,
        mut agencies: Vec<InstallationId>,
    ) -> Lookup {
        agencies.sort_unstable();
        let wanted = (location, agencies);
        if let Some(since) = lock(&self.unknown).get(&wanted)
            && since.elapsed() < UNKNOWN_FOR
        {
            return Lookup::Unknown;
        }
        let flight = lock(&self.flights)
            .entry(wanted.clone())
            .or_insert_with(|| self.begin(worker, shutdown, wanted))
            .clone();
        flight.await
    }

    /// Runs in a task of its own, so that a caller that disconnects does not cancel it for the others.
    fn begin(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        shutdown: &Shutdown,
        wanted: Wanted,
    ) -> Shared<BoxFuture<'static, Lookup>> {
        let (lookups, worker) = (self.clone(), worker.clone());
        let searching = shutdown.spawn(async move {
            let found = worker.look_up(&wanted.0, &wanted.1).await;
            if found == Lookup::Unknown {
                lookups.remember_unknown(wanted.clone());
            }
            lock(&lookups.flights).remove(&wanted);
            found
        });
        let stopping = || Lookup::Unavailable("the broker is stopping".to_owned());
        searching
            .map(move |ended| ended.unwrap_or_else(|_| stopping()))
            .boxed()
            .shared()
    }

    fn remember_unknown(&self, wanted: Wanted) {
        let mut unknown = lock(&self.unknown);
        if unknown.len() >= MAX_UNKNOWN {
            unknown.retain(|_, since| since.elapsed() < UNKNOWN_FOR);
        }
        if unknown.len() < MAX_UNKNOWN {
            unknown.insert(wanted, Instant::now());
        }
    }

    /// Forgets that locations are unknown, because an agency has connected or a location was announced.
    pub(crate) fn forget_unknown(&self) {
        lock(&self.unknown).clear();
    }
}

impl Worker {
    /// As [`Worker::mint`], once GHL's limit of the agency allows it.
    async fn mint_in_turn(
        self: &Arc<Self>,
        agency: &InstallationId,
        location: &LocationId,
    ) -> Result<(Agency, Registration), MintError> {
        let since = Instant::now();
        loop {
            match self.mint(agency, location).await {
                Err(MintError::Later(wait)) => wait_for_turn(wait, since, LONGEST_WAIT)
                    .await
                    .ok_or(MintError::Later(wait))?,
                minted => return minted,
            }
        }
    }

    async fn look_up(
        self: &Arc<Self>,
        location: &LocationId,
        agencies: &[InstallationId],
    ) -> Lookup {
        // GHL may have announced it since.
        match self.writer.resolve(location.as_str()).await {
            Ok(Some(id)) => match self.writer.load(&id).await {
                Ok(Some(_)) => return Lookup::Found(id),
                Ok(None) => {}
                Err(error) => return Lookup::Unavailable(error.to_string()),
            },
            Ok(None) => {}
            Err(error) => return Lookup::Unavailable(error.to_string()),
        }
        let all = match self.writer.agencies().await {
            Ok(all) => all,
            Err(error) => return Lookup::Unavailable(error.to_string()),
        };
        let may_have_it = |id: &InstallationId| agencies.is_empty() || agencies.contains(id);
        let candidates: Vec<_> = all.into_iter().filter(may_have_it).collect();
        let mut unavailable = None;
        let mut asked = 0;
        for agency in &candidates {
            if asked == MAX_AGENCIES {
                warn!(
                    agencies = candidates.len(),
                    asked,
                    "a location is not known, and more agencies could have it than are asked"
                );
                let reason = "more agencies could have this location than are asked. GHL's webhooks announce it";
                return Lookup::Unavailable(reason.to_owned());
            }
            match self.mint_in_turn(agency, location).await {
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
}
