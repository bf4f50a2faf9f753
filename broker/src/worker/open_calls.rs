//! Calls of this process whose answer may still come. While one is open, the same token is not sent
//! again: the answer that is on its way is as good. Once, shortly before GHL stops to repeat its
//! answers, it is sent again all the same, in case the open call never ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store::InstallationId;
use store::clock::Moment;
use store_writer::grant::ChainLink;
use store_writer::writer::Begun;

/// How long before GHL's grace ends the token is sent once more.
const LAST_CHANCE: Duration = Duration::from_secs(5);
/// What a request may take to GHL.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// How long the open call is left alone before somebody looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Whether a token may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// No call is open.
    Free,
    /// A call is open, and GHL's grace is over soon.
    LastChance,
    /// A call is open: look again after this long.
    Wait(Duration),
}

#[derive(Debug, Default)]
pub(super) struct OpenCalls(Mutex<BTreeMap<InstallationId, OpenCall>>);

/// All open calls with one token.
#[derive(Debug, Clone)]
struct OpenCall {
    link: ChainLink,
    /// Before the first of them went out.
    since: Moment,
    /// For how long from then GHL repeats its answer.
    grace: Duration,
    count: usize,
    is_last_chance_taken: bool,
}

impl OpenCalls {
    /// Whether the token of the open calls may be sent again.
    pub(super) fn gate(&self, id: &InstallationId) -> Gate {
        self.all().get(id).map_or(Gate::Free, |call| {
            gate(call.since.elapsed(), call.grace, call.is_last_chance_taken)
        })
    }

    /// The link whose calls are open.
    pub(super) fn link(&self, id: &InstallationId) -> Option<ChainLink> {
        self.all().get(id).map(|call| call.link.clone())
    }

    /// A call goes out.
    pub(super) fn opened(&self, begun: &Begun, since: Moment) {
        let mut all = self.all();
        let known = all.get_mut(&begun.installation);
        match known.filter(|call| call.link == begun.link) {
            Some(call) => {
                call.count += 1;
                call.is_last_chance_taken = true;
            }
            None => {
                // The grace runs from the first attempt that may have spent the token.
                let grace = match begun.first_spent_at {
                    Some(_) => begun.grace_left(),
                    None => begun.grace,
                };
                let call = OpenCall {
                    link: begun.link.clone(),
                    since,
                    grace,
                    count: 1,
                    is_last_chance_taken: false,
                };
                all.insert(begun.installation.clone(), call);
            }
        }
    }

    /// A call has ended, with an answer or without.
    pub(super) fn closed(&self, begun: &Begun) {
        let mut all = self.all();
        if let Some(call) = all.get_mut(&begun.installation)
            && call.link == begun.link
        {
            call.count -= 1;
            if call.count == 0 {
                all.remove(&begun.installation);
            }
        }
    }

    /// The chain went past the token: what is still open of it matters no more.
    pub(super) fn superseded(&self, id: &InstallationId, link: &ChainLink) {
        let mut all = self.all();
        if all.get(id).is_some_and(|call| call.link == *link) {
            all.remove(id);
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<InstallationId, OpenCall>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `grace`: for how long GHL repeats the answer, of which `elapsed` is over.
fn gate(elapsed: Duration, grace: Duration, is_last_chance_taken: bool) -> Gate {
    let left = grace.saturating_sub(elapsed);
    let margin = LAST_CHANCE.min(grace / 3);
    if is_last_chance_taken || left <= ON_ITS_WAY.min(grace / 10) {
        Gate::Wait(LOOK_AGAIN)
    } else if left > margin {
        Gate::Wait(LOOK_AGAIN.min(left - margin))
    } else {
        Gate::LastChance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    #[test]
    fn an_open_call_keeps_the_token_from_being_sent_until_shortly_before_the_grace_ends() {
        let at = |seconds| gate(Duration::from_millis(seconds), GRACE, false);
        assert_eq!(at(0), Gate::Wait(LOOK_AGAIN));
        assert_eq!(at(24_000), Gate::Wait(Duration::from_secs(1)));
        assert_eq!(at(25_000), Gate::LastChance);
        assert_eq!(at(28_900), Gate::LastChance);
        assert_eq!(at(29_000), Gate::Wait(LOOK_AGAIN), "it would come too late");
        assert_eq!(at(200_000), Gate::Wait(LOOK_AGAIN));
    }

    #[test]
    fn the_last_chance_is_taken_once() {
        let taken = gate(Duration::from_secs(26), GRACE, true);
        assert_eq!(taken, Gate::Wait(LOOK_AGAIN));
    }

    #[test]
    fn without_a_grace_no_token_is_sent_while_its_call_is_open() {
        for seconds in 0..60 {
            let gate = gate(Duration::from_secs(seconds), Duration::ZERO, false);
            assert_eq!(gate, Gate::Wait(LOOK_AGAIN));
        }
    }
}
