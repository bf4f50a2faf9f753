//! The grants of customers and their tokens: GHL's side of the refresh protocol, as a state machine without
//! I/O. The current time is a parameter.

mod chain;
mod codes;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chain::Exchange;
pub(crate) use chain::{Chain, Position, Record, Repeat, Stamp, Tally};
use codes::Codes;
pub(crate) use codes::Consent;

use crate::subject::{Subject, UserType};
use crate::token::{Claims, GrantId};

/// How many refresh tokens are kept in detail, over all grants. Beyond this, a grant drops its oldest one for
/// every new one.
const MAX_TOKENS: usize = 400_000;

/// The settings of the state machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) lifetime_ms: u64,
    /// For the first access token of a grant, if another one.
    pub(crate) first_lifetime_ms: Option<u64>,
    pub(crate) grace_ms: u64,
    pub(crate) replay_same_access_token: bool,
}

/// Whether a refresh token is exchanged for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotation {
    Rotate,
    /// The response has no refresh token, and the presented one stays valid.
    Keep,
}

#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) subject: Subject,
    pub(crate) scope: Arc<str>,
    pub(crate) granted_ms: u64,
    pub(crate) revoked: bool,
    pub(crate) chain: Chain,
}

/// The tokens to issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) grant: GrantId,
    pub(crate) subject: Subject,
    pub(crate) scope: Arc<str>,
    pub(crate) access: Stamp,
    pub(crate) refresh: Option<Position>,
    pub(crate) replayed: bool,
}

/// Why no tokens are issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Never issued, expired, used, or another client's.
    BadCode,
    OtherRedirectUri,
    OtherUserType,
    /// The location is paused. Nothing was consumed.
    Inactive,
    /// Used, and its grace period is over.
    Spent,
    /// A year old.
    Expired,
    Revoked,
    Unknown,
}

/// The state of an access token of this sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Live,
    Expired,
    Revoked,
}

#[derive(Debug, Default)]
pub(crate) struct Grants {
    grants: HashMap<GrantId, Grant>,
    by_subject: HashMap<Arc<str>, Vec<GrantId>>,
    codes: Codes,
    paused: HashSet<String>,
    /// Per location or company: access tokens up to this serial have expired early.
    expired_up_to: HashMap<String, u64>,
    /// Per location or company: access tokens up to this serial are revoked.
    revoked_up_to: HashMap<String, u64>,
    tokens_kept: usize,
    revoked_count: usize,
    tally: Tally,
}

impl Grants {
    /// Keeps a consent until its code is exchanged.
    pub(crate) fn consent(&mut self, code: String, consent: Consent, now_ms: u64) {
        self.codes.keep(code, consent, now_ms);
    }

    pub(crate) fn consented(&self, code: &str, now_ms: u64) -> Option<&Consent> {
        self.codes.peek(code, now_ms)
    }

    /// Exchanges a code for the first tokens of the new grant `grant`. `serial` is that of the access
    /// token, here and below.
    pub(crate) fn exchange(
        &mut self,
        code: &str,
        client_id: &str,
        redirect_uri: Option<&str>,
        (grant, serial): (GrantId, u64),
        rules: Rules,
        now_ms: u64,
    ) -> Result<Issue, Refusal> {
        let consent = self.codes.peek(code, now_ms);
        let consent = consent
            .filter(|consent| consent.client_id == client_id)
            .ok_or(Refusal::BadCode)?;
        if redirect_uri.is_some_and(|uri| uri != consent.redirect_uri) {
            return Err(Refusal::OtherRedirectUri);
        }
        if self.is_paused(&consent.subject) {
            return Err(Refusal::Inactive);
        }
        let consent = self.codes.take(code).ok_or(Refusal::BadCode)?;
        let start = Position {
            generation: 1,
            issued_ms: now_ms,
        };
        let lifetime_ms = rules.first_lifetime_ms.unwrap_or(rules.lifetime_ms);
        let access = stamp(serial, lifetime_ms, now_ms);
        let scope: Arc<str> = consent.scope.into();
        self.adopt(grant, consent.subject.clone(), &scope, start, access);
        self.tally.refresh_tokens_issued += 1;
        if let Some(adopted) = self.grants.get_mut(&grant) {
            adopted.chain.tally.refresh_tokens_issued += 1;
        }
        Ok(Issue {
            grant,
            subject: consent.subject,
            scope,
            access,
            refresh: Some(start),
            replayed: false,
        })
    }

    /// Exchanges a refresh token with a valid signature.
    pub(crate) fn refresh(
        &mut self,
        presented: &Claims,
        user_type: Option<UserType>,
        rotation: Rotation,
        serial: u64,
        rules: Rules,
        now_ms: u64,
    ) -> Result<Issue, Refusal> {
        if user_type.is_some_and(|user_type| user_type != presented.subject.user_type()) {
            return Err(Refusal::OtherUserType);
        }
        let token = Position {
            generation: presented.number,
            issued_ms: presented.issued_ms,
        };
        let access = stamp(serial, rules.lifetime_ms, now_ms);
        let paused = self.is_paused(&presented.subject);
        if !self.grants.contains_key(&presented.grant) {
            self.remember(presented, token);
        }
        let Some(grant) = self.grants.get_mut(&presented.grant) else {
            return Err(Refusal::Unknown);
        };
        if grant.revoked {
            grant.chain.tally.spent_after_revocation += 1;
            self.tally.spent_after_revocation += 1;
            return Err(Refusal::Revoked);
        }
        if paused {
            return Err(Refusal::Inactive);
        }
        if presented.expires_ms <= now_ms {
            return Err(Refusal::Expired);
        }
        let issue = |refresh, access, replayed, grant: &Grant| Issue {
            grant: presented.grant,
            subject: grant.subject.clone(),
            scope: grant.scope.clone(),
            access,
            refresh,
            replayed,
        };
        if rotation == Rotation::Keep && grant.chain.is_current(token) {
            grant.chain.tally.refreshed_without_rotation += 1;
            self.tally.refreshed_without_rotation += 1;
            return Ok(issue(None, access, false, grant));
        }
        let exchange = grant.chain.present(token, access, now_ms, rules.grace_ms);
        self.tally.add(exchange);
        match exchange {
            Exchange::Rotated { successor } => {
                self.tokens_kept += 1;
                if self.tokens_kept > MAX_TOKENS
                    && grant.chain.forget_oldest(now_ms, rules.grace_ms)
                {
                    self.tokens_kept -= 1;
                }
                Ok(issue(Some(successor), access, false, grant))
            }
            Exchange::Replayed { successor } => {
                let access = rules
                    .replay_same_access_token
                    .then(|| grant.chain.answered_with(successor))
                    .flatten()
                    .unwrap_or(access);
                Ok(issue(Some(successor), access, true, grant))
            }
            Exchange::Spent => Err(Refusal::Spent),
            Exchange::Unknown => Err(Refusal::Unknown),
        }
    }

    /// The state of an access token with a valid signature.
    pub(crate) fn access(&self, claims: &Claims, now_ms: u64) -> Access {
        let id: &str = claims.subject.id();
        let up_to = |serials: &HashMap<String, u64>| {
            serials.get(id).is_some_and(|last| claims.number <= *last)
        };
        let grant = self.grants.get(&claims.grant);
        if grant.is_some_and(|grant| grant.revoked) || up_to(&self.revoked_up_to) {
            Access::Revoked
        } else if claims.expires_ms <= now_ms || up_to(&self.expired_up_to) {
            Access::Expired
        } else {
            Access::Live
        }
    }

    /// Revokes every grant of a location or company. Returns their number.
    pub(crate) fn revoke(&mut self, id: &str, serial: u64) -> usize {
        self.revoked_up_to.insert(id.to_owned(), serial);
        let mut ended = 0;
        for grant in self.by_subject.get(id).into_iter().flatten() {
            if let Some(grant) = self.grants.get_mut(grant)
                && !grant.revoked
            {
                grant.revoked = true;
                ended += 1;
            }
        }
        self.revoked_count += ended;
        ended
    }

    /// Expires all existing access tokens of a location or company.
    pub(crate) fn expire(&mut self, id: &str, serial: u64) {
        self.expired_up_to.insert(id.to_owned(), serial);
    }

    /// Pauses a location or company: refreshes fail with "Location is not active" and consume nothing.
    /// Pausing a company also pauses its locations.
    pub(crate) fn pause(&mut self, id: &str) {
        self.paused.insert(id.to_owned());
    }

    pub(crate) fn resume(&mut self, id: &str) {
        self.paused.remove(id);
    }

    /// The grants of a location or company, oldest first.
    pub(crate) fn of(&self, id: &str) -> impl Iterator<Item = (GrantId, &Grant)> {
        self.by_subject
            .get(id)
            .into_iter()
            .flatten()
            .filter_map(|id| Some((*id, self.grants.get(id)?)))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (GrantId, &Grant)> {
        self.grants.iter().map(|(id, grant)| (*id, grant))
    }

    pub(crate) fn len(&self) -> usize {
        self.grants.len()
    }

    pub(crate) fn revoked_count(&self) -> usize {
        self.revoked_count
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    fn is_paused(&self, subject: &Subject) -> bool {
        [subject.id(), subject.company()]
            .into_iter()
            .any(|id| self.paused.contains(&**id))
    }

    /// Restores a grant from before a restart at the presented token. The token counts as unspent, because
    /// its history is lost.
    fn remember(&mut self, presented: &Claims, token: Position) {
        let scope: Arc<str> = presented.scope.as_str().into();
        let unknown = Stamp {
            serial: 0,
            issued_ms: token.issued_ms,
            expires_ms: token.issued_ms,
        };
        self.adopt(
            presented.grant,
            presented.subject.clone(),
            &scope,
            token,
            unknown,
        );
    }

    fn adopt(
        &mut self,
        id: GrantId,
        subject: Subject,
        scope: &Arc<str>,
        start: Position,
        access: Stamp,
    ) {
        self.tokens_kept += 1;
        self.by_subject
            .entry(subject.id().clone())
            .or_default()
            .push(id);
        let grant = Grant {
            subject,
            scope: scope.clone(),
            granted_ms: start.issued_ms,
            revoked: false,
            chain: Chain::new(start, access),
        };
        self.grants.insert(id, grant);
    }
}

fn stamp(serial: u64, lifetime_ms: u64, now_ms: u64) -> Stamp {
    Stamp {
        serial,
        issued_ms: now_ms,
        expires_ms: now_ms + lifetime_ms,
    }
}

#[cfg(test)]
mod tests;
