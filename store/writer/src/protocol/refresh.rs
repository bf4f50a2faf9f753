//! The writes of a refresh: begin, commit and record a failure.

use std::time::Duration;

use store::record::Status;
use store::seal::Sealed;
use store::{Generation, Timestamp};

use crate::grant::{ChainLink, Fingerprint, Grant};
use crate::installation::{
    Alternate, Installation, Intent, IntentId, LastError, LateReader, TokenChain,
};

use super::refusals;

/// GHL's grace period: how long GHL answers a repeated refresh token with the same successor. A setting
/// overrides it.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// How long a broker is considered to read a late response after it last recorded so.
pub const LATE_READER_TTL: Duration = Duration::from_secs(30);
/// How long to wait at a time for a response in another broker's journal.
const JOURNAL_WAIT: Duration = Duration::from_secs(1);

/// Whether a refresh may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Yes, once `next` is stored.
    Go {
        /// The record to store.
        next: Box<Installation>,
        /// The link to spend.
        link: ChainLink,
    },
    /// No. Another broker holds the intent until then.
    Busy {
        /// The broker with the intent or with a late response.
        holder: String,
        /// When to try again.
        until: Timestamp,
    },
    /// No. Another broker holds an intent that ends later than any intent of now could, because the store's
    /// clock was set back. Storing `next` shortens the intent.
    Cap {
        /// The record to store.
        next: Box<Installation>,
        /// When the intent ends then.
        until: Timestamp,
    },
    /// No. Nobody has sent this token yet, and no new tokens are spent now.
    Deferred,
    /// No. The generation that was to be replaced is already replaced.
    Superseded,
    /// No. There is no refresh token, or the status excludes a refresh.
    NotRefreshable(Status),
}

/// An attempt to refresh and its permissions.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The intent to store.
    pub intent: Intent,
    /// Do nothing if the current generation is above this one.
    pub unless_past: Option<Generation>,
    /// Whether the store has just come back. A broker with a response in its journal is then about to commit
    /// it.
    pub is_after_outage: bool,
    /// Whether a token that nobody has sent yet may be spent.
    pub may_spend_new: bool,
    /// Whether an installation with [`Status::Invalid`] may be tried.
    pub may_try_invalid: bool,
    /// GHL's grace period.
    pub grace: Duration,
}

/// Decides whether the attempt may spend the refresh token now.
#[must_use]
pub fn begin(current: &Installation, attempt: Attempt, now: Timestamp) -> Begin {
    let intent = attempt.intent;
    let Some(link) = current.link() else {
        return Begin::NotRefreshable(current.access.status);
    };
    match current.access.status {
        Status::Active | Status::Paused => {}
        Status::Invalid if attempt.may_try_invalid => {}
        status @ (Status::Invalid | Status::Revoked | Status::Static) => {
            return Begin::NotRefreshable(status);
        }
    }
    if attempt
        .unless_past
        .is_some_and(|past| link.generation > past)
    {
        return Begin::Superseded;
    }
    let longest = intent.until.since(intent.opened_at);
    let intent = match &current.intent {
        None if !attempt.may_spend_new => return Begin::Deferred,
        None => intent,
        // This is our own write, and its acknowledgement was lost.
        Some(open) if open.id == intent.id => open.clone(),
        Some(open) if open.until > now + longest => {
            let until = now + longest;
            let mut next = current.clone();
            next.due = Some(until);
            next.intent = Some(Intent {
                until,
                ..open.clone()
            });
            return Begin::Cap {
                next: Box::new(next),
                until,
            };
        }
        Some(open) if now < open.until => {
            return Begin::Busy {
                holder: open.holder.clone(),
                until: open.until,
            };
        }
        // GHL no longer repeats its response, so wait for a broker that may have it.
        Some(open) if now.since(open.first_spent_at) >= attempt.grace => {
            let awaits_holder = attempt.is_after_outage && open.holder != intent.holder;
            let reads_late = late_reader(open, &intent.holder, now);
            match (awaits_holder, reads_late) {
                (_, Some(late)) => {
                    return Begin::Busy {
                        holder: late.broker.clone(),
                        until: late.until,
                    };
                }
                (true, None) => {
                    return Begin::Busy {
                        holder: open.holder.clone(),
                        until: now + JOURNAL_WAIT,
                    };
                }
                (false, None) => take_over(open, intent),
            }
        }
        Some(unknown) => take_over(unknown, intent),
    };
    let mut next = current.clone();
    // If nobody completes this attempt, check it again then.
    next.due = Some(intent.until);
    next.intent = Some(intent);
    Begin::Go {
        next: Box::new(next),
        link,
    }
}

/// The intent of an attempt that follows one with an unknown outcome.
fn take_over(unknown: &Intent, intent: Intent) -> Intent {
    Intent {
        first_spent_at: unknown.first_spent_at,
        late: unknown.late.clone(),
        ..intent
    }
}

/// Another broker that still reads a late response for this intent. An entry that ends later than any entry
/// of now could was written before the store's clock was set back.
fn late_reader<'a>(open: &'a Intent, me: &str, now: Timestamp) -> Option<&'a LateReader> {
    open.late
        .as_ref()
        .filter(|late| late.broker != me && late.until > now && late.until <= now + LATE_READER_TTL)
}

/// The effect of a granted token pair on the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// It becomes the current pair, once this is stored.
    Apply(Box<Installation>),
    /// It already is the current pair: the commit is a repetition.
    Duplicate,
    /// The chain has moved on. The pair becomes an alternate, once this is stored.
    AddAlternate(Box<Installation>),
    /// The chain has moved on, and nothing changes. The pair is an alternate already, or it is useless: its
    /// own token or a sibling was spent since, or the customer consented again.
    Ignore,
}

/// A token pair, sealed for the generation that it gets.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// The access token.
    pub access: Sealed,
    /// The refresh token.
    pub refresh: Sealed,
    /// The whole grant, in case it becomes an alternate.
    pub grant: Sealed,
}

/// Decides the effect of `grant`.
///
/// A grant of the same consent that is ahead of the store is applied too. The store lost its last writes in a
/// failover, and the refresh token that it has is spent.
#[must_use]
pub fn commit(
    current: &Installation,
    grant: &Grant,
    tokens: Tokens,
    due: Timestamp,
    now: Timestamp,
) -> Commit {
    let fingerprint = grant.fingerprint();
    let Some(link) = current.link() else {
        return Commit::Ignore;
    };
    if link.consent != grant.spent.consent {
        // The customer consented again, and GHL ended the previous chain.
        return Commit::Ignore;
    }
    let is_current = link == grant.spent;
    let is_ahead = grant.spent.generation > link.generation;
    if is_current || is_ahead {
        let mut next = current.clone();
        next.access.token = tokens.access;
        next.access.generation = grant.spent.generation.next();
        next.access.expires_at = Some(grant.ends_at(now));
        next.access.lifetime = grant.lifetime;
        next.access.status = match current.access.status {
            Status::Revoked => Status::Revoked,
            Status::Active | Status::Paused | Status::Invalid | Status::Static => Status::Active,
        };
        if let Some(scopes) = &grant.scopes {
            next.access.scopes.clone_from(scopes);
        }
        next.chain = Some(TokenChain {
            consent: link.consent,
            fingerprint: fingerprint.clone(),
            refresh_token: tokens.refresh,
        });
        next.intent = None;
        next.refused = None;
        // GHL invalidates siblings of earlier links when this link is spent.
        next.alternates.retain(|known, alternate| {
            *known != fingerprint && alternate.spent_generation >= link.generation
        });
        next.failures = 0;
        next.last_error = None;
        next.refreshed_at = Some(now);
        next.due = (next.access.status == Status::Active).then_some(due);
        return Commit::Apply(Box::new(next));
    }
    if fingerprint == link.fingerprint {
        return Commit::Duplicate;
    }
    // As an alternate it could later be adopted in place of a newer response.
    let is_past = grant.spent.generation.next() < link.generation;
    if is_past || current.alternates.contains_key(&fingerprint) {
        return Commit::Ignore;
    }
    let mut next = current.clone();
    let alternate = Alternate {
        spent_generation: grant.spent.generation,
        grant: tokens.grant,
    };
    next.alternates.insert(fingerprint, alternate);
    if next.access.status == Status::Invalid {
        // The installation became invalid before this token could be tried.
        next.access.status = Status::Active;
        next.refused = None;
        next.due = Some(now);
    }
    Commit::AddAlternate(Box::new(next))
}

/// What a failed attempt means for the refresh token and the installation.
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
    /// What the failure means.
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

/// The link whose response was lost, and when it may first have been spent. The attempt has ended without a
/// known outcome, or it retries such an attempt.
#[must_use]
pub fn lost_response(current: &Installation, now: Timestamp) -> Option<(ChainLink, Timestamp)> {
    let open = current.intent.as_ref()?;
    match current.access.status {
        Status::Active | Status::Paused => {}
        Status::Invalid | Status::Revoked | Status::Static => return None,
    }
    let is_in_doubt = open.is_retry() || open.until <= now;
    let link = current.link().filter(|_| is_in_doubt)?;
    Some((link, open.first_spent_at))
}

/// Replaces a token pair that GHL refused by an alternate.
///
/// `None` if the alternate does not exist any more, or the chain has moved on.
#[must_use]
pub fn adopt(
    current: &Installation,
    refused: &ChainLink,
    alternate: &Grant,
    tokens: Tokens,
    now: Timestamp,
) -> Option<Installation> {
    let fingerprint: Fingerprint = alternate.fingerprint();
    if current.link().as_ref() != Some(refused) || !current.alternates.contains_key(&fingerprint) {
        return None;
    }
    let mut next = current.clone();
    next.alternates.remove(&fingerprint);
    next.access.token = tokens.access;
    next.access.generation = refused.generation.next();
    next.access.expires_at = Some(alternate.ends_at(now));
    next.access.lifetime = alternate.lifetime;
    next.chain = Some(TokenChain {
        consent: refused.consent.clone(),
        fingerprint,
        refresh_token: tokens.refresh,
    });
    next.intent = None;
    next.refused = None;
    next.due = Some(now);
    Some(next)
}
