//! `evergreen bench`: what measurements begin with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use broker::DEFAULT_SCOPES;
use sandbox::mint::{Consented, Mint};
use service::config::Layered;
use store::freshness::Lead;
use store::{CompanyId, InstallationId, LocationId, Timestamp, UserType};
use store_writer::grant::Registration;
use store_writer::{Rings, Store, StoreWriter, WriteError};
use tokio::task::JoinSet;

use crate::args::{Bench, Seed};
use crate::exit::Failure;
use crate::process::read;
use crate::rings;
use crate::run::{lead, redis_url};

/// Enrolments under way at once: enough for many to share one sync of the store's disk.
const CONCURRENCY: usize = 256;
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// `evergreen bench …`.
pub(crate) async fn act(source: &Layered, what: Bench) -> Result<(), Failure> {
    match what {
        Bench::Seed(wanted) => seed(source, &wanted).await,
    }
}

async fn seed(source: &Layered, wanted: &Seed) -> Result<(), Failure> {
    let (redis, rings, lead, sandbox) = read(source, |settings| {
        let rings = Rings {
            access: rings::required(settings, "EVERGREEN_ACCESS_KEYS"),
            refresh: rings::required(settings, "EVERGREEN_REFRESH_KEYS"),
        };
        let sandbox = sandbox::Config::read(settings);
        (redis_url(settings), rings, lead(settings), sandbox)
    })?;
    let Store { writer, reader } =
        Store::redis(&redis, rings, lead).map_err(Failure::unavailable)?;
    reader.ping().await.map_err(Failure::unavailable)?;
    let stock = writer.stats().await.map_err(Failure::unavailable)?;
    if stock.installations > 0 && !wanted.add {
        return Err(Failure::Refused(format!(
            "the store holds {} installations already, which may be somebody's: \
             --add puts more beside them",
            stock.installations
        )));
    }
    let before = memory(&writer).await;
    let fleet = Fleet {
        mint: Mint::new(&sandbox),
        count: wanted.installations,
        first: stock.installations + 1,
        lifetime: wanted.lifetime,
        access_token_bytes: wanted.access_token_bytes,
        lead,
        as_of: reader.now() - wanted.overdue,
    };
    let started = Instant::now();
    fill(fleet, &writer).await.map_err(Failure::unavailable)?;
    let took = started.elapsed();
    let after = memory(&writer).await;
    println!("{}", summary(wanted.installations, took, before, after));
    Ok(())
}

/// Bytes that the store uses; `None` where its user may not ask.
async fn memory(writer: &StoreWriter) -> Option<u64> {
    writer.memory().await.ok().flatten()
}

fn summary(count: u64, took: Duration, before: Option<u64>, after: Option<u64>) -> String {
    let rate = per_second(count, took);
    let took = took.as_secs_f64();
    let size = before
        .zip(after)
        .and_then(|(before, after)| after.saturating_sub(before).checked_div(count))
        .map_or("unknown".to_owned(), |bytes| bytes.to_string());
    format!(
        "{count} installations in {took:.1} s: {rate:.0} a second; \
         {size} bytes of the store's memory each"
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^52 installations"
)]
fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Installations as a fleet has them that has run for long: one is due after the other, evenly.
#[derive(Debug)]
struct Fleet {
    mint: Mint,
    count: u64,
    /// The number of the first one.
    first: u64,
    lifetime: Duration,
    access_token_bytes: usize,
    lead: Lead,
    /// When the last refresh of any of them was.
    as_of: Timestamp,
}

impl Fleet {
    /// The `index`th to fall due, with the id that it is to have.
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

    /// A token is refreshed at one age, `period`; at any moment all younger ages are as frequent.
    fn issued_at(&self, index: u64, jitter_seed: u8) -> Timestamp {
        let expires_at = self.as_of + self.lifetime;
        let due = self.lead.due(expires_at, self.lifetime, jitter_seed);
        let period = due.since(self.as_of).as_millis();
        let younger = u128::from(self.count.saturating_sub(index + 1));
        let age = period * younger / u128::from(self.count.max(1));
        self.as_of - Duration::from_millis(u64::try_from(age).unwrap_or(u64::MAX))
    }
}

/// Enrols all of them, and reports now and then.
async fn fill(fleet: Fleet, writer: &StoreWriter) -> Result<(), WriteError> {
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
    let mut reports = tokio::time::interval(REPORT_EVERY);
    reports.reset();
    loop {
        tokio::select! {
            _ = reports.tick() => {
                let done = next.load(Ordering::Relaxed).min(fleet.count);
                let rate = per_second(done, started.elapsed());
                eprintln!("{done} of {}, {rate:.0} a second", fleet.count);
            }
            ended = workers.join_next() => match ended {
                Some(outcome) => outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?,
                None => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_falls_due_after_the_other_and_the_last_when_its_token_is_new() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let fleet = Fleet {
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
