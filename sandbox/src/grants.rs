//! The grants of customers and their tokens: GHL's side of the refresh protocol, as a state machine without
//! I/O. The current time is a parameter.

mod chain;
mod codes;
mod revocation;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use chain::Exchange;
pub(crate) use chain::{Chain, Position, Record, Repeat, Stamp, Tally};
use codes::Codes;
pub(crate) use codes::Consent;

use crate::subject::{Subject, UserType};
use crate::token::{Claims, GrantId, Identity};

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
    /// Whether a new consent ends the earlier grants of the same location or company.
    pub(crate) revoke_replaced: bool,
}

/// Whether a refresh token is exchanged for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotation {
    Rotate,
    /// The response has no refresh token, and the presented one stays valid.
    Keep,
}

/// How a refresh token is presented.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presentation<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) user_type: Option<UserType>,
    pub(crate) rotation: Rotation,
}

#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) identity: Identity,
    pub(crate) granted_ms: u64,
    pub(crate) revoked: bool,
    pub(crate) chain: Chain,
}

/// The tokens to issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) identity: Identity,
    pub(crate) access: Stamp,
    pub(crate) refresh: Option<Position>,
    pub(crate) replayed: bool,
}

/// Why no tokens are issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Never issued, expired, or used.
    BadCode,
    /// The code or token was issued to another client id. Nothing was consumed.
    OtherClient,
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
    /// Per app, and location or company: access tokens up to this serial are revoked.
    revoked_up_to: HashMap<String, HashMap<String, u64>>,
    tokens_kept: usize,
    revoked_count: usize,
    tally: Tally,
    clients: BTreeMap<Arc<str>, ClientTally>,
}

/// Counts over the refresh tokens of one client id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ClientTally {
    pub(crate) refresh_tokens_issued: u64,
    pub(crate) refresh_tokens_spent: u64,
    /// Its tokens or codes that were presented with other client credentials.
    pub(crate) presented_by_other_client: u64,
}

impl Grants {
    /// Keeps a consent until its code is exchanged.
    pub(crate) fn consent(&mut self, code: String, consent: Consent, now_ms: u64) {
        self.codes.keep(code, consent, now_ms);
    }

    pub(crate) fn consented(&self, code: &str, now_ms: u64) -> Option<&Consent> {
        self.codes.peek(code, now_ms)
    }

    /// Exchanges a code for the first tokens of its grant. `serial` is that of the access token, here and
    /// below.
    pub(crate) fn exchange(
        &mut self,
        code: &str,
        client_id: &str,
        redirect_uri: Option<&str>,
        serial: u64,
        rules: Rules,
        now_ms: u64,
    ) -> Result<Issue, Refusal> {
        let consent = self.codes.peek(code, now_ms).ok_or(Refusal::BadCode)?;
        if *consent.identity.client != *client_id {
            let client = consent.identity.client.clone();
            return Err(self.other_client(&client));
        }
        if redirect_uri.is_some_and(|uri| uri != consent.redirect_uri) {
            return Err(Refusal::OtherRedirectUri);
        }
        if self.is_paused(&consent.identity.subject) {
            return Err(Refusal::Inactive);
        }
        let consent = self.codes.take(code).ok_or(Refusal::BadCode)?;
        if rules.revoke_replaced {
            self.revoke_replaced(&consent.identity);
        }
        let lifetime_ms = rules.first_lifetime_ms.unwrap_or(rules.lifetime_ms);
        Ok(self.begin(consent.identity, serial, lifetime_ms, now_ms))
    }

    /// Issues the first tokens of a location's new grant `grant` to an agency. It consumes nothing.
    pub(crate) fn mint(
        &mut self,
        agency: &Identity,
        location: Subject,
        (grant, serial): (GrantId, u64),
        rules: Rules,
        now_ms: u64,
    ) -> Result<Issue, Refusal> {
        if self.is_paused(&location) {
            return Err(Refusal::Inactive);
        }
        let identity = Identity {
            grant,
            subject: location,
            agency_grant: Some(agency.grant),
            ..agency.clone()
        };
        Ok(self.begin(identity, serial, rules.lifetime_ms, now_ms))
    }

    /// Starts a grant and issues its first tokens.
    fn begin(&mut self, identity: Identity, serial: u64, lifetime_ms: u64, now_ms: u64) -> Issue {
        let start = Position {
            generation: 1,
            issued_ms: now_ms,
        };
        let access = stamp(serial, lifetime_ms, now_ms);
        self.adopt(identity.clone(), start, access);
        self.tally.refresh_tokens_issued += 1;
        self.client(&identity.client).refresh_tokens_issued += 1;
        if let Some(adopted) = self.grants.get_mut(&identity.grant) {
            adopted.chain.tally.refresh_tokens_issued += 1;
        }
        Issue {
            identity,
            access,
            refresh: Some(start),
            replayed: false,
        }
    }

    fn client(&mut self, client: &Arc<str>) -> &mut ClientTally {
        self.clients.entry(client.clone()).or_default()
    }

    fn other_client(&mut self, client: &Arc<str>) -> Refusal {
        self.client(client).presented_by_other_client += 1;
        Refusal::OtherClient
    }

    /// Exchanges a refresh token with a valid signature.
    pub(crate) fn refresh(
        &mut self,
        presented: &Claims,
        presentation: Presentation<'_>,
        serial: u64,
        rules: Rules,
        now_ms: u64,
    ) -> Result<Issue, Refusal> {
        let Presentation {
            client_id,
            user_type,
            rotation,
        } = presentation;
        let identity = &presented.identity;
        if *identity.client != *client_id {
            return Err(self.other_client(&identity.client));
        }
        if user_type.is_some_and(|user_type| user_type != identity.subject.user_type()) {
            return Err(Refusal::OtherUserType);
        }
        let token = Position {
            generation: presented.number,
            issued_ms: presented.issued_ms,
        };
        let access = stamp(serial, rules.lifetime_ms, now_ms);
        let paused = self.is_paused(&identity.subject);
        if !self.grants.contains_key(&identity.grant) {
            self.remember(presented, token);
        }
        let Some(grant) = self.grants.get_mut(&identity.grant) else {
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
            identity: grant.identity.clone(),
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
                let client = self.clients.entry(identity.client.clone()).or_default();
                client.refresh_tokens_spent += 1;
                client.refresh_tokens_issued += 1;
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

    /// The counts of each client id that was issued tokens or refused.
    pub(crate) fn clients(&self) -> BTreeMap<String, ClientTally> {
        let clients = self.clients.iter();
        clients
            .map(|(id, tally)| (id.to_string(), *tally))
            .collect()
    }

    fn is_paused(&self, subject: &Subject) -> bool {
        [subject.id(), subject.company()]
            .into_iter()
            .any(|id| self.paused.contains(&**id))
    }

    /// Restores a grant from before a restart at the presented token. The token counts as unspent, because
    /// its history is lost.
    fn remember(&mut self, presented: &Claims, token: Position) {
        let unknown = Stamp {
            serial: 0,
            issued_ms: token.issued_ms,
            expires_ms: token.issued_ms,
        };
        self.adopt(presented.identity.clone(), token, unknown);
    }

    fn adopt(&mut self, identity: Identity, start: Position, access: Stamp) {
        self.tokens_kept += 1;
        let id = identity.grant;
        self.by_subject
            .entry(identity.subject.id().clone())
            .or_default()
            .push(id);
        let grant = Grant {
            identity,
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
