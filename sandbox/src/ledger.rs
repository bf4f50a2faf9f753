//! The ledger: what happened to every token. Tests check the refresh protocol against it.
//!
//! The counts are exact while the sandbox runs. Details are kept for about 400,000 refresh tokens. Each is
//! identified by the first 12 hex digits of its SHA-256.

mod companies;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::app::World;
use crate::grants::{Chain, ClientTally, Grant, Record, Repeat, Tally};
use crate::subject::UserType;
use crate::token::{Claims, GrantId, Identity, Signer, fingerprint};
use crate::webhooks::WebhookCounts;
pub(crate) use companies::{Companies, CompanyCounts, MintCounts};

/// Calls of the token endpoint, by outcome.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct TokenCalls {
    pub(crate) code_exchanged: u64,
    pub(crate) refreshed: u64,
    pub(crate) replayed: u64,
    pub(crate) invalid_grant: u64,
    pub(crate) invalid_client: u64,
    pub(crate) location_inactive: u64,
    pub(crate) invalid_request: u64,
    /// Not processed because of a fault.
    pub(crate) faulted: u64,
    /// Processed and counted above, but a fault closed the connection.
    pub(crate) answers_lost: u64,
}

/// API calls, by outcome.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct ApiCalls {
    pub(crate) ok: u64,
    pub(crate) expired_access_token: u64,
    /// No bearer token, or one that this sandbox never issued.
    pub(crate) unknown_access_token: u64,
    pub(crate) revoked_access_token: u64,
    /// 403.
    pub(crate) forbidden: u64,
    pub(crate) rate_limited: u64,
    /// Any other error of the caller.
    pub(crate) rejected: u64,
    /// Not processed because of a fault.
    pub(crate) faulted: u64,
    /// Processed and counted above, but a fault closed the connection.
    pub(crate) answers_lost: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calls {
    pub(crate) token: TokenCalls,
    pub(crate) api: ApiCalls,
}

/// The outcome of a call of the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenOutcome {
    CodeExchanged,
    Refreshed,
    Replayed,
    InvalidGrant,
    InvalidClient,
    LocationInactive,
    InvalidRequest,
    Faulted,
}

/// The outcome of an API call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApiOutcome {
    Ok,
    Expired,
    Unknown,
    Revoked,
    Forbidden,
    RateLimited,
    Rejected,
    Faulted,
}

impl TokenCalls {
    pub(crate) fn count(&mut self, outcome: TokenOutcome) {
        let count = match outcome {
            TokenOutcome::CodeExchanged => &mut self.code_exchanged,
            TokenOutcome::Refreshed => &mut self.refreshed,
            TokenOutcome::Replayed => &mut self.replayed,
            TokenOutcome::InvalidGrant => &mut self.invalid_grant,
            TokenOutcome::InvalidClient => &mut self.invalid_client,
            TokenOutcome::LocationInactive => &mut self.location_inactive,
            TokenOutcome::InvalidRequest => &mut self.invalid_request,
            TokenOutcome::Faulted => &mut self.faulted,
        };
        *count += 1;
    }
}

impl ApiCalls {
    pub(crate) fn count(&mut self, outcome: ApiOutcome) {
        let count = match outcome {
            ApiOutcome::Ok => &mut self.ok,
            ApiOutcome::Expired => &mut self.expired_access_token,
            ApiOutcome::Unknown => &mut self.unknown_access_token,
            ApiOutcome::Revoked => &mut self.revoked_access_token,
            ApiOutcome::Forbidden => &mut self.forbidden,
            ApiOutcome::RateLimited => &mut self.rate_limited,
            ApiOutcome::Rejected => &mut self.rejected,
            ApiOutcome::Faulted => &mut self.faulted,
        };
        *count += 1;
    }
}

/// `GET /_sandbox/ledger`.
#[derive(Debug, Serialize)]
pub(crate) struct Totals {
    #[serde(flatten)]
    tally: Tally,
    calls_ok: u64,
    calls_with_expired_token: u64,
    calls_with_unknown_token: u64,
    token_calls: TokenCalls,
    api_calls: ApiCalls,
    grants: usize,
    grants_revoked: usize,
    #[serde(flatten)]
    mints: MintCounts,
    /// By company id.
    companies: BTreeMap<String, CompanyCounts>,
    /// Codes and refresh tokens that came with other client credentials than their own.
    presented_by_other_client: u64,
    /// By client id.
    clients: BTreeMap<String, ClientTally>,
    webhooks: WebhookCounts,
}

impl Totals {
    pub(crate) fn new(world: &World) -> Self {
        let World {
            grants,
            calls,
            companies,
            webhooks,
            ..
        } = world;
        let clients = grants.clients();
        let presented = clients.values();
        let presented = presented.map(|tally| tally.presented_by_other_client);
        Self {
            tally: grants.tally(),
            calls_ok: calls.api.ok,
            calls_with_expired_token: calls.api.expired_access_token,
            calls_with_unknown_token: calls.api.unknown_access_token,
            token_calls: calls.token,
            api_calls: calls.api,
            grants: grants.len(),
            grants_revoked: grants.revoked_count(),
            mints: companies.total(),
            companies: companies.all(),
            presented_by_other_client: presented.sum(),
            clients,
            webhooks: webhooks.counts(),
        }
    }
}

/// A copy of a grant, so that it can be serialized without the lock.
#[derive(Debug)]
pub(crate) struct Snapshot {
    identity: Identity,
    granted_ms: u64,
    revoked: bool,
    chain: Chain,
}

/// One grant and its refresh tokens in order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GrantEntry {
    grant: String,
    user_type: UserType,
    #[serde(skip_serializing_if = "Option::is_none")]
    location_id: Option<String>,
    company_id: String,
    client_id: String,
    /// The agency's grant that a location's tokens were minted from.
    #[serde(skip_serializing_if = "Option::is_none")]
    minted_from: Option<String>,
    #[serde(rename = "granted_ms")]
    granted_ms: u64,
    revoked: bool,
    #[serde(flatten)]
    tally: Tally,
    tokens: Vec<TokenEntry>,
}

#[derive(Debug, Serialize)]
struct TokenEntry {
    token: String,
    generation: u64,
    issued_ms: u64,
    spent_ms: Option<u64>,
    /// How often it was presented while the grant was valid, including the first time.
    spent: u32,
    replays_in_grace: u32,
    spent_outside_grace: u32,
    /// The first repeats, oldest first.
    repeats: Vec<Repeat>,
    successor: Option<String>,
}

impl Snapshot {
    pub(crate) fn of((_, grant): (GrantId, &Grant)) -> Self {
        Self {
            identity: grant.identity.clone(),
            granted_ms: grant.granted_ms,
            revoked: grant.revoked,
            chain: grant.chain.clone(),
        }
    }

    /// The JSON of the grant. It signs every token again to compute its fingerprint, so call it without the
    /// lock.
    pub(crate) fn entry(&self, signer: &Signer) -> GrantEntry {
        let mut tokens: Vec<_> = self
            .chain
            .records()
            .map(|(generation, record)| {
                let token = self.token(signer, generation, record.issued_ms);
                TokenEntry::new(token, generation, record)
            })
            .collect();
        let successors: Vec<_> = tokens
            .iter()
            .skip(1)
            .map(|next| next.token.clone())
            .collect();
        for (token, successor) in tokens.iter_mut().zip(successors) {
            token.successor = Some(successor);
        }
        let subject = &self.identity.subject;
        GrantEntry {
            grant: grant_text(self.identity.grant),
            user_type: subject.user_type(),
            location_id: subject.location().map(ToString::to_string),
            company_id: subject.company().to_string(),
            client_id: self.identity.client.to_string(),
            minted_from: self.identity.agency_grant.map(grant_text),
            granted_ms: self.granted_ms,
            revoked: self.revoked,
            tally: self.chain.tally,
            tokens,
        }
    }

    fn token(&self, signer: &Signer, generation: u64, issued_ms: u64) -> String {
        let claims = Claims::refresh(self.identity.clone(), generation, issued_ms);
        fingerprint(&signer.sign(&claims, 0))
    }
}

fn grant_text(grant: GrantId) -> String {
    format!("{:016x}", grant.0)
}

impl TokenEntry {
    fn new(token: String, generation: u64, record: &Record) -> Self {
        Self {
            token,
            generation,
            issued_ms: record.issued_ms,
            spent_ms: record.spent_ms,
            spent: u32::from(record.spent_ms.is_some())
                + record.replays
                + record.spent_outside_grace,
            replays_in_grace: record.replays,
            spent_outside_grace: record.spent_outside_grace,
            repeats: record.repeats.clone(),
            successor: None,
        }
    }
}
