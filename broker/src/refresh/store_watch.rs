//! Detects that the store may have lost confirmed writes, and verifies which store it is.
//!
//! A store loses confirmed writes in three cases: it restarts without its last seconds, a master is
//! promoted that never had them, or an old copy is restored. Afterwards a record may name a refresh token
//! that is spent. Each of three signs is enough to suspect a loss:
//!
//! - **Server identity**: the run id and replication id of every server that holds data. The run id changes
//!   with every start of a server, the replication id with every promotion. It is read every second and
//!   compared with the journal. A loss while this broker did not run is therefore noticed, too.
//! - **Encounters**: the script that reads a record belongs to this process. A server that does not know the
//!   script is a new server. The first read of a refresh reveals this, without waiting for the next poll.
//!   The identity is then read at once, before a token is spent.
//! - **Heartbeat** ([`heartbeat`]): a number that this process writes every second. A store that holds an
//!   older number has lost writes. The number also bounds the loss.
//!
//! The heartbeat alone is not enough: a restart between two polls can lose writes after the last number. If
//! the store's user may not run `INFO`, every encounter counts as a loss.
//!
//! After a loss, each broker restores the responses in its journal, the newest first
//! ([`crate::refresh::restore`]). It does not know what other brokers keep, so it is cautious for
//! [`CAUTION_TIME`]:
//!
//! - If at most the last [`ESCROW_COVERAGE`] may be lost, it reads escrow before it spends a token. Responses
//!   stay in escrow for longer than that after their commit.
//! - If more may be lost, or if there is no escrow, it spends no token. The exception is a token for which
//!   GHL still replays its response.
//!
//! The same applies after an outage of the store, because this broker may have been partitioned. On the
//! other side, another broker may have spent tokens over a master whose writes are lost when the partition
//! heals. An outage of writes alone counts, too: a master without its replicas takes no writes.

mod heartbeat;
mod polls;

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use service::locks::lock;
use service::shutdown::Shutdown;
use store::Timestamp;
use store_writer::group_commit_db::DbError;
use store_writer::identity::{Known, Mismatch, Recognised, Servers, StoreId, recognise};
use store_writer::sealing::KeysError;
use store_writer::{Journal, StoreWriter, WriteError};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use heartbeat::Heartbeat;
pub(crate) use polls::LastPoll;
use polls::Polls;

/// How long a broker is cautious after a loss. Other brokers notice it within a second, and restore the
/// newest responses first.
const CAUTION_TIME: Duration = Duration::from_secs(5);
/// The largest age of a loss that escrow covers completely. Responses stay in escrow for 12 s after their
/// commit, so every broker has time to notice the loss and restore its own.
const ESCROW_COVERAGE: Duration = Duration::from_secs(6);
/// After an outage, responses are compared that were confirmed since this long before it.
const OUTAGE_MARGIN: Duration = Duration::from_secs(60);

/// Why a token may not be spent over this store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unverified {
    /// The identity of the store has not been verified yet.
    #[error("the identity of the store is not verified yet")]
    NotAsked,
    /// The store is unreachable.
    #[error(transparent)]
    Away(#[from] WriteError),
    /// The store is not the one to which the journal belongs.
    #[error(transparent)]
    Refused(#[from] Mismatch),
    /// The sealing keys of this process are not those of the store.
    #[error(transparent)]
    Keys(KeysError),
    /// The journal failed.
    #[error("the journal cannot be read or written")]
    Journal(#[from] DbError),
    /// The store may have lost writes. Holds how long brokers still have to restore them.
    #[error("the store may have lost writes: brokers restore the responses they keep")]
    Restoring(Duration),
}

/// Which kept responses are compared with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RestoreScope {
    /// Those confirmed since this time.
    Since(Timestamp),
    All,
}

impl RestoreScope {
    /// Whether a response confirmed at this time is in scope.
    pub(crate) fn includes(self, confirmed_at: Timestamp) -> bool {
        match self {
            Self::Since(start) => confirmed_at >= start,
            Self::All => true,
        }
    }

    /// The scope that goes back further.
    fn widest(self, other: Self) -> Self {
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
    /// The name of this process's heartbeat in the store.
    name: String,
    /// Locked while the store is identified, so that only one task does so at a time.
    heartbeat: tokio::sync::Mutex<Heartbeat>,
    state: Mutex<State>,
    restore_requested: Notify,
    /// Whether the store has been verified as ours.
    is_verified: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of encounters at the last identification. `None` until the store is verified as ours.
    verified: Option<u64>,
    servers: Option<Servers>,
    caution: Option<Caution>,
    /// Since when the store is unreachable or takes no writes.
    away_since: Option<Timestamp>,
    polls: Polls,
    /// The pending comparison of kept responses with the store.
    restore_scope: Option<RestoreScope>,
}

/// A period in which other brokers may have responses that the store lost.
#[derive(Debug, Clone, Copy)]
struct Caution {
    until: Instant,
    /// Whether escrow holds everything that may be lost.
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
            heartbeat: tokio::sync::Mutex::new(Heartbeat::new()),
            state: Mutex::default(),
            restore_requested: Notify::new(),
            is_verified: watch::Sender::new(false),
        }
    }

    /// Waits until the store is verified as ours.
    pub(crate) async fn wait_until_verified(&self) {
        // The sender lives as long as this.
        let _ = self
            .is_verified
            .subscribe()
            .wait_for(|is_verified| *is_verified)
            .await;
    }

    /// Checks that the store has been verified as the one to which the journal belongs. Nothing is written
    /// to another store.
    pub(crate) fn ensure_verified(&self) -> Result<(), WriteError> {
        match self.state().verified {
            Some(_) => Ok(()),
            None => Err(WriteError::Unavailable(Box::new(Unverified::NotAsked))),
        }
    }

    /// Checks whether a token may be spent. Call it after the record with the token was read.
    pub(crate) async fn check_may_spend(&self) -> Result<(), Unverified> {
        if self.state().verified != Some(self.writer.server_change_count()) {
            let mut heartbeat = self.heartbeat.lock().await;
            // Another task may have identified the store meanwhile.
            if self.state().verified != Some(self.writer.server_change_count()) {
                self.identify(&mut heartbeat).await?;
            }
        }
        self.pause_left()
            .map_or(Ok(()), |left| Err(Unverified::Restoring(left)))
    }

    /// Waits for a pending restore and takes it.
    pub(crate) async fn next_restore(&self) -> RestoreScope {
        loop {
            if let Some(scope) = self.state().restore_scope.take() {
                return scope;
            }
            self.restore_requested.notified().await;
        }
    }

    /// Whether a restore is pending.
    pub(crate) fn is_restore_pending(&self) -> bool {
        self.state().restore_scope.is_some()
    }

    /// Requests that kept responses within `scope` are compared with the store.
    pub(crate) fn request_restore(&self, scope: RestoreScope) {
        let mut state = self.state();
        state.restore_scope = Some(
            state
                .restore_scope
                .map_or(scope, |requested| requested.widest(scope)),
        );
        drop(state);
        self.restore_requested.notify_one();
    }

    /// Records in the journal that the store has every kept response, so that the next start does not
    /// compare again.
    pub(crate) async fn mark_restored(&self) -> Result<(), DbError> {
        match self.restored_servers() {
            Some(servers) if self.journal.servers()?.as_ref() != Some(&servers) => {
                self.journal.set_servers(&servers).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Requests a restore after the store, or a part of it, has become reachable again.
    pub(crate) fn request_restore_after_outage(&self) {
        self.request_restore(RestoreScope::Since(self.journal.now() - OUTAGE_MARGIN));
    }

    /// The known servers. `None` while a restore is pending.
    fn restored_servers(&self) -> Option<Servers> {
        let state = self.state();
        state
            .servers
            .clone()
            .filter(|_| state.restore_scope.is_none())
    }

    /// Identifies the store, and notes since when it does not answer.
    pub(crate) async fn poll(&self) -> Result<(), Unverified> {
        let mut heartbeat = self.heartbeat.lock().await;
        let result = self.identify(&mut heartbeat).await;
        self.state().polls.note(&result);
        match &result {
            Ok(()) => {}
            Err(Unverified::Away(_)) => {
                let now = self.journal.now();
                self.state().away_since.get_or_insert(now);
            }
            Err(
                Unverified::NotAsked
                | Unverified::Refused(_)
                | Unverified::Keys(_)
                | Unverified::Journal(_)
                | Unverified::Restoring(_),
            ) => {}
        }
        result
    }

    /// The findings of the last polls.
    pub(crate) fn last_poll(&self) -> LastPoll {
        self.state().polls.last()
    }

    /// Reads the identity of the store and of its servers, and writes the heartbeat.
    async fn identify(&self, heartbeat: &mut Heartbeat) -> Result<(), Unverified> {
        let is_first = self.state().verified.is_none();
        if is_first {
            self.writer.learn_servers().await?;
        }
        // Read the count first. A server that is met later triggers another identification.
        let encounters = self.writer.server_change_count();
        let recognised = match self.verify_identity().await {
            // In a Cluster, the slot with the id can be unreachable alone. The store was ours a moment ago.
            Err(Unverified::Away(_)) if !is_first => Ok(()),
            recognised => recognised,
        };
        if let Err(Unverified::Refused(mismatch)) = &recognised {
            error!(error = %mismatch, "this broker does not work with this store and stops");
            self.shutdown.fail();
        }
        recognised?;
        if is_first {
            self.register_keys().await?;
        }
        let number = heartbeat.number();
        let held = self.writer.write_canary(&self.name, number).await?;
        let current = self.writer.servers().await?;
        if is_first {
            let servers = self.journal.servers()?;
            self.state().servers = servers;
        }
        let read = heartbeat.record(&held, number);
        let mut state = self.state();
        let is_met = state
            .verified
            .is_some_and(|verified| verified != encounters);
        let found = match assess(current.as_ref(), state.servers.as_ref(), is_first, is_met) {
            LossEvidence::None | LossEvidence::Unknown if read.is_lost => LossEvidence::Loss,
            found => found,
        };
        state.verified = Some(encounters);
        state.servers = current.or(state.servers.take());
        let away_since = state.away_since.take();
        drop(state);
        match found {
            LossEvidence::None => {}
            LossEvidence::Unknown => self.request_restore(RestoreScope::All),
            LossEvidence::Loss => {
                warn!(
                    may_have_lost = read.age.map(debug),
                    "the store has a new server or was restarted: brokers restore what it may have \
                     lost"
                );
                self.start_caution(read.age);
                self.request_restore(RestoreScope::All);
            }
        }
        if let Some(since) = away_since.filter(|_| !is_first) {
            self.start_caution(read.age);
            self.request_restore(RestoreScope::Since(since - OUTAGE_MARGIN));
        }
        self.is_verified
            .send_if_modified(|is_verified| !std::mem::replace(is_verified, true));
        Ok(())
    }

    /// Registers the sealing keys. With wrong ones this process ends: it could open no record, and would seal
    /// what no other process can open.
    async fn register_keys(&self) -> Result<(), Unverified> {
        self.writer.register_keys().await.map_err(|error| {
            if !error.is_unavailable() {
                error!(%error, "this broker has other sealing keys than the store and stops");
                self.shutdown.refuse(error.to_string());
            }
            Unverified::Keys(error)
        })
    }

    /// Starts a period of caution. `age` bounds the age of lost writes; `None` if unknown.
    fn start_caution(&self, age: Option<Duration>) {
        let is_covered = self.has_escrow && age.is_some_and(|age| age <= ESCROW_COVERAGE);
        let now = Instant::now();
        let mut state = self.state();
        let former = state.caution.filter(|former| former.until > now);
        state.caution = Some(Caution {
            until: now + CAUTION_TIME,
            is_covered: is_covered && former.is_none_or(|former| former.is_covered),
        });
    }

    async fn verify_identity(&self) -> Result<(), Unverified> {
        let current = self.writer.mark().await?;
        let journal = self.journal.store_id()?;
        let known = |is_empty, holds_answers| {
            let known = Known {
                journal: journal.as_ref(),
                holds_answers,
                is_empty,
            };
            recognise(current.as_ref(), known)
        };
        // The common case needs no further reads.
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
                // A different id is that of another broker that was faster.
                match journal.is_none() {
                    true => self.adopt(&made.id).await,
                    false => Err(Unverified::NotAsked),
                }
            }
            Recognised::Refused(mismatch) => Err(mismatch.into()),
        }
    }

    async fn adopt(&self, id: &StoreId) -> Result<(), Unverified> {
        info!(store = %id, "the journal belongs to this store from now on");
        Ok(self.journal.set_store_id(id).await?)
    }

    /// How much longer no token is spent after a loss.
    pub(crate) fn pause_left(&self) -> Option<Duration> {
        let caution = self.state().caution.filter(|caution| !caution.is_covered)?;
        let left = caution.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Whether other brokers may have responses that the store lost.
    pub(crate) fn is_cautious(&self) -> bool {
        let caution = self.state().caution;
        caution.is_some_and(|caution| caution.until > Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Whether the identity of the servers indicates a loss of confirmed writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LossEvidence {
    None,
    /// The earlier servers are unknown: kept responses are compared.
    Unknown,
    /// There is a new server, which may lack confirmed writes.
    Loss,
}

/// Assesses the identity of the servers. `is_met`: a new server was met since the last identification.
fn assess(
    current: Option<&Servers>,
    known: Option<&Servers>,
    is_first: bool,
    is_met: bool,
) -> LossEvidence {
    match (current, known) {
        (Some(current), Some(known)) if current.has_another_than(known) => LossEvidence::Loss,
        (Some(_), Some(_)) => LossEvidence::None,
        (Some(_), None) => LossEvidence::Unknown,
        (None, _) if is_first => LossEvidence::Unknown,
        (None, _) if is_met => LossEvidence::Loss,
        (None, _) => LossEvidence::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_server_is_a_loss() {
        let (a, b) = (Servers::one("a", "1"), Servers::one("b", "1"));
        for is_met in [false, true] {
            let current = |current, known| assess(current, known, false, is_met);
            assert_eq!(current(Some(&b), Some(&a)), LossEvidence::Loss);
            assert_eq!(
                current(Some(&a), Some(&a)),
                LossEvidence::None,
                "no new server"
            );
            assert_eq!(current(Some(&a), None), LossEvidence::Unknown);
        }
        // Also across a restart of this process.
        assert_eq!(assess(Some(&b), Some(&a), true, false), LossEvidence::Loss);
    }

    #[test]
    fn every_encounter_is_a_loss_if_the_identity_cannot_be_read() {
        assert_eq!(assess(None, None, true, false), LossEvidence::Unknown);
        assert_eq!(assess(None, None, false, false), LossEvidence::None);
        assert_eq!(assess(None, None, false, true), LossEvidence::Loss);
    }

    #[test]
    fn wider_of_two_restore_scopes_wins() {
        let at = |millis| RestoreScope::Since(Timestamp::from_millis(millis));
        assert_eq!(at(5).widest(at(3)), at(3));
        assert_eq!(at(5).widest(RestoreScope::All), RestoreScope::All);
        assert!(at(5).includes(Timestamp::from_millis(5)));
        assert!(!at(5).includes(Timestamp::from_millis(4)));
    }
}
