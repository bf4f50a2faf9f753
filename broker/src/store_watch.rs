//! Notices that the store may have lost what it had confirmed, and which store it is.
//!
//! A store loses confirmed writes when it restarts without its last seconds, when another master takes
//! over that never had them, or when an old copy is put back. Afterwards a record may name a refresh
//! token that is spent. Three signs tell of it, and each is enough:
//!
//! - **The servers' identity**: run id and replication id of every server that holds data. It is asked
//!   for every second, and compared with what the journal knows, so that a loss is also noticed that
//!   happened while this broker did not run. The run id changes with every start of a server, the
//!   replication id with every promotion.
//! - **Encounters**: the script that reads a record is this process's own. A server that does not know
//!   it is not the one that was asked before. So the very reading with which a refresh begins tells, and
//!   not only the next round. An encounter alone says little; the servers are then asked at once, before
//!   a token is spent.
//!
//! - **The tide** ([`tide`]): a number that this process writes every second. A store that holds an older
//!   one has lost writes. It also tells how much: nothing from before the number that is left.
//!
//! The tide alone would not do: a restart between two rounds can lose what came after the last number.
//! Where the servers may not be asked (`INFO` is not permitted), every encounter counts as a loss.
//!
//! After a loss each broker brings back what its journal keeps, the newest first ([`crate::restore`]).
//! What other brokers keep it cannot know, so for [`PAUSE`] it is cautious:
//!
//! - Where only the last [`COVERED`] may be lost, it looks into escrow before it spends a token: answers
//!   stay there for longer than that after their commit.
//! - Where more may be lost, or there is no escrow, it spends no token, unless GHL still repeats an
//!   answer of it.
//!
//! The same holds after an outage, for this broker may have been cut off: on the other side of a
//! partition another one may have spent tokens, over a master whose writes are lost when the partition
//! heals. An outage of writes alone counts (a master without its replicas takes none).

mod tide;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service::shutdown::Shutdown;
use store::Timestamp;
use store_writer::group_commit_db::DbError;
use store_writer::identity::{Known, Mismatch, Recognised, Servers, StoreId, recognise};
use store_writer::{Journal, StoreWriter, WriteError};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use tide::Tide;

/// How often the store is asked who it is.
const ROUND: Duration = Duration::from_secs(1);
/// How long no token is spent after a loss: other brokers notice it within a second, and what was lost
/// is the newest of what they keep.
const PAUSE: Duration = Duration::from_secs(5);
/// How old a loss may be for escrow to have all of it: answers are there for 12 s after their commit,
/// and for longer than it takes every broker to notice and bring back its own.
const COVERED: Duration = Duration::from_secs(6);
/// What was confirmed since this long before an outage is compared when it is over.
const BEFORE_AN_OUTAGE: Duration = Duration::from_secs(60);
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Why a store is not worked with, now or at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unverified {
    #[error("the store has not told yet which one it is")]
    NotAsked,
    #[error(transparent)]
    Away(#[from] WriteError),
    #[error(transparent)]
    Refused(#[from] Mismatch),
    #[error("the journal cannot be read or written")]
    Journal(#[from] DbError),
    #[error("the store may have lost writes: brokers bring back what they keep")]
    Restoring(Duration),
}

/// How far back kept answers are compared with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Depth {
    /// What was confirmed since then.
    Since(Timestamp),
    All,
}

impl Depth {
    pub(crate) fn reaches(self, confirmed_at: Timestamp) -> bool {
        match self {
            Self::Since(start) => confirmed_at >= start,
            Self::All => true,
        }
    }

    /// The one that goes back further.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Since(one), Self::Since(other)) => Self::Since(one.min(other)),
            (Self::All, _) | (_, Self::All) => Self::All,
        }
    }
}

#[derive(Debug)]
pub(crate) struct StoreWatch {
    writer: StoreWriter,
    journal: Journal,
    shutdown: Shutdown,
    has_escrow: bool,
    /// This process's, among the numbers in the store.
    name: String,
    /// One asks at a time.
    turn: tokio::sync::Mutex<Tide>,
    state: Mutex<State>,
    wake: Notify,
    /// Whether the store has told that it is ours.
    known: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// The encounters that the servers were asked after; `None`: this store is not known to be ours.
    verified: Option<u64>,
    servers: Option<Servers>,
    caution: Option<Caution>,
    /// Since when the store does not answer, or takes no writes.
    away_since: Option<Timestamp>,
    /// What is to be compared.
    wanted: Option<Depth>,
}

/// What other brokers may know better than the store.
#[derive(Debug, Clone, Copy)]
struct Caution {
    until: Instant,
    /// All of it is in escrow.
    is_covered: bool,
}

impl StoreWatch {
    pub(crate) fn new(
        writer: &StoreWriter,
        journal: &Journal,
        has_escrow: bool,
        shutdown: &Shutdown,
    ) -> Self {
        Self {
            writer: writer.clone(),
            journal: journal.clone(),
            shutdown: shutdown.clone(),
            has_escrow,
            name: store::random::hex::<8>(),
            turn: tokio::sync::Mutex::new(Tide::new()),
            state: Mutex::default(),
            wake: Notify::new(),
            known: watch::Sender::new(false),
        }
    }

    /// Waits until the store has told that it is ours.
    pub(crate) async fn known(&self) {
        // The sender lives as long as this.
        let _ = self.known.subscribe().wait_for(|is_known| *is_known).await;
    }

    /// Whether the store is the one that the journal is of. Nothing is written to any other.
    pub(crate) fn recognised(&self) -> Result<(), WriteError> {
        match self.state().verified {
            Some(_) => Ok(()),
            None => Err(WriteError::Unavailable(Box::new(Unverified::NotAsked))),
        }
    }

    /// Whether a token may be spent of which a record told that was read before this was asked.
    pub(crate) async fn clear(&self) -> Result<(), Unverified> {
        if self.state().verified != Some(self.writer.server_change_count()) {
            let mut tide = self.turn.lock().await;
            // Another one may have asked meanwhile.
            if self.state().verified != Some(self.writer.server_change_count()) {
                self.ask(&mut tide).await?;
            }
        }
        self.pause_left()
            .map_or(Ok(()), |left| Err(Unverified::Restoring(left)))
    }

    /// Waits until something is to be compared, and takes it.
    pub(crate) async fn wanted(&self) -> Depth {
        loop {
            if let Some(depth) = self.state().wanted.take() {
                return depth;
            }
            self.wake.notified().await;
        }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.state().wanted.is_some()
    }

    pub(crate) fn want(&self, depth: Depth) {
        let mut state = self.state();
        state.wanted = Some(state.wanted.map_or(depth, |wanted| wanted.or(depth)));
        drop(state);
        self.wake.notify_one();
    }

    /// Notes that the store has all that is kept: a later start need not compare again.
    pub(crate) async fn restored(&self) -> Result<(), DbError> {
        match self.compared_servers() {
            Some(servers) if self.journal.servers()?.as_ref() != Some(&servers) => {
                self.journal.set_servers(&servers).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The store, or a part of it, is back: what was confirmed shortly before is compared.
    pub(crate) fn is_back(&self) {
        self.want(Depth::Since(self.journal.now() - BEFORE_AN_OUTAGE));
    }

    /// The servers; `None` while something is still to be compared.
    fn compared_servers(&self) -> Option<Servers> {
        let state = self.state();
        state.servers.clone().filter(|_| state.wanted.is_none())
    }

    async fn round(&self) -> Result<(), Unverified> {
        let mut tide = self.turn.lock().await;
        let asked = self.ask(&mut tide).await;
        match &asked {
            Ok(()) => {}
            Err(Unverified::Away(_)) => {
                let now = self.journal.now();
                self.state().away_since.get_or_insert(now);
            }
            Err(
                Unverified::NotAsked
                | Unverified::Refused(_)
                | Unverified::Journal(_)
                | Unverified::Restoring(_),
            ) => {}
        }
        asked
    }

    /// Asks the store which one it is and who holds it. One at a time.
    async fn ask(&self, tide: &mut Tide) -> Result<(), Unverified> {
        let is_first = self.state().verified.is_none();
        if is_first {
            self.writer.learn_servers().await?;
        }
        // Before the question: whoever is met later is asked again.
        let encounters = self.writer.server_change_count();
        let recognised = match self.recognise().await {
            // In a Cluster the part with the id may be away alone, and it was ours a moment ago.
            Err(Unverified::Away(_)) if !is_first => Ok(()),
            recognised => recognised,
        };
        if let Err(Unverified::Refused(mismatch)) = &recognised {
            error!(error = %mismatch, "this broker does not work with this store, and stops");
            self.shutdown.fail();
        }
        recognised?;
        let number = tide.number();
        let held = self.writer.write_canary(&self.name, number).await?;
        let told = self.writer.servers().await?;
        if is_first {
            let servers = self.journal.servers()?;
            self.state().servers = servers;
        }
        let read = tide.read(&held, number);
        let mut state = self.state();
        let is_met = state
            .verified
            .is_some_and(|verified| verified != encounters);
        let found = match judge(told.as_ref(), state.servers.as_ref(), is_first, is_met) {
            Found::Nothing | Found::Unknown if read.is_lost => Found::Loss,
            found => found,
        };
        state.verified = Some(encounters);
        state.servers = told.or(state.servers.take());
        let away_since = state.away_since.take();
        drop(state);
        match found {
            Found::Nothing => {}
            Found::Unknown => self.want(Depth::All),
            Found::Loss => {
                warn!(may_have_lost = ?read.age,
                    "the store is held by another server, or was started anew: brokers bring back \
                     what it may have lost");
                self.be_cautious(read.age);
                self.want(Depth::All);
            }
        }
        if let Some(since) = away_since.filter(|_| !is_first) {
            self.be_cautious(read.age);
            self.want(Depth::Since(since - BEFORE_AN_OUTAGE));
        }
        self.known
            .send_if_modified(|is_known| !std::mem::replace(is_known, true));
        Ok(())
    }

    /// For a while, since all that the store lost was written within `age`; `None`: nobody knows.
    fn be_cautious(&self, age: Option<Duration>) {
        let is_covered = self.has_escrow && age.is_some_and(|age| age <= COVERED);
        let now = Instant::now();
        let mut state = self.state();
        let former = state.caution.filter(|former| former.until > now);
        state.caution = Some(Caution {
            until: now + PAUSE,
            is_covered: is_covered && former.is_none_or(|former| former.is_covered),
        });
    }

    async fn recognise(&self) -> Result<(), Unverified> {
        let told = self.writer.mark().await?;
        let journal = self.journal.store_id()?;
        let known = |is_empty, holds_answers| {
            let known = Known {
                journal: journal.as_ref(),
                holds_answers,
                is_empty,
            };
            recognise(told.as_ref(), known)
        };
        // What most often is: then nothing else needs to be known.
        if known(false, true) == Recognised::Same {
            return Ok(());
        }
        let is_empty = self.writer.stats().await?.installations == 0;
        match known(is_empty, self.journal.holds_answers()?) {
            Recognised::Same => Ok(()),
            Recognised::Adopt(id) => self.adopt(&id).await,
            Recognised::Unmarked(id) => {
                let made = self.writer.make_mark(&id).await?;
                info!(store = %made.id, "the store had no id");
                if journal.as_ref() == Some(&made.id) {
                    return Ok(());
                }
                // Of another broker that was faster, where it is not the one that was proposed.
                match journal.is_none() {
                    true => self.adopt(&made.id).await,
                    false => Err(Unverified::NotAsked),
                }
            }
            Recognised::Refused(mismatch) => Err(mismatch.into()),
        }
    }

    async fn adopt(&self, id: &StoreId) -> Result<(), Unverified> {
        info!(store = %id, "the journal is one of this store from now on");
        Ok(self.journal.set_store_id(id).await?)
    }

    /// How long no token is spent any more after a loss.
    pub(crate) fn pause_left(&self) -> Option<Duration> {
        let caution = self.state().caution.filter(|caution| !caution.is_covered)?;
        let left = caution.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Whether other brokers may have answers that the store lost.
    pub(crate) fn is_cautious(&self) -> bool {
        let caution = self.state().caution;
        caution.is_some_and(|caution| caution.until > Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the servers' identity says of what was confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// Nothing is known of the servers before: what is kept is compared.
    Unknown,
    /// There is another server than before, which may lack some of it.
    Loss,
}

/// `is_met`: another server was met than when they were asked before.
fn judge(told: Option<&Servers>, known: Option<&Servers>, is_first: bool, is_met: bool) -> Found {
    match (told, known) {
        (Some(told), Some(known)) if told.has_another_than(known) => Found::Loss,
        (Some(_), Some(_)) => Found::Nothing,
        (Some(_), None) => Found::Unknown,
        (None, _) if is_first => Found::Unknown,
        (None, _) if is_met => Found::Loss,
        (None, _) => Found::Nothing,
    }
}

/// Until shutdown: asks the store who it is, and drops from the journal what is kept for too long.
pub(crate) async fn run(worker: std::sync::Arc<crate::worker::Worker>, shutdown: Shutdown) {
    let watch = &worker.watch;
    let mut pruned_at: Option<Instant> = None;
    let mut is_away = false;
    loop {
        match watch.round().await {
            Ok(()) => is_away = false,
            Err(Unverified::Journal(error)) => return worker.journal_failed(&error),
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "the store does not tell which one it is"
                    );
                }
            }
        }
        if pruned_at.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
            pruned_at = Some(Instant::now());
            if let Err(error) = watch.journal.prune(watch.journal.now()).await {
                return worker.journal_failed(&error);
            }
        }
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(ROUND) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_than_before_is_a_loss() {
        let (a, b) = (Servers::one("a", "1"), Servers::one("b", "1"));
        for is_met in [false, true] {
            let told = |told, known| judge(told, known, false, is_met);
            assert_eq!(told(Some(&b), Some(&a)), Found::Loss);
            assert_eq!(told(Some(&a), Some(&a)), Found::Nothing, "it is asked");
            assert_eq!(told(Some(&a), None), Found::Unknown);
        }
        // Across a restart of this process.
        assert_eq!(judge(Some(&b), Some(&a), true, false), Found::Loss);
    }

    #[test]
    fn where_servers_may_not_be_asked_every_encounter_is_a_loss() {
        assert_eq!(judge(None, None, true, false), Found::Unknown);
        assert_eq!(judge(None, None, false, false), Found::Nothing);
        assert_eq!(judge(None, None, false, true), Found::Loss);
    }

    #[test]
    fn of_two_comparisons_the_deeper_one_is_made() {
        let at = |millis| Depth::Since(Timestamp::from_millis(millis));
        assert_eq!(at(5).or(at(3)), at(3));
        assert_eq!(at(5).or(Depth::All), Depth::All);
        assert!(at(5).reaches(Timestamp::from_millis(5)));
        assert!(!at(5).reaches(Timestamp::from_millis(4)));
    }
}
