//! Responses that contain tokens.

use ring::digest;
use serde_json::{Map, Value, json};

use super::request::Spelling;
use crate::app::App;
use crate::grants::Issue;
use crate::ids::hex;
use crate::subject::Subject;
use crate::token::{Claims, GrantId, Use};

/// The fields that `Version: v3` spells differently.
const CAMEL: [(&str, &str); 4] = [
    ("access_token", "accessToken"),
    ("token_type", "tokenType"),
    ("expires_in", "expiresIn"),
    ("refresh_token", "refreshToken"),
];

/// The response of the token endpoint. Its fields depend on the user type.
pub(super) fn tokens(
    app: &App,
    issue: &Issue,
    token_bytes: usize,
    spelling: Spelling,
) -> Map<String, Value> {
    let claims = Claims {
        token_use: Use::Access,
        grant: issue.grant,
        subject: issue.subject.clone(),
        scope: issue.scope.to_string(),
        number: issue.access.serial,
        issued_ms: issue.access.issued_ms,
        expires_ms: issue.access.expires_ms,
    };
    let mut answer = access(app, &claims, token_bytes);
    let mut add = |name: &str, value: Value| answer.insert(name.to_owned(), value);
    if let Some(refresh) = issue.refresh {
        let claims = Claims::refresh(
            issue.grant,
            issue.subject.clone(),
            issue.scope.to_string(),
            refresh.generation,
            refresh.issued_ms,
        );
        let token = app.signer.sign(&claims, 0);
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        add("refreshTokenId", json!(hex(&digest.as_ref()[..12])));
        add("refresh_token", json!(token));
    }
    add("userType", json!(issue.subject.user_type()));
    add("companyId", json!(**issue.subject.company()));
    match &issue.subject {
        Subject::Location { location, .. } => {
            add("locationId", json!(**location));
            add("isBulkInstallation", json!(false));
        }
        // GHL does not name the chosen locations.
        Subject::Company { .. } => {
            add("isBulkInstallation", json!(true));
            add("approveAllLocations", json!(true));
            add("installToFutureLocations", json!(true));
        }
    }
    match spelling {
        Spelling::Snake => answer,
        Spelling::Camel => camel(answer),
    }
}

/// The fields of every response with an access token.
pub(crate) fn access(app: &App, claims: &Claims, token_bytes: usize) -> Map<String, Value> {
    let lifetime_s = claims.expires_ms.saturating_sub(claims.issued_ms) / 1000;
    let mut answer = Map::new();
    for (name, value) in [
        ("access_token", json!(app.signer.sign(claims, token_bytes))),
        ("token_type", json!("Bearer")),
        ("expires_in", json!(lifetime_s)),
        ("scope", json!(claims.scope)),
        ("userId", json!(user_id(claims.grant))),
    ] {
        answer.insert(name.to_owned(), value);
    }
    answer
}

/// The user who consented, with the length of GHL's ids.
fn user_id(grant: GrantId) -> String {
    format!("user{:016x}", grant.0)
}

fn camel(mut answer: Map<String, Value>) -> Map<String, Value> {
    for (snake, camel) in CAMEL {
        if let Some(value) = answer.remove(snake) {
            answer.insert(camel.to_owned(), value);
        }
    }
    answer
}
