//! Responses that contain tokens.

use ring::digest;
use serde_json::{Map, Value, json};

use super::request::Spelling;
use crate::app::App;
use crate::apps::version_id;
use crate::grants::Issue;
use crate::ids::hex;
use crate::installations::AgencyConsent;
use crate::subject::Subject;
use crate::token::{Claims, GrantId, Use};

/// The fields that `Version: v3` spells differently.
const CAMEL: [(&str, &str); 4] = [
    ("access_token", "accessToken"),
    ("token_type", "tokenType"),
    ("expires_in", "expiresIn"),
    ("refresh_token", "refreshToken"),
];

impl Spelling {
    /// Renames the fields of a token response.
    pub(crate) fn spell(self, mut response: Map<String, Value>) -> Map<String, Value> {
        if self == Self::Camel {
            for (snake, camel) in CAMEL {
                if let Some(value) = response.remove(snake) {
                    response.insert(camel.to_owned(), value);
                }
            }
        }
        response
    }
}

/// The response of the token endpoint. Its fields depend on the user type.
pub(super) fn of_grant(app: &App, issue: &Issue, token_bytes: usize) -> Map<String, Value> {
    let mut response = tokens(app, issue, token_bytes);
    let identity = &issue.identity;
    let mut add = |name: &str, value: bool| response.insert(name.to_owned(), json!(value));
    match &identity.subject {
        Subject::Location { .. } => {
            add("isBulkInstallation", false);
        }
        // GHL does not name the chosen locations.
        Subject::Company { company } => {
            let mut world = app.world();
            let locations = world.directory.count(company);
            let now_ms = app.clock.now_ms();
            world.installations.restore(identity, locations, now_ms);
            let consent = world.installations.agency(identity.app(), company);
            let is_set = |flag: fn(&AgencyConsent) -> bool| consent.is_none_or(flag);
            add("isBulkInstallation", true);
            add(
                "approveAllLocations",
                is_set(|consent| consent.is_for_all_locations),
            );
            add(
                "installToFutureLocations",
                is_set(|consent| consent.installs_to_future_locations),
            );
        }
    }
    response
}

/// The response for a token that an agency minted for one of its locations.
pub(crate) fn of_location(app: &App, issue: &Issue, token_bytes: usize) -> Map<String, Value> {
    let mut response = tokens(app, issue, token_bytes);
    let app_id = issue.identity.app();
    for (name, value) in [
        ("appId", app_id.to_owned()),
        ("versionId", version_id(app_id)),
        ("traceId", app.ids.uuid()),
    ] {
        response.insert(name.to_owned(), json!(value));
    }
    response
}

/// The fields of every token response.
fn tokens(app: &App, issue: &Issue, token_bytes: usize) -> Map<String, Value> {
    let identity = &issue.identity;
    let claims = Claims {
        token_use: Use::Access,
        identity: identity.clone(),
        number: issue.access.serial,
        issued_ms: issue.access.issued_ms,
        expires_ms: issue.access.expires_ms,
    };
    let lifetime_s = claims.expires_ms.saturating_sub(claims.issued_ms) / 1000;
    let mut response = Map::new();
    let mut add = |name: &str, value: Value| response.insert(name.to_owned(), value);
    add("access_token", json!(app.signer.sign(&claims, token_bytes)));
    add("token_type", json!("Bearer"));
    add("expires_in", json!(lifetime_s));
    add("scope", json!(*identity.scope));
    add("userId", json!(user_id(identity.consented_grant())));
    add("userType", json!(identity.subject.user_type()));
    add("companyId", json!(**identity.subject.company()));
    if let Some(location) = identity.subject.location() {
        add("locationId", json!(**location));
    }
    if let Some(refresh) = issue.refresh {
        let claims = Claims::refresh(identity.clone(), refresh.generation, refresh.issued_ms);
        let token = app.signer.sign(&claims, 0);
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        add("refreshTokenId", json!(hex(&digest.as_ref()[..12])));
        add("refresh_token", json!(token));
    }
    response
}

/// The user who consented, with the length of GHL's ids.
pub(crate) fn user_id(grant: GrantId) -> String {
    format!("user{:016x}", grant.0)
}
