//! The writes of a refresh without a token: record a failure, withdraw or abandon an attempt.

use std::time::Duration;

use store::record::Status;
use store::{Generation, Timestamp};

use crate::grant::{ChainLink, Fingerprint};
use crate::installation::{Installation, Intent, IntentId, LastError, LateReader};

use super::refusals;

/// How long a broker is considered to read a late response after it last recorded so.
pub const LATE_READER_TTL: Duration = Duration::from_secs(30);

/// The meaning of a failed attempt for the refresh token and the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// GHL did not spend the token: nothing was sent, or GHL said so.
    Unspent,
    /// GHL may have spent the token. Retry the same token within GHL's grace period.
    Unknown,
    /// The location is inactive at GHL. The token is unspent.
    Paused,
    /// GHL refuses this token. One refusal may be wrong: see the module `refusals`.
    Refused,
    /// GHL refuses this token and all others, so the refusal is probably wrong. The installation does not
    /// become invalid.
    WidespreadRefusal,
}

/// A failed attempt, and when to retry.
#[derive(Debug, Clone)]
pub struct AttemptFailure {
    /// The meaning of the failure.
    pub class: FailureClass,
    /// The failure for people.
    pub error: LastError,
    /// The time from now until the retry. Ignored if GHL refuses the token.
    pub retry_in: Duration,
    /// The broker that goes on reading the response, if it may still arrive.
    pub late_reader: Option<String>,
}

/// The effect of a failed attempt on the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureDecision {
    /// The record changes, once this is stored.
    Apply(Box<Installation>),
    /// Nothing changes. Another process moved the chain on or took over the intent.
    Superseded,
    /// GHL refuses the token for good. Adopt this alternate first.
    Adopt(Fingerprint),
}

/// Decides the effect of the attempt `intent` on `link`, which got no token.
#[must_use]
pub fn record_failure(
    current: &Installation,
    link: &ChainLink,
    intent: &IntentId,
    failure: &AttemptFailure,
    now: Timestamp,
) -> FailureDecision {
    let ours = current.intent.as_ref().filter(|open| open.id == *intent);
    let is_retry = match ours {
        Some(open) if current.link().as_ref() == Some(link) => open.is_retry(),
        Some(_) | None => return FailureDecision::Superseded,
    };
    let is_refused = matches!(
        failure.class,
        FailureClass::Refused | FailureClass::WidespreadRefusal
    );
    if let (true, Some(alternate)) = (is_refused, current.alternates.keys().next()) {
        return FailureDecision::Adopt(alternate.clone());
    }
    let mut next = current.clone();
    next.failures = current.failures.saturating_add(1);
    next.last_error = Some(failure.error.clone());
    next.due = Some(now + failure.retry_in);
    match failure.class {
        // An earlier attempt may have spent the token.
        FailureClass::Unspent if is_retry => expire_intent(&mut next, now),
        FailureClass::Unspent => next.intent = None,
        FailureClass::Unknown => {
            expire_intent(&mut next, now);
            set_late_reader(&mut next, failure.late_reader.as_deref(), now);
        }
        FailureClass::Paused => {
            next.intent = None;
            next.access.status = Status::Paused;
        }
        FailureClass::Refused => {
            let refused = refusals::count_refusal(current, is_retry, now);
            next.intent = None;
            next.access.status = refusals::status(&refused);
            next.due = refusals::next_try(&refused, now);
            next.refused = Some(refused);
        }
        FailureClass::WidespreadRefusal => {
            let refused = refusals::count_widespread_refusal(current, is_retry, now);
            next.intent = None;
            next.access.status = refusals::status(&refused);
            next.due = Some(now + refusals::WIDESPREAD_RETRY);
            next.refused = Some(refused);
        }
    }
    FailureDecision::Apply(Box::new(next))
}

fn set_late_reader(next: &mut Installation, reader: Option<&str>, now: Timestamp) {
    if let (Some(open), Some(broker)) = (&mut next.intent, reader) {
        open.late = Some(LateReader {
            broker: broker.to_owned(),
            until: now + LATE_READER_TTL,
        });
    }
}

/// Records that `broker` still reads a late response for `link`, or that it has stopped. `None` if the link
/// or the entry is outdated.
#[must_use]
pub fn record_late_reader(
    current: &Installation,
    link: &ChainLink,
    broker: &str,
    is_reading: bool,
    now: Timestamp,
) -> Option<Installation> {
    current.intent.as_ref()?;
    if current.link().as_ref() != Some(link) {
        return None;
    }
    let mut next = current.clone();
    if is_reading {
        set_late_reader(&mut next, Some(broker), now);
    } else if let Some(open) = &mut next.intent {
        open.late.take_if(|late| late.broker == broker)?;
    }
    Some(next)
}

/// Withdraws the intent, for which nothing was sent, and schedules a retry after `pause`. `None` if the
/// intent is not open any more.
#[must_use]
pub fn withdraw(
    current: &Installation,
    intent: &IntentId,
    now: Timestamp,
    pause: Duration,
) -> Option<Installation> {
    let open = current.intent.as_ref()?;
    if open.id != *intent {
        return None;
    }
    let mut next = current.clone();
    if open.is_retry() {
        // An earlier attempt may have spent the token.
        expire_intent(&mut next, now);
    } else {
        next.intent = None;
    }
    next.due = Some(now + pause);
    Some(next)
}

/// Ends the intent now but leaves it open, because the token may be spent.
fn expire_intent(next: &mut Installation, now: Timestamp) {
    if let Some(open) = &mut next.intent {
        open.until = now;
    }
}

/// Ends the attempt `intent` of a process that is known to be dead, so that the next attempt need not wait
/// for it. `None` if the intent is not open any more.
///
/// `spent` is the generation whose token the attempt may have spent. If that generation is current and no
/// intent is open, the store lost the intent in a failover. The intent is then opened again for `holder`,
/// because no other record of the attempt is left.
#[must_use]
pub fn abandon(
    current: &Installation,
    intent: &IntentId,
    spent: Generation,
    holder: &str,
    now: Timestamp,
) -> Option<Installation> {
    let mut next = current.clone();
    match &current.intent {
        Some(open) if open.id == *intent => expire_intent(&mut next, now),
        Some(_) => return None,
        None => {
            current.link().filter(|link| link.generation == spent)?;
            match current.access.status {
                Status::Active | Status::Paused => {}
                Status::Invalid | Status::Revoked | Status::Static => return None,
            }
            next.intent = Some(Intent {
                id: intent.clone(),
                holder: holder.to_owned(),
                opened_at: now,
                until: now,
                first_spent_at: now - Duration::from_millis(1),
                late: None,
            });
        }
    }
    next.due = Some(now);
    Some(next)
}
