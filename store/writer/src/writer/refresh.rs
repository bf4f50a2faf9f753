//! The operations of a refresh: begin, commit and record a failure.

use std::time::Duration;

use store::record::Unreadable;
use store::{Generation, InstallationId, Timestamp};
use tracing::warn;

use super::{
    Begin, Begun, Committed, Conditions, Decision, FailureOutcome, Recovered, Snapshot,
    StoreWriter, Wanted, WriteError,
};
use crate::grant::{ChainLink, Fingerprint, Grant};
use crate::installation::{Installation, Intent, IntentId, refresh_label};
use crate::lease::Lease;
use crate::protocol::{self, AttemptFailure, Commit, FailureDecision, Tokens};

/// When a withdrawn attempt is retried, if replicas did not have its intent.
const WITHDRAWAL_PAUSE: Duration = Duration::from_secs(1);

impl StoreWriter {
    /// Writes the intent to spend the current refresh token within the window. The write proves that the
    /// store accepts writes, and that its replicas follow.
    ///
    /// # Errors
    /// When the store is unavailable or refuses, the token cannot be decrypted, or too few replicas have the
    /// intent. In the last case the intent is withdrawn.
    pub async fn begin(
        &self,
        lease: &Lease,
        conditions: Conditions<'_>,
    ) -> Result<Begin, WriteError> {
        let Conditions {
            holder,
            apps,
            window,
            wanted,
            is_after_outage,
            may_spend_new,
            grace,
            is_orphan,
        } = conditions;
        let id = lease.installation();
        let intent_id = IntentId::random();
        let decided = self.decide_revision(id, |current, now| {
            let Some(current) = current else {
                return Decision::Leave(Ok(Begin::Unknown));
            };
            if let Some(parent) = current.access.parent.as_ref().filter(|_| !is_orphan) {
                return Decision::Leave(Ok(Begin::Derived(parent.clone())));
            }
            if wanted == Wanted::Due
                && let Some(next) = protocol::claim_list(current, now)
            {
                return Decision::Write(Box::new(next), Ok(Begin::ListDue));
            }
            if let Some(next) = protocol::remind(current, now) {
                return Decision::Write(Box::new(next), Ok(Begin::OldToken));
            }
            if let Some(due) = not_due(current, wanted, now) {
                return Decision::Leave(Ok(Begin::NotDue(due)));
            }
            if !apps.include(current) {
                return match protocol::postpone(current, protocol::UNKNOWN_APP_PAUSE, grace, now) {
                    Some(next) => Decision::Write(Box::new(next), Ok(Begin::UnknownApp)),
                    None => Decision::Leave(Ok(Begin::UnknownApp)),
                };
            }
            let unless_past = match wanted {
                Wanted::Past(generation) => Some(generation),
                Wanted::Due | Wanted::Now | Wanted::Forced => None,
            };
            // An invalid installation is due at intervals, because GHL may have refused it wrongly.
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
                is_after_outage,
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
                protocol::Begin::Deferred => Decision::Leave(Ok(Begin::Deferred)),
                protocol::Begin::Superseded => Decision::Leave(Ok(Begin::Superseded)),
                protocol::Begin::NotRefreshable(status) => {
                    Decision::Leave(Ok(Begin::NotRefreshable(status)))
                }
                protocol::Begin::Go { next, link } => match self.begun(&next, link, grace, now) {
                    Ok(begun) => {
                        let earlier = current.intent.as_ref();
                        let begun = Begun {
                            is_takeover: earlier.is_some_and(|earlier| earlier.holder != holder),
                            ..begun
                        };
                        Decision::Write(next, Ok(Begin::Go(Box::new(begun))))
                    }
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

    /// The permit to retry a call whose response another attempt lost, without a write to the store and
    /// without a lease: see [`Begun::retry`]. `None` if no response is lost, or GHL's grace period is over.
    ///
    /// # Errors
    /// When the token cannot be decrypted.
    pub fn adopt_lost_response(
        &self,
        known: &Snapshot,
        grace: Duration,
    ) -> Result<Option<Begun>, WriteError> {
        let Snapshot { installation, now } = known;
        let Some((link, first)) = protocol::lost_response(installation, *now) else {
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
        Ok(begun.retry(Duration::ZERO))
    }

    /// Withdraws an intent for which nothing was sent. On an error the intent ends by itself.
    pub async fn withdraw(&self, begun: &Begun) {
        let id = &begun.installation;
        let withdrawn = self.decide_known(id, |current, now| {
            match protocol::withdraw(current, &begun.intent, now, WITHDRAWAL_PAUSE) {
                Some(next) => Decision::Write(Box::new(next), ()),
                None => Decision::Leave(()),
            }
        });
        if let Err(error) = withdrawn.await {
            warn!(installation = %id, error = &error as &dyn std::error::Error,
                "an intent cannot be withdrawn and blocks the installation until it ends");
        }
    }

    /// Stores a granted token pair. Idempotent: any broker may repeat it at any time.
    ///
    /// # Errors
    /// When the store is unavailable, or too few replicas have the pair. The grant must then be retained and
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
                Commit::AddAlternate(next) => Decision::Write(next, Committed::NotCurrent),
                Commit::Ignore => Decision::Leave(Committed::NotCurrent),
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
            Commit::Duplicate | Commit::Ignore => true,
            Commit::Apply(_) | Commit::AddAlternate(_) => false,
        };
        self.confirm(id, revision, is_there).await?;
        Ok(committed)
    }

    /// Records that an attempt got no token. Before a final refusal it adopts an alternate, if there is one.
    ///
    /// # Errors
    /// When the store is unavailable. The intent then ends by itself.
    pub async fn record_failure(
        &self,
        id: &InstallationId,
        link: &ChainLink,
        intent: &IntentId,
        failure: &AttemptFailure,
    ) -> Result<FailureOutcome, WriteError> {
        self.decide_known(id, |current, now| {
            match protocol::record_failure(current, link, intent, failure, now) {
                FailureDecision::Apply(next) => {
                    let recorded = FailureOutcome::Recorded {
                        due: next.due,
                        refused: next.refused.clone(),
                    };
                    Decision::Write(next, Ok(recorded))
                }
                FailureDecision::Superseded => Decision::Leave(Ok(FailureOutcome::Superseded)),
                FailureDecision::Adopt(alternate) => match self
                    .adopt(current, link, &alternate, now)
                {
                    Ok(Some(next)) => Decision::Write(Box::new(next), Ok(FailureOutcome::Adopted)),
                    Ok(None) => Decision::Leave(Ok(FailureOutcome::Superseded)),
                    Err(source) => Decision::Leave(Err(WriteError::Unreadable {
                        id: id.clone(),
                        source,
                    })),
                },
            }
        })
        .await?
    }

    /// Records that `broker` still reads a late response for `begun`, or that it has stopped.
    ///
    /// # Errors
    /// When the store is unavailable. The entry then expires by itself.
    pub async fn record_late_reader(
        &self,
        begun: &Begun,
        broker: &str,
        is_reading: bool,
    ) -> Result<(), WriteError> {
        self.decide_known(
            &begun.installation,
            |current, now| match protocol::record_late_reader(
                current,
                &begun.link,
                broker,
                is_reading,
                now,
            ) {
                Some(next) => Decision::Write(Box::new(next), ()),
                None => Decision::Leave(()),
            },
        )
        .await
    }

    fn adopt(
        &self,
        current: &Installation,
        refused: &ChainLink,
        fingerprint: &Fingerprint,
        now: Timestamp,
    ) -> Result<Option<Installation>, Unreadable> {
        let Some(alternate) = current.alternates.get(fingerprint) else {
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
        link: ChainLink,
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
            client: next.client.clone(),
            app: next.access.app.clone(),
            user_type: next.access.user_type,
            location: next.access.location.clone(),
            company: next.access.company.clone(),
            began_at: now,
            first_spent_at: intent.is_retry().then_some(intent.first_spent_at),
            grace,
            refused: next.refused.clone(),
            failures: next.failures,
            last_error: next.last_error.clone(),
            expires_at: next.access.expires_at,
            is_takeover: false,
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

/// When an attempt is due, if it is not due now. Another broker was faster, or a failed attempt backs off.
/// Requests of callers do not shorten a backoff.
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
