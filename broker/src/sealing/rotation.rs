//! Seals every record with the first key of its ring, and frees the keys that no record needs.
//!
//! 1. Each record that another key has sealed is sealed anew, by compare-and-swap. The answers in escrow, too.
//! 2. Keys without records retire. Brokers that still seal with one of them declare it as needed again.
//! 3. All records are read once more. A retiring key without records is free.
//!
//! One broker rotates at a time. Its progress is in the store, where other brokers follow it, and take over if
//! it dies. Nothing is half done then, since the records themselves show what is left to do.

mod pass;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::locks::lock;
use service::shutdown::Shutdown;
use store::random;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use utoipa::ToSchema;

use super::registration::REGISTER_INTERVAL;
use crate::refresh::worker::Worker;
use pass::Found;

/// A broker that renews its rotation for this long no more has died.
const ROTATION_TTL: Duration = Duration::from_secs(15);
/// How long the end of a rotation can be read by brokers that followed it.
const RESULT_TTL: Duration = Duration::from_secs(60);
const RENEW_INTERVAL: Duration = Duration::from_secs(2);
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Every broker has registered its keys again by then.
const RETIRE_TIME: Duration = REGISTER_INTERVAL
    .saturating_mul(2)
    .saturating_add(RETRY_INTERVAL);
/// A broker that is restarted with its keys in another order may seal with the former first key once more
/// behind the back of a pass. Nothing else can.
const MAX_ROUNDS: usize = 3;

/// The part of a rotation that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Records are sealed anew.
    Resealing,
    /// Waits for brokers that still seal with a retiring key.
    Retiring,
    /// All records are read once more.
    Verifying,
    Finished,
}

/// How far a rotation is, in the store and in answers of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Progress {
    /// The rotation's random name.
    pub run: String,
    /// The broker that carries it out.
    pub broker: String,
    pub phase: Phase,
    /// Records that this phase has read.
    pub done: u64,
    /// Records in all.
    pub total: u64,
    /// Records that were sealed anew.
    pub resealed: u64,
    /// Records with a value that cannot be opened.
    pub unreadable: u64,
    /// Why it does not advance.
    pub waits_for: Option<String>,
}

/// The rotation as this broker sees it.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    is_running: AtomicBool,
    progress: Mutex<Option<Progress>>,
}

/// Why a broker stopped before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Shutdown,
    /// This process was paused for so long that another broker may have taken over.
    Superseded,
}

/// The next step of a broker that wants to rotate, after it has read the rotation in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// There is none, or an older one has ended.
    Begin,
    /// Another broker carries it out.
    Follow(Progress),
    /// The rotation that this broker followed has ended.
    Adopt(Progress),
}

/// `followed`: the rotation of another broker that was seen before.
fn next_step(in_store: Option<Progress>, followed: Option<&str>) -> Step {
    match in_store {
        None => Step::Begin,
        Some(found) => match found.phase {
            Phase::Finished if followed == Some(&found.run) => Step::Adopt(found),
            Phase::Finished => Step::Begin,
            Phase::Resealing | Phase::Retiring | Phase::Verifying => Step::Follow(found),
        },
    }
}

impl Rotation {
    /// Starts a rotation, or joins the one under way.
    pub(crate) fn start(self: &Arc<Self>, worker: &Arc<Worker>, shutdown: &Shutdown) {
        if self.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        *lock(&self.progress) = Some(Progress::new(worker.name()));
        let job = run(self.clone(), worker.clone(), shutdown.clone());
        shutdown.spawn(job);
    }

    /// How far it is; `None`: this broker has none.
    pub(crate) fn progress(&self) -> Option<Progress> {
        lock(&self.progress).clone()
    }

    fn show(&self, progress: Progress) {
        *lock(&self.progress) = Some(progress);
    }
}

impl Progress {
    fn new(broker: &str) -> Self {
        Self {
            run: random::hex::<8>(),
            broker: broker.to_owned(),
            phase: Phase::Resealing,
            done: 0,
            total: 0,
            resealed: 0,
            unreadable: 0,
            waits_for: None,
        }
    }

    /// Text in the store. One that a newer build wrote may not be readable.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("text and numbers serialize")
    }
}

async fn run(rotation: Arc<Rotation>, worker: Arc<Worker>, shutdown: Shutdown) {
    let mut followed: Option<String> = None;
    loop {
        match attempt(&rotation, &worker, &shutdown, &mut followed).await {
            Some(Stop::Shutdown) => return,
            Some(Stop::Superseded) => {}
            None => break,
        }
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(RETRY_INTERVAL) => {}
        }
    }
    rotation.is_running.store(false, Ordering::Release);
}

/// Begins or follows the rotation in the store. `None` once it has ended.
async fn attempt(
    rotation: &Rotation,
    worker: &Arc<Worker>,
    shutdown: &Shutdown,
    followed: &mut Option<String>,
) -> Option<Stop> {
    let in_store = match worker.writer.rotation().await {
        Ok(in_store) => in_store,
        Err(error) => {
            let mut waiting = rotation.progress()?;
            waiting.waits_for = Some(error.to_string());
            rotation.show(waiting);
            return Some(Stop::Superseded);
        }
    };
    let found = in_store.as_deref().and_then(Progress::from_text);
    match next_step(found, followed.as_deref()) {
        Step::Follow(progress) => {
            *followed = Some(progress.run.clone());
            rotation.show(progress);
            Some(Stop::Superseded)
        }
        Step::Adopt(progress) => {
            rotation.show(progress);
            None
        }
        Step::Begin => {
            let mut job = Job {
                rotation,
                worker,
                shutdown,
                progress: Progress::new(worker.name()),
                in_store,
                renewed_at: Instant::now(),
            };
            job.carry_out().await.err()
        }
    }
}

/// A rotation that this broker carries out.
struct Job<'a> {
    rotation: &'a Rotation,
    worker: &'a Arc<Worker>,
    shutdown: &'a Shutdown,
    progress: Progress,
    /// The text in the store, as far as this broker knows.
    in_store: Option<String>,
    renewed_at: Instant,
}

impl Job<'_> {
    async fn carry_out(&mut self) -> Result<(), Stop> {
        self.renew(ROTATION_TTL).await?;
        info!("the records are sealed with the first keys");
        let mut found = self.pass(Phase::Resealing).await?;
        for _ in 0..MAX_ROUNDS {
            if !self.retire(&found).await? {
                break;
            }
            self.enter(Phase::Retiring);
            self.wait(RETIRE_TIME).await?;
            found = self.pass(Phase::Verifying).await?;
            self.free(&found).await?;
        }
        self.enter(Phase::Finished);
        self.renew(RESULT_TTL).await?;
        let Progress {
            resealed,
            unreadable,
            ..
        } = self.progress;
        info!(
            resealed,
            unreadable, "the rotation of the sealing keys has ended"
        );
        Ok(())
    }

    /// Whether a key retires.
    async fn retire(&mut self, found: &Found) -> Result<bool, Stop> {
        loop {
            match self.worker.writer.retire_keys(&found.left).await {
                Ok(has_retiring) => return Ok(has_retiring),
                Err(error) => self.wait_for(&error).await?,
            }
        }
    }

    async fn free(&mut self, found: &Found) -> Result<(), Stop> {
        loop {
            match self.worker.writer.free_keys(&found.before).await {
                Ok(()) => return Ok(()),
                Err(error) => self.wait_for(&error).await?,
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.progress.phase = phase;
        self.progress.waits_for = None;
        self.rotation.show(self.progress.clone());
    }

    /// Waits, and keeps the rotation.
    async fn wait(&mut self, time: Duration) -> Result<(), Stop> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.renew_in_time().await?;
            self.pause(RETRY_INTERVAL).await?;
        }
        Ok(())
    }

    /// Shows why the rotation does not advance, and waits a moment.
    async fn wait_for(&mut self, reason: &(dyn std::error::Error + Sync)) -> Result<(), Stop> {
        let reason = reason.to_string();
        if self.progress.waits_for.as_ref() != Some(&reason) {
            warn!(reason, "the rotation of the sealing keys waits");
        }
        self.progress.waits_for = Some(reason);
        self.rotation.show(self.progress.clone());
        self.pause(RETRY_INTERVAL).await?;
        self.renew_in_time().await
    }

    async fn pause(&self, time: Duration) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.shutdown.started() => Err(Stop::Shutdown),
            () = sleep(time) => Ok(()),
        }
    }

    async fn renew_in_time(&mut self) -> Result<(), Stop> {
        if self.shutdown.is_started() {
            return Err(Stop::Shutdown);
        }
        if self.renewed_at.elapsed() < RENEW_INTERVAL {
            return Ok(());
        }
        self.renew(ROTATION_TTL).await
    }

    /// Writes the progress to the store. While the store is away another broker may take over; both do no harm.
    async fn renew(&mut self, ttl: Duration) -> Result<(), Stop> {
        let next = self.progress.to_text();
        let (writer, expected) = (&self.worker.writer, self.in_store.as_deref());
        match writer.replace_rotation(expected, Some(&next), ttl).await {
            Ok(true) => {
                self.in_store = Some(next);
                self.renewed_at = Instant::now();
                Ok(())
            }
            // A write whose acknowledgement was lost has changed it, too. Then the next attempt follows it
            // until it ends by itself.
            Ok(false) => Err(Stop::Superseded),
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_of_another_broker_is_followed_to_its_end() {
        let phases = [
            Phase::Resealing,
            Phase::Retiring,
            Phase::Verifying,
            Phase::Finished,
        ];
        assert_eq!(next_step(None, None), Step::Begin);
        // Its broker died.
        assert_eq!(next_step(None, Some("run")), Step::Begin);
        for phase in phases {
            let found = Progress {
                phase,
                ..Progress::new("other")
            };
            let same = Progress::from_text(&found.to_text());
            assert_eq!(same.as_ref(), Some(&found));
            let (stranger, followed) = match phase {
                Phase::Finished => (Step::Begin, Step::Adopt(found.clone())),
                Phase::Resealing | Phase::Retiring | Phase::Verifying => {
                    (Step::Follow(found.clone()), Step::Follow(found.clone()))
                }
            };
            assert_eq!(next_step(Some(found.clone()), None), stranger);
            assert_eq!(next_step(Some(found.clone()), Some(&found.run)), followed);
        }
    }
}
