//! The audit after the faults: which installations are lost, and which have recovered.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use store::record::access_label;
use store::{InstallationId, Status};
use store_writer::journal::Entry;
use store_writer::{Fingerprint, Grant, Installation};
use tokio::time::sleep;

use super::faults::AtBegin;
use super::ghl::{Ghl, Token};
use super::machine::{Environment, Machine};
use super::plan::{FaultKind, Plan};

/// How long after the last fault every installation must have recovered.
const RECOVERY_TIME: Duration = Duration::from_secs(120);
/// The most installations that one failure of GHL may lose. The largest burst of a plan begins 13 refreshes a second
/// (200 customers in 15 s). A broker begins no more half a second after its first call without an answer, and there are up
/// to three brokers: 13.3 * 0.5 + 3 = 9.7.
const MOST_LOST: usize = 10;
const CHECK_INTERVAL: Duration = Duration::from_secs(4);
/// How many more checks follow, because a refresh may be in progress at the last one.
const MORE_CHECKS: usize = 10;

pub(super) struct Auditor<'a> {
    pub(super) plan: &'a Plan,
    pub(super) env: &'a Environment,
    pub(super) machines: &'a [Machine],
    pub(super) ids: Arc<[InstallationId]>,
}

/// The state of an installation.
#[derive(Debug, PartialEq, Eq)]
enum Health {
    Valid,
    /// A broker, the store or escrow has the refresh token that GHL accepts.
    Recoverable(String),
    /// The refresh token that GHL accepts is gone.
    Lost(String),
}

impl Auditor<'_> {
    /// Checks all installations from the end of the last fault. Returns how many are lost.
    pub(super) async fn run(&self, at_begin: &[AtBegin]) -> usize {
        let world = &self.env.world;
        let deadline = world.now() + RECOVERY_TIME;
        let mut unrecovered: Vec<usize> = (0..self.ids.len()).collect();
        while world.now() < deadline && !unrecovered.is_empty() {
            unrecovered.retain(|customer| self.health(*customer) != Health::Valid);
            sleep(CHECK_INTERVAL).await;
        }
        for _ in 0..MORE_CHECKS {
            unrecovered.retain(|customer| self.health(*customer) != Health::Valid);
            sleep(Duration::from_millis(500)).await;
        }
        let mut lost = 0;
        for customer in unrecovered {
            let id = &self.ids[customer];
            match self.health(customer) {
                Health::Valid => {}
                Health::Recoverable(why) => world.violation(format!(
                    "{id} (customer {customer}) is not valid again after {} s: {why}",
                    RECOVERY_TIME.as_secs()
                )),
                Health::Lost(why) => {
                    world.log(format_args!("{id} (customer {customer}) is lost: {why}"));
                    lost += 1;
                }
            }
        }
        let allowed = self.allowed(at_begin);
        if lost > allowed {
            world.violation(format!("{lost} are lost, {allowed} are allowed"));
        }
        lost
    }

    /// How many installations the faults may lose.
    fn allowed(&self, at_begin: &[AtBegin]) -> usize {
        let is_alone = self.plan.faults.len() == 1;
        let has_grace = !self.plan.grace.is_zero();
        let faults = self.plan.faults.iter().zip(at_begin);
        let each = faults.map(|(fault, at_begin)| match &fault.kind {
            // The calls in flight, and those that follow before the first outcome is known.
            FaultKind::Ghl(failure) if failure.loses_responses() && is_alone => {
                at_begin.window.min(MOST_LOST)
            }
            // Partitioned brokers detect the outage on their own. A paused broker resumes with a grant from
            // before the outage, which makes GHL look healthy to all others.
            FaultKind::Ghl(failure) if failure.loses_responses() => 3 * at_begin.window,
            // The responses go to a dead process. Within the grace period another broker gets them again.
            FaultKind::Crash { .. } if is_alone && has_grace => 0,
            FaultKind::Crash { .. } => at_begin.own,
            FaultKind::Ghl(_)
            | FaultKind::Pause { .. }
            | FaultKind::StoreDown
            | FaultKind::StoreForgets { .. }
            | FaultKind::Partition { .. }
            | FaultKind::Split { .. }
            | FaultKind::ClockStep { .. }
            | FaultKind::NodeDown { .. }
            | FaultKind::NodeForgets { .. }
            | FaultKind::NodeCut { .. } => 0,
        });
        each.sum()
    }

    fn health(&self, customer: usize) -> Health {
        let id = &self.ids[customer];
        let valid_token = self.env.ghl.current(customer);
        let (access, refresh) = self.env.store.record(id);
        let installation = match Installation::from_fields(id.clone(), &access, &refresh) {
            Ok(installation) => installation,
            Err(error) => {
                return Health::Recoverable(format!("the record cannot be read: {error}"));
            }
        };
        let known = installation.chain.as_ref().map(|chain| &chain.fingerprint);
        if known == Some(&Fingerprint::of(&valid_token.to_string().into())) {
            return match self.token_problem(&installation) {
                None => Health::Valid,
                Some(why) => Health::Recoverable(why),
            };
        }
        match self.holder(&installation, valid_token) {
            Some(holder) => Health::Recoverable(format!("{valid_token} is only in {holder}")),
            None => Health::Lost(format!(
                "{valid_token} is held nowhere, the store has generation {} and is {}, {:?}",
                installation.access.generation, installation.access.status, installation.last_error
            )),
        }
    }

    /// Why the access token does not work although the refresh token is valid.
    fn token_problem(&self, installation: &Installation) -> Option<String> {
        let stored = &installation.access;
        if matches!(stored.status, Status::Invalid | Status::Revoked) {
            let error = &installation.last_error;
            return Some(format!("it is {}: {error:?}", stored.status));
        }
        let label = access_label(&installation.id, stored.generation);
        let ring = &self.env.rings.access;
        let Ok(token) = ring.open_token(label, &stored.token) else {
            return Some("its access token cannot be decrypted".to_owned());
        };
        match Ghl::end_of(token.expose_secret()) {
            Some(ends) if ends > self.env.world.now() => None,
            Some(_) | None => {
                let (due, error) = (installation.due, &installation.last_error);
                Some(format!(
                    "its access token has expired, due {due:?}, {error:?}"
                ))
            }
        }
    }

    /// Where the valid token can be recovered from.
    fn holder(&self, installation: &Installation, valid_token: Token) -> Option<&'static str> {
        let id = &installation.id;
        let valid_text = valid_token.to_string();
        let ring = &self.env.rings.refresh;
        let matches = |spent, sealed: &_| {
            let grant = Grant::open(id, spent, sealed, ring);
            grant.is_ok_and(|grant| grant.refresh_token.expose_secret() == valid_text)
        };
        let mut alternates = installation.alternates.values();
        if alternates.any(|kept| matches(kept.spent_generation, &kept.grant)) {
            return Some("the alternates of its record");
        }
        let is_answer = |entry: &Entry| {
            let answer = entry.answer.as_ref();
            answer.is_some_and(|kept| matches(entry.spent_generation, kept))
        };
        let machines = self.machines.iter();
        let mut journal = machines.flat_map(|machine| machine.journal_entries(id));
        if journal.any(|entry| is_answer(&entry)) {
            return Some("a journal");
        }
        if self.env.nodes.kept(id).iter().any(is_answer) {
            return Some("escrow");
        }
        self.env
            .ghl
            .may_still_return(valid_token)
            .then_some("a call in flight, or within the grace")
    }
}
