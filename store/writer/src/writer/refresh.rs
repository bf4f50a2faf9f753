//! The verbs of a refresh: begin, commit, give back.

#[cfg(test)]
mod tests;

use std::time::Duration;

use secrecy::SecretString;
use store::record::Unreadable;
use store::{CompanyId, Generation, InstallationId, LocationId, Status, Timestamp, UserType};
use tracing::warn;

use super::{Decision, Snapshot, StoreWriter, WriteError};
use crate::grant::{Fingerprint, Grant, Link};
use crate::installation::{Installation, Intent, IntentId, LastError, Refused, refresh_label};
use crate::lease::Lease;
use crate::protocol::{self, Commit, Give, Tokens, Verdict};

/// What a request may take to GHL.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Permission to spend one refresh token once. The intent is stored.
#[derive(Debug)]
#[must_use = "an intent that is neither committed nor given back blocks the installation until it ends"]
pub struct Begun {
    pub installation: InstallationId,
    pub intent: IntentId,
    pub link: Link,
    pub refresh_token: SecretString,
    pub user_type: UserType,
    pub location: Option<LocationId>,
    /// Not known of every location.
    pub company: Option<CompanyId>,
    /// The store's time of the begin: what the new token's expiry is counted from.
    pub began_at: Timestamp,
    /// When this refresh token may first have been spent, where that was before this attempt.
    pub first_spent_at: Option<Timestamp>,
    /// For how long GHL repeats an answer.
    pub grace: Duration,
    /// What GHL refused before of this token.
    pub refused: Option<Refused>,
    /// Since the last success.
    pub failures: u32,
    /// What the last of them was.
    pub last_error: Option<LastError>,
    /// Of the access token that is being replaced.
    pub expires_at: Option<Timestamp>,
}

impl Begun {
    /// For how long GHL still repeats the answer that an earlier attempt did not get; zero where
    /// there was none.
    #[must_use]
    pub fn grace_left(&self) -> Duration {
        let first = self.first_spent_at;
        first.map_or(Duration::ZERO, |first| {
            (first + self.grace).since(self.began_at)
        })
    }

    /// Whether GHL may have stopped repeating the answer that an earlier attempt did not get.
    #[must_use]
    pub fn is_past_grace(&self) -> bool {
        let first = self.first_spent_at;
        first.is_some_and(|first| self.began_at.since(first) >= self.grace)
    }

    /// Permission to ask for the same answer again, `elapsed` after this began, without the store's:
    /// inside the grace it is no other than the one that was lost. `None` afterwards.
    #[must_use]
    pub fn again(&self, elapsed: Duration) -> Option<Self> {
        let first = self.first_spent_at.unwrap_or(self.began_at);
        if self.began_at.since(first) + elapsed + ON_ITS_WAY >= self.grace {
            return None;
        }
        Some(Self {
            installation: self.installation.clone(),
            intent: IntentId::random(),
            link: self.link.clone(),
            refresh_token: self.refresh_token.clone(),
            user_type: self.user_type,
            location: self.location.clone(),
            company: self.company.clone(),
            began_at: self.began_at,
            first_spent_at: Some(first),
            grace: self.grace,
            refused: self.refused.clone(),
            failures: self.failures,
            last_error: self.last_error.clone(),
            expires_at: self.expires_at,
        })
    }
}

/// Whether a refresh may go out.
#[derive(Debug)]
pub enum Begin {
    Go(Box<Begun>),
    Busy {
        holder: String,
        until: Timestamp,
    },
    Superseded,
    NotDue(Timestamp),
    /// New tokens are not spent now, and this one is new.
    Held,
    NotRefreshable(Status),
    Unknown,
}

/// Who begins an attempt, and under which conditions.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    /// The broker.
    pub holder: &'a str,
    /// How long the attempt may take to be sent.
    pub window: Duration,
    pub wanted: Wanted,
    /// The store has just come back.
    pub is_settling: bool,
    /// Whether a token that nobody has sent yet may be spent now.
    pub may_spend_new: bool,
    /// For how long GHL repeats an answer.
    pub grace: Duration,
}

/// What became of a granted token pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    Applied {
        generation: Generation,
        due: Timestamp,
        /// What the installation was before, if GHL had refused its token.
        recovered: Option<Recovered>,
    },
    Duplicate,
    /// Not current, and kept.
    Kept,
}

/// An installation whose token GHL had refused has a token again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    Suspect,
    Invalid,
}

impl Recovered {
    fn of(earlier: &Installation) -> Option<Self> {
        match earlier.access.status {
            Status::Invalid => Some(Self::Invalid),
            Status::Active | Status::Paused if earlier.refused.is_some() => Some(Self::Suspect),
            Status::Active | Status::Paused | Status::Revoked | Status::Static => None,
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspect => "suspect",
            Self::Invalid => "invalid",
        }
    }
}

/// What became of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GaveBack {
    Noted {
        /// When the next attempt is due.
        due: Option<Timestamp>,
        refused: Option<Refused>,
    },
    Superseded,
    /// A token that had been kept was put in place of the refused one: try again now.
    Adopted,
}

/// What a refresh is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It is due by the schedule.
    Due,
    /// Somebody found this generation unfit.
    Past(Generation),
    /// An operator asked.
    Now,
    /// An operator asked, even if the installation is invalid.
    Forced,
}

/// When an attempt that was not made for want of replicas is made again.
const WITHDRAWN: Duration = Duration::from_secs(1);

impl StoreWriter {
    /// Writes the intent to spend the current refresh token within `window`, and with it proves
    /// that the store can be written now, and that its replicas follow.
    ///
    /// # Errors
    /// When the store is away or refuses, the token cannot be opened, or replicas do not have the
    /// intent, which is then withdrawn.
    pub async fn begin(
        &self,
        lease: &Lease,
        conditions: Conditions<'_>,
    ) -> Result<Begin, WriteError> {
        let Conditions {
            holder,
            window,
            wanted,
            is_settling,
            may_spend_new,
            grace,
        } = conditions;
        let id = lease.installation();
        let intent_id = IntentId::random();
        let decided = self.decide_revision(id, |current, now| {
            let Some(current) = current else {
                return Decision::Leave(Ok(Begin::Unknown));
            };
            if let Some(due) = not_due(current, wanted, now) {
                return Decision::Leave(Ok(Begin::NotDue(due)));
            }
            let unless_past = match wanted {
                Wanted::Past(generation) => Some(generation),
                Wanted::Due | Wanted::Now | Wanted::Forced => None,
            };
            // One that was given up is due now and then: it may have been refused wrongly.
            let may_try_invalid = match wanted {
                Wanted::Due | Wanted::Forced => true,
                Wanted::Past(_) | Wanted::Now => false,
            };
            let intent = Intent {
                id: intent_id.clone(),
                holder: holder.to_owned(),
                opened_at: now,
                until: now + window,
                first_spent_at: now,
                late: None,
            };
            let attempt = protocol::Attempt {
                intent,
                unless_past,
                is_settling,
                may_spend_new,
                may_try_invalid,
                grace,
            };
            match protocol::begin(current, attempt, now) {
                protocol::Begin::Busy { holder, until } => {
                    Decision::Leave(Ok(Begin::Busy { holder, until }))
                }
                protocol::Begin::Cap { next, until } => {
                    let holder = holder.to_owned();
                    Decision::Write(next, Ok(Begin::Busy { holder, until }))
                }
                protocol::Begin::Held => Decision::Leave(Ok(Begin::Held)),
                protocol::Begin::Superseded => Decision::Leave(Ok(Begin::Superseded)),
                protocol::Begin::NotRefreshable(status) => {
                    Decision::Leave(Ok(Begin::NotRefreshable(status)))
                }
                protocol::Begin::Go { next, link } => match self.begun(&next, link, grace, now) {
                    Ok(begun) => Decision::Write(next, Ok(Begin::Go(Box::new(begun)))),
                    Err(source) => Decision::Leave(Err(WriteError::Unreadable {
                        id: id.clone(),
                        source,
                    })),
                },
            }
        });
        let (begin, revision) = decided.await?;
        let begin = begin?;
        let is_there = |current: &Installation, _| {
            let open = current.intent.as_ref();
            open.is_some_and(|open| open.id == intent_id)
        };
        if let Begin::Go(begun) = &begin
            && let Err(error) = self.confirm(id, revision, is_there).await
        {
            self.withdraw(begun).await;
            return Err(error);
        }
        Ok(begin)
    }

    /// Permission to ask for an answer that somebody else lost, without the store's and without a lease:
    /// as [`Begun::again`]. `None` where nothing is in doubt, or the grace is over.
    ///
    /// # Errors
    /// When the token cannot be opened.
    pub fn doubted(&self, known: &Snapshot, grace: Duration) -> Result<Option<Begun>, WriteError> {
        let Snapshot { installation, now } = known;
        let Some((link, first)) = protocol::in_doubt(installation, *now) else {
            return Ok(None);
        };
        let begun = self.begun(installation, link, grace, *now);
        let begun = begun.map_err(|source| WriteError::Unreadable {
            id: installation.id.clone(),
            source,
        })?;
        let begun = Begun {
            first_spent_at: Some(first),
            ..begun
        };
        Ok(begun.again(Duration::ZERO))
    }

    /// Takes back an intent that nothing was sent for. One that cannot be runs out by itself.
    pub async fn withdraw(&self, begun: &Begun) {
        let id = &begun.installation;
        let withdrawn = self.decide_known(id, |current, now| {
            match protocol::withdraw(current, &begun.intent, now, WITHDRAWN) {
                Some(next) => Decision::Write(Box::new(next), ()),
                None => Decision::Leave(()),
            }
        });
        if let Err(error) = withdrawn.await {
            warn!(installation = %id, error = &error as &dyn std::error::Error,
                "an intent stays until it ends");
        }
    }

    /// Stores a granted token pair. Idempotent: any broker may repeat it at any time.
    ///
    /// # Errors
    /// When the store is away, or its replicas do not have the pair: the grant must be kept and
    /// committed again later.
    pub async fn commit(&self, grant: &Grant) -> Result<Committed, WriteError> {
        let id = &grant.installation;
        let seed = id.jitter_seed();
        let due = |now| self.lead.due(grant.ends_at(now), grant.lifetime, seed);
        let tokens = self.seal(grant, grant.spent.generation.next());
        let decided = self.decide_known_revision(id, |current, now| {
            let due = due(now);
            match protocol::commit(current, grant, tokens.clone(), due, now) {
                Commit::Apply(next) => {
                    let applied = Committed::Applied {
                        generation: next.access.generation,
                        due,
                        recovered: Recovered::of(current),
                    };
                    Decision::Write(next, applied)
                }
                Commit::Duplicate => Decision::Leave(Committed::Duplicate),
                Commit::Keep(next) => Decision::Write(next, Committed::Kept),
                Commit::Kept => Decision::Leave(Committed::Kept),
            }
        });
        let (committed, revision) = decided.await?;
        let is_there = |current: &Installation, now| match protocol::commit(
            current,
            grant,
            tokens.clone(),
            due(now),
            now,
        ) {
            Commit::Duplicate | Commit::Kept => true,
            Commit::Apply(_) | Commit::Keep(_) => false,
        };
        self.confirm(id, revision, is_there).await?;
        Ok(committed)
    }

    /// Notes that an attempt got no token. A terminal refusal first tries what was kept.
    ///
    /// # Errors
    /// When the store is away: the intent runs out by itself.
    pub async fn give_back(
        &self,
        id: &InstallationId,
        link: &Link,
        intent: &IntentId,
        verdict: &Verdict,
    ) -> Result<GaveBack, WriteError> {
        self.decide_known(id, |current, now| {
            match protocol::give_back(current, link, intent, verdict, now) {
                Give::Apply(next) => {
                    let noted = GaveBack::Noted {
                        due: next.due,
                        refused: next.refused.clone(),
                    };
                    Decision::Write(next, Ok(noted))
                }
                Give::Superseded => Decision::Leave(Ok(GaveBack::Superseded)),
                Give::Adopt(kept) => match self.adopt(current, link, &kept, now) {
                    Ok(Some(next)) => Decision::Write(Box::new(next), Ok(GaveBack::Adopted)),
                    Ok(None) => Decision::Leave(Ok(GaveBack::Superseded)),
                    Err(source) => Decision::Leave(Err(WriteError::Unreadable {
                        id: id.clone(),
                        source,
                    })),
                },
            }
        })
        .await?
    }

    /// Notes that `broker` still reads a late answer for `begun`, or has stopped to.
    ///
    /// # Errors
    /// When the store is away: the note runs out by itself.
    pub async fn note_late_reader(
        &self,
        begun: &Begun,
        broker: &str,
        is_reading: bool,
    ) -> Result<(), WriteError> {
        self.decide_known(
            &begun.installation,
            |current, now| match protocol::read_late(current, &begun.link, broker, is_reading, now)
            {
                Some(next) => Decision::Write(Box::new(next), ()),
                None => Decision::Leave(()),
            },
        )
        .await
    }

    fn adopt(
        &self,
        current: &Installation,
        refused: &Link,
        kept: &Fingerprint,
        now: Timestamp,
    ) -> Result<Option<Installation>, Unreadable> {
        let Some(alternate) = current.alternates.get(kept) else {
            return Ok(None);
        };
        let ring = &self.rings.refresh;
        let spent = alternate.spent_generation;
        let grant = Grant::open(&current.id, spent, &alternate.grant, ring)?;
        let tokens = self.seal(&grant, refused.generation.next());
        Ok(protocol::adopt(current, refused, &grant, tokens, now))
    }

    fn begun(
        &self,
        next: &Installation,
        link: Link,
        grace: Duration,
        now: Timestamp,
    ) -> Result<Begun, Unreadable> {
        let (Some(chain), Some(intent)) = (&next.chain, &next.intent) else {
            return Err(Unreadable::Missing("rt"));
        };
        let label = refresh_label(&next.id, link.generation);
        Ok(Begun {
            installation: next.id.clone(),
            intent: intent.id.clone(),
            refresh_token: self.rings.refresh.open_token(label, &chain.refresh_token)?,
            user_type: next.access.user_type,
            location: next.access.location.clone(),
            company: next.access.company.clone(),
            began_at: now,
            first_spent_at: intent.is_repeat().then_some(intent.first_spent_at),
            grace,
            refused: next.refused.clone(),
            failures: next.failures,
            last_error: next.last_error.clone(),
            expires_at: next.access.expires_at,
            link,
        })
    }

    fn seal(&self, grant: &Grant, generation: Generation) -> Tokens {
        let id = &grant.installation;
        Tokens {
            access: self.rings.seal_access(id, generation, &grant.access_token),
            refresh: self
                .rings
                .seal_refresh(refresh_label(id, generation), &grant.refresh_token),
            grant: grant.seal(&self.rings.refresh),
        }
    }
}

/// When an attempt is due, where it is not: somebody else was faster, or a failed one is backing
/// off, which no impatience of callers cuts short.
fn not_due(current: &Installation, wanted: Wanted, now: Timestamp) -> Option<Timestamp> {
    let due = current.due.filter(|due| *due > now);
    let is_under_way = current.intent.as_ref().is_some_and(|open| open.until > now);
    let is_backing_off = current.failures > 0 && !is_under_way;
    match wanted {
        Wanted::Due => due,
        Wanted::Past(_) if is_backing_off => due,
        Wanted::Past(_) | Wanted::Now | Wanted::Forced => None,
    }
}
