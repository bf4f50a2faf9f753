//! Begin, commit, give back: the three writes of a refresh.

use std::time::Duration;

use store::record::Status;
use store::seal::Sealed;
use store::{Generation, Timestamp};

use crate::grant::{Fingerprint, Grant, Link};
use crate::installation::{
    Alternate, Chain, Installation, Intent, IntentId, LastError, LateReader,
};

use super::refused;

/// For how long GHL answers a repeated spend with the same successor, unless a setting says
/// otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// For how long a broker that reads a late answer is believed to do so without saying so again.
pub const LATE_NOTE: Duration = Duration::from_secs(30);
/// How long an answer in somebody's journal is waited for at a time.
const SETTLE: Duration = Duration::from_secs(1);

/// Whether a refresh may go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Yes, once this is stored.
    Go { next: Box<Installation>, link: Link },
    /// No: another broker is at it until then.
    Busy { holder: String, until: Timestamp },
    /// No, as above. The intent ends later than any intent of now could, since the store's clock
    /// was set back: it ends sooner once this is stored.
    Cap {
        next: Box<Installation>,
        until: Timestamp,
    },
    /// No: nobody has sent this token yet, and new tokens are not spent now.
    Held,
    /// No: the token that was asked to be replaced already is.
    Superseded,
    /// No: there is nothing to refresh with.
    NotRefreshable(Status),
}

/// What an attempt to refresh wants, and what it may do.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub intent: Intent,
    /// Do nothing if the generation is already above it.
    pub unless_past: Option<Generation>,
    /// The store has just come back, and whoever holds an answer for it in a journal is about to
    /// commit it.
    pub is_settling: bool,
    /// Whether a token that nobody has sent yet may be spent now.
    pub may_spend_new: bool,
    /// Whether an installation that was given up is tried all the same.
    pub may_try_invalid: bool,
    /// For how long GHL repeats an answer.
    pub grace: Duration,
}

/// Decides whether the refresh token may be spent by the attempt now.
#[must_use]
pub fn begin(current: &Installation, attempt: Attempt, now: Timestamp) -> Begin {
    let intent = attempt.intent;
    let Some(link) = current.link() else {
        return Begin::NotRefreshable(current.access.status);
    };
    match current.access.status {
        Status::Active | Status::Paused => {}
        Status::Invalid if attempt.may_try_invalid => {}
        dead @ (Status::Invalid | Status::Revoked | Status::Static) => {
            return Begin::NotRefreshable(dead);
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
        None if !attempt.may_spend_new => return Begin::Held,
        None => intent,
        // Our own write, whose acknowledgement was lost.
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
        // GHL would not repeat its answer any more: better to wait for the one who may have it.
        Some(open) if now.since(open.first_spent_at) >= attempt.grace => {
            let settles = attempt.is_settling && open.holder != intent.holder;
            let reads_late = late_reader(open, &intent.holder, now);
            match (settles, reads_late) {
                (_, Some(late)) => {
                    return Begin::Busy {
                        holder: late.broker.clone(),
                        until: late.until,
                    };
                }
                (true, None) => {
                    return Begin::Busy {
                        holder: open.holder.clone(),
                        until: now + SETTLE,
                    };
                }
                (false, None) => take_over(open, intent),
            }
        }
        Some(unknown) => take_over(unknown, intent),
    };
    let mut next = current.clone();
    // If nobody finishes what begins here, it is looked at again then.
    next.due = Some(intent.until);
    next.intent = Some(intent);
    Begin::Go {
        next: Box::new(next),
        link,
    }
}

/// The attempt that follows one whose outcome is unknown.
fn take_over(unknown: &Intent, intent: Intent) -> Intent {
    Intent {
        first_spent_at: unknown.first_spent_at,
        late: unknown.late.clone(),
        ..intent
    }
}

/// Another broker that still reads a late answer for this intent. A note that ends later than any
/// note of now could was written before the store's clock was set back.
fn late_reader<'a>(open: &'a Intent, me: &str, now: Timestamp) -> Option<&'a LateReader> {
    open.late
        .as_ref()
        .filter(|late| late.broker != me && late.until > now && late.until <= now + LATE_NOTE)
}

/// What a granted token pair does to the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// It becomes the current pair, once this is stored.
    Apply(Box<Installation>),
    /// It already is the current pair: a replay.
    Duplicate,
    /// The chain went another way. The pair is kept, once this is stored.
    Keep(Box<Installation>),
    /// As above, and it is kept already, or of no use any more: its own token, or a sibling of it,
    /// was spent since, or the customer consented anew.
    Kept,
}

/// A token pair, sealed for the generation it will have.
#[derive(Debug, Clone)]
pub struct Tokens {
    pub access: Sealed,
    pub refresh: Sealed,
    /// The whole grant, in case it must be kept as an alternate.
    pub grant: Sealed,
}

/// Decides what becomes of `grant`.
///
/// A grant that is ahead of the store, of the same consent, is applied as well: the store lost its
/// last writes in a failover, and the token it remembers is spent.
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
        return Commit::Kept;
    };
    if link.consent != grant.spent.consent {
        // The customer connected again since: GHL ended the former chain with it.
        return Commit::Kept;
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
        next.chain = Some(Chain {
            consent: link.consent,
            fingerprint: fingerprint.clone(),
            refresh_token: tokens.refresh,
        });
        next.intent = None;
        next.refused = None;
        // Siblings of links before the one that was just spent died with it.
        next.alternates.retain(|kept, alternate| {
            *kept != fingerprint && alternate.spent_generation >= link.generation
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
    // The chain went on past it: adopted, it would stand in the way of an answer that is ahead.
    let is_past = grant.spent.generation.next() < link.generation;
    if is_past || current.alternates.contains_key(&fingerprint) {
        return Commit::Kept;
    }
    let mut next = current.clone();
    let alternate = Alternate {
        spent_generation: grant.spent.generation,
        grant: tokens.grant,
    };
    next.alternates.insert(fingerprint, alternate);
    if next.access.status == Status::Invalid {
        // It was given up before this one could be tried.
        next.access.status = Status::Active;
        next.refused = None;
        next.due = Some(now);
    }
    Commit::Keep(Box::new(next))
}

/// Why a refresh got no token, in the words the record is changed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// GHL did not spend the token: nothing was sent, or it said so.
    Unspent,
    /// The token may be spent; the same token is to be tried again inside GHL's grace.
    Unknown,
    /// The location is not active at GHL; the token is unspent.
    Paused,
    /// GHL refuses this token. A first refusal may be wrong: see [`refused`].
    Refused,
    /// GHL refuses this token as it refuses all others, so it is likely to be wrong: the installation
    /// is not given up.
    Doubted,
}

/// What went wrong, and when to try again.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub refusal: Refusal,
    pub error: LastError,
    /// From now; not looked at where the token is refused.
    pub retry_in: Duration,
    /// The broker that goes on reading the answer, if it may still come.
    pub late_reader: Option<String>,
}

/// What a refusal does to the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Give {
    Apply(Box<Installation>),
    /// Somebody else has moved the chain on, or took the intent over: the refusal is old news.
    Superseded,
    /// The token is refused for good, but one that was kept is to be tried first.
    Adopt(Fingerprint),
}

/// Decides what becomes of the record after the attempt `intent` on `link` got no token.
#[must_use]
pub fn give_back(
    current: &Installation,
    link: &Link,
    intent: &IntentId,
    verdict: &Verdict,
    now: Timestamp,
) -> Give {
    let ours = current.intent.as_ref().filter(|open| open.id == *intent);
    let is_repeat = match ours {
        Some(open) if current.link().as_ref() == Some(link) => open.is_repeat(),
        Some(_) | None => return Give::Superseded,
    };
    let is_refused = matches!(verdict.refusal, Refusal::Refused | Refusal::Doubted);
    if let (true, Some(kept)) = (is_refused, current.alternates.keys().next()) {
        return Give::Adopt(kept.clone());
    }
    let mut next = current.clone();
    next.failures = current.failures.saturating_add(1);
    next.last_error = Some(verdict.error.clone());
    next.due = Some(now + verdict.retry_in);
    match verdict.refusal {
        // An earlier attempt may have spent the token all the same.
        Refusal::Unspent if is_repeat => close(&mut next, now),
        Refusal::Unspent => next.intent = None,
        Refusal::Unknown => {
            close(&mut next, now);
            note_late_reader(&mut next, verdict.late_reader.as_deref(), now);
        }
        Refusal::Paused => {
            next.intent = None;
            next.access.status = Status::Paused;
        }
        Refusal::Refused => {
            let refused = refused::again(current, is_repeat, now);
            next.intent = None;
            next.access.status = refused::status(&refused);
            next.due = refused::next_try(&refused, now);
            next.refused = Some(refused);
        }
        Refusal::Doubted => {
            let refused = refused::doubted(current, is_repeat, now);
            next.intent = None;
            next.access.status = refused::status(&refused);
            next.due = Some(now + refused::DOUBTED);
            next.refused = Some(refused);
        }
    }
    Give::Apply(Box::new(next))
}

fn note_late_reader(next: &mut Installation, reader: Option<&str>, now: Timestamp) {
    if let (Some(open), Some(broker)) = (&mut next.intent, reader) {
        open.late = Some(LateReader {
            broker: broker.to_owned(),
            until: now + LATE_NOTE,
        });
    }
}

/// Notes that `broker` still reads a late answer for `link`, or has stopped to. `None` where that
/// is old news.
#[must_use]
pub fn read_late(
    current: &Installation,
    link: &Link,
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
        note_late_reader(&mut next, Some(broker), now);
    } else if let Some(open) = &mut next.intent {
        open.late.take_if(|late| late.broker == broker)?;
    }
    Some(next)
}

/// Takes back the intent `intent`, for which nothing was sent, so that it is tried again after
/// `pause`. `None` where it is not open any more.
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
    if open.is_repeat() {
        // An earlier attempt may have spent the token.
        close(&mut next, now);
    } else {
        next.intent = None;
    }
    next.due = Some(now + pause);
    Some(next)
}

/// Leaves the intent open and already over: whoever comes next knows that the token may be spent.
fn close(next: &mut Installation, now: Timestamp) {
    if let Some(open) = &mut next.intent {
        open.until = now;
    }
}

/// Ends the attempt `intent` of a process that is known to be dead: the next one need not wait for
/// it. `None` where it is not open any more.
///
/// `spent`: the generation whose token it may have spent. Where that is still the current one and no
/// intent is open, the store has lost it in a failover, and it is open again: what `holder` knows of it
/// is all that anybody does.
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
        Some(open) if open.id == *intent => close(&mut next, now),
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

/// The link that somebody spent, or may have, without anybody knowing what came of it, and when that may first
/// have been: the attempt on it is over, or repeats another.
#[must_use]
pub fn in_doubt(current: &Installation, now: Timestamp) -> Option<(Link, Timestamp)> {
    let open = current.intent.as_ref()?;
    match current.access.status {
        Status::Active | Status::Paused => {}
        Status::Invalid | Status::Revoked | Status::Static => return None,
    }
    let is_in_doubt = open.is_repeat() || open.until <= now;
    let link = current.link().filter(|_| is_in_doubt)?;
    Some((link, open.first_spent_at))
}

/// Puts a kept token pair in the place of one that GHL refused.
///
/// `None` where there is no such alternate any more, or somebody else moved the chain on.
#[must_use]
pub fn adopt(
    current: &Installation,
    refused: &Link,
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
    next.chain = Some(Chain {
        consent: refused.consent.clone(),
        fingerprint,
        refresh_token: tokens.refresh,
    });
    next.intent = None;
    next.refused = None;
    next.due = Some(now);
    Some(next)
}
