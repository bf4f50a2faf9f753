//! The end of grants: revocation by the customer, uninstallation, and replacement by a new consent.

use super::{Access, Grant, Grants};
use crate::subject::UserType;
use crate::token::{Claims, GrantId, Identity};

impl Grants {
    /// The state of an access token with a valid signature.
    pub(crate) fn access(&self, claims: &Claims, now_ms: u64) -> Access {
        let identity = &claims.identity;
        let id: &str = identity.subject.id();
        let company: &str = identity.subject.company();
        let revoked_up_to = self.revoked_up_to.get(identity.app());
        let revoked = |id: &str| {
            revoked_up_to
                .and_then(|serials| serials.get(id))
                .is_some_and(|last| claims.number <= *last)
        };
        let expired = |id: &str| {
            self.expired_up_to
                .get(id)
                .is_some_and(|last| claims.number <= *last)
        };
        let is_minted = identity.agency_grant.is_some();
        let ended = self.is_revoked(identity.grant)
            || identity
                .agency_grant
                .is_some_and(|grant| self.is_revoked(grant))
            || revoked(id)
            || (is_minted && revoked(company));
        if ended {
            Access::Revoked
        } else if claims.expires_ms <= now_ms || expired(id) {
            Access::Expired
        } else {
            Access::Live
        }
    }

    /// Revokes every grant of a location or company for one app. A company's end also ends the grants that
    /// were minted from it. Returns the number of grants that ended.
    pub(crate) fn revoke(&mut self, app: &str, id: &str, serial: u64) -> usize {
        self.end_access_tokens(app, id, serial);
        let own: Vec<GrantId> = self
            .of(id)
            .filter(|(_, grant)| grant.identity.app() == app)
            .map(|(id, _)| id)
            .collect();
        let ended = self.end_each(&own);
        let is_location = own.first().is_some_and(|grant| {
            self.grants
                .get(grant)
                .is_some_and(|grant| grant.identity.subject.location().is_some())
        });
        if is_location {
            return ended;
        }
        ended
            + self.end(|grant| {
                let is_minted = grant.identity.agency_grant.is_some();
                is_minted
                    && grant.identity.app() == app
                    && **grant.identity.subject.company() == *id
            })
    }

    /// Revokes every grant of a company and of all its locations for one app.
    pub(crate) fn revoke_with_locations<'l>(
        &mut self,
        app: &str,
        company: &str,
        locations: impl Iterator<Item = &'l str>,
        serial: u64,
    ) -> usize {
        self.end_access_tokens(app, company, serial);
        for location in locations {
            self.end_access_tokens(app, location, serial);
        }
        self.end(|grant| {
            grant.identity.app() == app && **grant.identity.subject.company() == *company
        })
    }

    /// Ends the codes of a location, or of a company and its locations, that were not exchanged yet.
    pub(crate) fn forget_codes(&mut self, app: &str, id: &str) {
        self.codes.forget(app, id);
    }

    /// Revokes the earlier grants of the same app and subject, and what was minted from them.
    pub(super) fn revoke_replaced(&mut self, new: &Identity) {
        let replaced: Vec<GrantId> = self
            .of(new.subject.id())
            .filter(|(_, grant)| grant.identity.app() == new.app())
            .map(|(id, _)| id)
            .collect();
        let is_company = new.subject.user_type() == UserType::Company;
        if is_company {
            self.end(|grant| {
                replaced.contains(&grant.identity.grant)
                    || grant
                        .identity
                        .agency_grant
                        .is_some_and(|agency| replaced.contains(&agency))
            });
        } else {
            self.end_each(&replaced);
        }
    }

    fn is_revoked(&self, grant: GrantId) -> bool {
        self.grants.get(&grant).is_some_and(|grant| grant.revoked)
    }

    fn end_access_tokens(&mut self, app: &str, id: &str, serial: u64) {
        self.revoked_up_to
            .entry(app.to_owned())
            .or_default()
            .insert(id.to_owned(), serial);
    }

    /// Revokes the grants that `ends` selects.
    fn end(&mut self, ends: impl Fn(&Grant) -> bool) -> usize {
        let mut ended = 0;
        for grant in self.grants.values_mut() {
            if !grant.revoked && ends(grant) {
                grant.revoked = true;
                ended += 1;
            }
        }
        self.revoked_count += ended;
        ended
    }

    fn end_each(&mut self, ids: &[GrantId]) -> usize {
        let mut ended = 0;
        for id in ids {
            if let Some(grant) = self.grants.get_mut(id)
                && !grant.revoked
            {
                grant.revoked = true;
                ended += 1;
            }
        }
        self.revoked_count += ended;
        ended
    }
}
