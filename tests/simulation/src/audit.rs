//! What must hold when the faults are over: who is lost, and who is well again.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use store::record::access_label;
use store::{InstallationId, Status};
use store_writer::journal::Entry;
use store_writer::{Fingerprint, Grant, Installation};
use tokio::time::sleep;

use super::faults::Began;
use super::ghl::{Ghl, Token};
use super::machine::{Machine, Scene};
use super::plan::{Plan, What};

/// How long after the last fault everybody must be well again.
const RECOVERED: Duration = Duration::from_secs(120);
/// The most installations that one fault of GHL may cost.
const MOST_LOST: usize = 8;
const EVERY: Duration = Duration::from_secs(4);
/// A refresh may be under way at the very moment: it is looked at so many times more.
const MORE_LOOKS: usize = 10;

pub(super) struct Auditor<'a> {
    pub(super) plan: &'a Plan,
    pub(super) scene: &'a Scene,
    pub(super) machines: &'a [Machine],
    pub(super) ids: Arc<[InstallationId]>,
}

/// How an installation is.
#[derive(Debug, PartialEq, Eq)]
enum Health {
    Valid,
    /// GHL accepts a refresh token that somebody has.
    Held(String),
    /// Nobody has the refresh token that GHL accepts.
    Lost(String),
}

impl Auditor<'_> {
    /// Looks from the end of the last fault on. Tells how many are lost.
    pub(super) async fn run(&self, began: &[Began]) -> usize {
        let world = &self.scene.world;
        let deadline = world.now() + RECOVERED;
        let mut unwell: Vec<usize> = (0..self.ids.len()).collect();
        while world.now() < deadline && !unwell.is_empty() {
            unwell.retain(|customer| self.health(*customer) != Health::Valid);
            sleep(EVERY).await;
        }
        for _ in 0..MORE_LOOKS {
            unwell.retain(|customer| self.health(*customer) != Health::Valid);
            sleep(Duration::from_millis(500)).await;
        }
        let mut lost = 0;
        for customer in unwell {
            let id = &self.ids[customer];
            match self.health(customer) {
                Health::Valid => {}
                Health::Held(why) => world.violation(format!(
                    "{id} (customer {customer}) is not valid again after {} s: {why}",
                    RECOVERED.as_secs()
                )),
                Health::Lost(why) => {
                    world.log(format_args!("{id} (customer {customer}) is lost: {why}"));
                    lost += 1;
                }
            }
        }
        let allowed = self.allowed(began);
        if lost > allowed {
            world.violation(format!("{lost} are lost, {allowed} may be"));
        }
        lost
    }

    /// How many the faults may cost.
    fn allowed(&self, began: &[Began]) -> usize {
        let is_alone = self.plan.faults.len() == 1;
        let has_grace = !self.plan.grace.is_zero();
        let faults = self.plan.faults.iter().zip(began);
        let each = faults.map(|(fault, began)| match &fault.what {
            // What was in flight, or followed before its fate was known.
            What::Ghl(mood) if mood.loses_answers() && is_alone => began.window.min(MOST_LOST),
            // Brokers that do not reach each other find out for themselves, and one that was stopped
            // comes back with a grant of before: to all others GHL seems to be well again.
            What::Ghl(mood) if mood.loses_answers() => 3 * began.window,
            // Its answers go to a dead process. Within the grace another one gets them again.
            What::Crash { .. } if is_alone && has_grace => 0,
            What::Crash { .. } => began.own,
            What::Ghl(_)
            | What::Pause { .. }
            | What::StoreDown
            | What::StoreForgets { .. }
            | What::Partition { .. }
            | What::Split { .. }
            | What::ClockStep { .. }
            | What::NodeDown { .. }
            | What::NodeForgets { .. }
            | What::NodeCut { .. } => 0,
        });
        each.sum()
    }

    fn health(&self, customer: usize) -> Health {
        let id = &self.ids[customer];
        let good = self.scene.ghl.current(customer);
        let (access, refresh) = self.scene.store.record(id);
        let installation = match Installation::from_fields(id.clone(), &access, &refresh) {
            Ok(installation) => installation,
            Err(error) => return Health::Held(format!("the record cannot be read: {error}")),
        };
        let known = installation.chain.as_ref().map(|chain| &chain.fingerprint);
        if known == Some(&Fingerprint::of(&good.to_string().into())) {
            return match self.ails(&installation) {
                None => Health::Valid,
                Some(why) => Health::Held(why),
            };
        }
        match self.holder(&installation, good) {
            Some(holder) => Health::Held(format!("{good} is only in {holder}")),
            None => Health::Lost(format!(
                "{good} is nowhere, the store has generation {} and is {}, {:?}",
                installation.access.generation, installation.access.status, installation.last_error
            )),
        }
    }

    /// Why the access token of an installation whose refresh token is good does not work.
    fn ails(&self, installation: &Installation) -> Option<String> {
        let stored = &installation.access;
        if matches!(stored.status, Status::Invalid | Status::Revoked) {
            let error = &installation.last_error;
            return Some(format!("it is {}: {error:?}", stored.status));
        }
        let label = access_label(&installation.id, stored.generation);
        let ring = &self.scene.rings.access;
        let Ok(token) = ring.open_token(label, &stored.token) else {
            return Some("its access token does not open".to_owned());
        };
        match Ghl::end_of(token.expose_secret()) {
            Some(ends) if ends > self.scene.world.now() => None,
            Some(_) | None => {
                let (due, error) = (installation.due, &installation.last_error);
                Some(format!(
                    "its access token has expired, due {due:?}, {error:?}"
                ))
            }
        }
    }

    /// Where the token that is good may yet come from.
    fn holder(&self, installation: &Installation, good: Token) -> Option<&'static str> {
        let id = &installation.id;
        let good_text = good.to_string();
        let ring = &self.scene.rings.refresh;
        let is_it = |spent, sealed: &_| {
            let grant = Grant::open(id, spent, sealed, ring);
            grant.is_ok_and(|grant| grant.refresh_token.expose_secret() == good_text)
        };
        let mut alternates = installation.alternates.values();
        if alternates.any(|kept| is_it(kept.spent_generation, &kept.grant)) {
            return Some("the alternates of its record");
        }
        let is_answer = |entry: &Entry| {
            let answer = entry.answer.as_ref();
            answer.is_some_and(|kept| is_it(entry.spent_generation, kept))
        };
        let machines = self.machines.iter();
        let mut journaled = machines.flat_map(|machine| machine.journaled(id));
        if journaled.any(|entry| is_answer(&entry)) {
            return Some("a journal");
        }
        if self.scene.nodes.kept(id).iter().any(is_answer) {
            return Some("escrow");
        }
        self.scene
            .ghl
            .is_on_its_way(good)
            .then_some("a call that is under way, or may be repeated")
    }
}
