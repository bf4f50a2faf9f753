//! Fills a store with the installations of a long-running fleet. They fall due evenly, one after the other. The
//! sandbox accepts their tokens.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use broker::DEFAULT_SCOPES;
use sandbox::mint::{Consented, Mint};
use secrecy::SecretString;
use store::freshness::Lead;
use store::reader::ReadError;
use store::{AppName, CompanyId, InstallationId, LocationId, Timestamp, UserType};
use store_writer::grant::Registration;
use store_writer::{OpenStoreError, Rings, Store, StoreWriter, WriteError};
use tokio::task::JoinSet;

/// Concurrent writes: enough for many to share one sync of the store's disk.
const CONCURRENCY: usize = 256;
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The size of a usual access token, in bytes.
pub const ACCESS_TOKEN_BYTES: usize = 1024;

/// The installations to create.
#[derive(Debug, Clone)]
pub struct Seed {
    /// How many.
    pub installations: u64,
    /// How long an access token lives.
    pub lifetime: Duration,
    /// The fleet looks as if no token was refreshed for this long.
    pub overdue: Duration,
    /// The size of an access token.
    pub access_token_bytes: usize,
    /// Whether to add to a store that holds installations already.
    pub add: bool,
    /// How long before its expiry a token falls due.
    pub lead: Lead,
}

/// Why a store was not filled.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The store may be in use, and [`Seed::add`] is not set.
    #[error("the store holds {0} installations already: `--add` creates more beside them")]
    NotEmpty(u64),
    /// The URL or the connection cannot be set up.
    #[error(transparent)]
    Open(#[from] OpenStoreError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store does not take writes.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Seed {
    /// Fills the store. Returns a summary in one line.
    ///
    /// # Errors
    /// If the store is not empty, is unreachable, or does not take writes.
    pub async fn fill(
        &self,
        redis: &SecretString,
        rings: Rings,
        sandbox: &sandbox::Config,
    ) -> Result<String, SeedError> {
        let Store { writer, reader } = Store::redis(redis, rings, self.lead)?;
        reader.ping().await?;
        let stats = writer.stats().await?;
        if stats.installations > 0 && !self.add {
            return Err(SeedError::NotEmpty(stats.installations));
        }
        let before = memory(&writer).await;
        let fleet = SeedFleet {
            mint: Mint::new(sandbox),
            count: self.installations,
            first: stats.installations + 1,
            lifetime: self.lifetime,
            access_token_bytes: self.access_token_bytes,
            lead: self.lead,
            as_of: reader.now() - self.overdue,
        };
        let started = Instant::now();
        fill(fleet, &writer).await?;
        let elapsed = started.elapsed();
        let after = memory(&writer).await;
        Ok(summary(self.installations, elapsed, before, after))
    }
}

/// The memory of the store in bytes. `None` if its user may not read it.
async fn memory(writer: &StoreWriter) -> Option<u64> {
    writer.memory().await.ok().flatten()
}

fn summary(count: u64, elapsed: Duration, before: Option<u64>, after: Option<u64>) -> String {
    let rate = per_second(count, elapsed);
    let elapsed = elapsed.as_secs_f64();
    let size = before
        .zip(after)
        .and_then(|(before, after)| after.saturating_sub(before).checked_div(count))
        .map_or("unknown".to_owned(), |bytes| bytes.to_string());
    format!(
        "{count} installations in {elapsed:.1} s: {rate:.0} a second; \
         {size} bytes of the store's memory each"
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^52 installations"
)]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// The installations, evenly spread over their lifetime.
#[derive(Debug)]
struct SeedFleet {
    mint: Mint,
    count: u64,
    /// The number of the first one.
    first: u64,
    lifetime: Duration,
    access_token_bytes: usize,
    lead: Lead,
    /// The time of the last refresh of any of them.
    as_of: Timestamp,
}

impl SeedFleet {
    /// The installation that falls due as number `index`, with its id.
    fn member(&self, index: u64) -> (InstallationId, Registration) {
        let id = InstallationId::random();
        let number = self.first + index;
        let issued_at = self.issued_at(index, id.jitter_seed());
        let (location, company) = (format!("bench{number:015}"), "benchcompany00000001");
        let consented = Consented {
            location: location.as_str().into(),
            company: company.into(),
            scope: DEFAULT_SCOPES.to_owned(),
            issued_ms: u64::try_from(issued_at.as_millis()).unwrap_or(0),
        };
        let minted = self
            .mint
            .tokens(consented, self.lifetime, self.access_token_bytes);
        let enrolment = Registration {
            app: AppName::default(),
            client: None,
            access_token: minted.access_token,
            refresh_token: Some(minted.refresh_token),
            expires_at: Some(issued_at + self.lifetime),
            lifetime: self.lifetime,
            scopes: DEFAULT_SCOPES.to_owned(),
            user_type: UserType::Location,
            location: location.parse::<LocationId>().ok(),
            company: company.parse::<CompanyId>().ok(),
        };
        (id, enrolment)
    }

    /// The time of issue. A token is refreshed at the age `period`, and all younger ages are equally
    /// frequent.
    fn issued_at(&self, index: u64, jitter_seed: u8) -> Timestamp {
        let expires_at = self.as_of + self.lifetime;
        let due = self.lead.due(expires_at, self.lifetime, jitter_seed);
        let period = due.since(self.as_of).as_millis();
        let younger = u128::from(self.count.saturating_sub(index + 1));
        let age = period * younger / u128::from(self.count.max(1));
        self.as_of - Duration::from_millis(u64::try_from(age).unwrap_or(u64::MAX))
    }
}

/// Writes all installations, and reports the progress.
async fn fill(fleet: SeedFleet, writer: &StoreWriter) -> Result<(), WriteError> {
    let (fleet, next) = (Arc::new(fleet), Arc::new(AtomicU64::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let (fleet, next, writer) = (fleet.clone(), next.clone(), writer.clone());
        workers.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= fleet.count {
                    return Ok(());
                }
                let (id, enrolment) = fleet.member(index);
                writer.register_installation_as(id, &enrolment).await?;
            }
        });
    }
    let started = Instant::now();
    let mut progress = Progress::new();
    let mut reports = tokio::time::interval(progress.interval());
    reports.reset();
    loop {
        tokio::select! {
            _ = reports.tick() => {
                let done = next.load(Ordering::Relaxed).min(fleet.count);
                progress.show(done, fleet.count, started.elapsed());
            }
            ended = workers.join_next() => match ended {
                Some(outcome) => outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?,
                None => return Ok(()),
            }
        }
    }
}

/// How far the filling is: on a terminal one line that is written over, in a log a line now and then.
struct Progress {
    is_terminal: bool,
    is_shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self {
            is_terminal: stderr().is_terminal(),
            is_shown: false,
        }
    }

    fn interval(&self) -> Duration {
        match self.is_terminal {
            true => Duration::from_secs(1),
            false => REPORT_INTERVAL,
        }
    }

    fn show(&mut self, done: u64, total: u64, elapsed: Duration) {
        let rate = per_second(done, elapsed);
        let left = match done {
            0 => "unknown".to_owned(),
            done => format!(
                "{} s",
                elapsed.as_secs() * total.saturating_sub(done) / done
            ),
        };
        let line = format!("{done} of {total}, {rate:.0} a second, {left} left");
        self.is_shown = self.is_terminal;
        // Without a standard error nobody waits for this.
        let _ = match self.is_terminal {
            true => write!(stderr(), "\r{line}\x1b[K"),
            false => writeln!(stderr(), "{line}"),
        };
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_installations_fall_due_evenly() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let fleet = SeedFleet {
            mint: Mint::new(&sandbox::Config::default()),
            count: 1000,
            first: 1,
            lifetime: Duration::from_secs(24 * 3600),
            access_token_bytes: 1024,
            lead: Lead::Auto,
            as_of: now,
        };
        for (index, seed) in [(0, 0), (0, 255), (499, 7), (999, 255)] {
            let issued_at = fleet.issued_at(index, seed);
            let due_of =
                |issued_at| Lead::Auto.due(issued_at + fleet.lifetime, fleet.lifetime, seed);
            let period = due_of(now).since(now);
            let left = due_of(issued_at).since(now);
            let share = left.as_secs_f64() / period.as_secs_f64();
            let expected = f64::from(u32::try_from(index).unwrap() + 1) / 1000.0;
            assert!((share - expected).abs() < 1e-6, "{index}: {share}");
        }
        assert_eq!(fleet.issued_at(999, 0), now);
    }
}
