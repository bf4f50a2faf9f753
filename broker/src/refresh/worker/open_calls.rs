//! Calls of this process whose response may still come.
//!
//! While a call is open, its token is not sent again, because the response may be on its way. There is one
//! exception: shortly before GHL's grace period ends, the token is sent once more, in case the open call
//! never ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use service::locks::lock;
use store::InstallationId;
use store::clock::Moment;
use store_writer::grant::ChainLink;
use store_writer::writer::Begun;

/// How long before the end of GHL's grace period the token is sent once more.
const FINAL_RETRY_MARGIN: Duration = Duration::from_secs(5);
/// How long a request may take to reach GHL.
const TRANSIT_TIME: Duration = Duration::from_secs(1);
/// The longest wait before the open call is checked again.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Whether a token may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendPermission {
    /// No call is open.
    Allowed,
    /// A call is open, and GHL's grace period ends soon.
    FinalRetry,
    /// A call is open: check again after this long.
    Wait(Duration),
}

#[derive(Debug, Default)]
pub(super) struct OpenCalls(Mutex<BTreeMap<InstallationId, OpenCall>>);

/// The open calls with one token.
#[derive(Debug, Clone)]
struct OpenCall {
    link: ChainLink,
    /// Just before the first of them was sent.
    since: Moment,
    /// How long from then GHL replays its response.
    grace: Duration,
    count: usize,
    is_final_retry_used: bool,
}

impl OpenCalls {
    /// Whether the token of the open calls may be sent again.
    pub(super) fn permission(&self, id: &InstallationId) -> SendPermission {
        self.all().get(id).map_or(SendPermission::Allowed, |call| {
            permission(call.since.elapsed(), call.grace, call.is_final_retry_used)
        })
    }

    /// The link whose calls are open.
    pub(super) fn link(&self, id: &InstallationId) -> Option<ChainLink> {
        self.all().get(id).map(|call| call.link.clone())
    }

    /// Records that a call is being sent.
    pub(super) fn open(&self, begun: &Begun, since: Moment) {
        let mut all = self.all();
        let known = all.get_mut(&begun.installation);
        match known.filter(|call| call.link == begun.link) {
            Some(call) => {
                call.count += 1;
                call.is_final_retry_used = true;
            }
            None => {
                // The grace period starts with the first attempt that may have spent the token.
                let grace = match begun.first_spent_at {
                    Some(_) => begun.grace_left(),
                    None => begun.grace,
                };
                let call = OpenCall {
                    link: begun.link.clone(),
                    since,
                    grace,
                    count: 1,
                    is_final_retry_used: false,
                };
                all.insert(begun.installation.clone(), call);
            }
        }
    }

    /// Records that a call has ended, with or without a response.
    pub(super) fn close(&self, begun: &Begun) {
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

    /// Forgets the open calls of a token that is superseded.
    pub(super) fn forget(&self, id: &InstallationId, link: &ChainLink) {
        let mut all = self.all();
        if all.get(id).is_some_and(|call| call.link == *link) {
            all.remove(id);
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<InstallationId, OpenCall>> {
        lock(&self.0)
    }
}

/// Whether a token may be sent. `elapsed` of GHL's grace period `grace` is over.
fn permission(elapsed: Duration, grace: Duration, is_final_retry_used: bool) -> SendPermission {
    let left = grace.saturating_sub(elapsed);
    let margin = FINAL_RETRY_MARGIN.min(grace / 3);
    if is_final_retry_used || left <= TRANSIT_TIME.min(grace / 10) {
        SendPermission::Wait(POLL_INTERVAL)
    } else if left > margin {
        SendPermission::Wait(POLL_INTERVAL.min(left - margin))
    } else {
        SendPermission::FinalRetry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    #[test]
    fn open_call_blocks_the_token_until_shortly_before_the_grace_period_ends() {
        let at = |seconds| permission(Duration::from_millis(seconds), GRACE, false);
        assert_eq!(at(0), SendPermission::Wait(POLL_INTERVAL));
        assert_eq!(at(24_000), SendPermission::Wait(Duration::from_secs(1)));
        assert_eq!(at(25_000), SendPermission::FinalRetry);
        assert_eq!(at(28_900), SendPermission::FinalRetry);
        assert_eq!(
            at(29_000),
            SendPermission::Wait(POLL_INTERVAL),
            "it would come too late"
        );
        assert_eq!(at(200_000), SendPermission::Wait(POLL_INTERVAL));
    }

    #[test]
    fn final_retry_happens_once() {
        let taken = permission(Duration::from_secs(26), GRACE, true);
        assert_eq!(taken, SendPermission::Wait(POLL_INTERVAL));
    }

    #[test]
    fn without_a_grace_period_an_open_call_always_blocks_the_token() {
        for seconds in 0..60 {
            let permission = permission(Duration::from_secs(seconds), Duration::ZERO, false);
            assert_eq!(permission, SendPermission::Wait(POLL_INTERVAL));
        }
    }
}
