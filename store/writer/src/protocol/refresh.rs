//! The writes of a refresh that lead to a token: begin, commit and adopt an alternate.

use std::time::Duration;

use store::record::Status;
use store::seal::Sealed;
use store::{Generation, Timestamp};

use crate::grant::{ChainLink, Fingerprint, Grant};
use crate::installation::{Alternate, Installation, Intent, LateReader, TokenChain};

use super::failure::LATE_READER_TTL;

/// GHL's grace period: how long GHL answers a repeated refresh token with the same successor. A setting
/// overrides it.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
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
    /// No. This token was not sent yet, and no new tokens are spent now.
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
    /// Whether a token that was not sent yet may be spent.
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
    // If this attempt is not completed, check it again then.
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

/// How long a broker leaves an installation alone of an app that it does not know.
pub const UNKNOWN_APP_PAUSE: Duration = Duration::from_secs(60);

/// Puts off an installation whose app this broker does not know or cannot use now. `None` if it is not due, or if its refresh token may be spent:
/// another broker must send it again at once, while GHL still repeats its answer.
#[must_use]
pub fn postpone(
    current: &Installation,
    pause: Duration,
    grace: Duration,
    now: Timestamp,
) -> Option<Installation> {
    current.due.filter(|due| *due <= now)?;
    let spent = current.intent.as_ref().map(|intent| intent.first_spent_at);
    if spent.is_some_and(|spent| now.since(spent) < grace) {
        return None;
    }
    let mut next = current.clone();
    next.due = Some(now + pause);
    Some(next)
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
        next.client = grant.client.clone().or(next.client);
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
    next.client = alternate.client.clone().or(next.client);
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
