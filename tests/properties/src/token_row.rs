//! Rows of tokens that other backends have kept: `ghl::token_row`.

use ghl::TokenRow;
use ghl::token_row::split;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::input::{self, assert_showable};

/// The longest text of a refused row.
const LONGEST: usize = 300;

/// Each row is usable or refused without a quotation, and a usable one means the same when it is written again.
pub fn check(bytes: &[u8]) {
    let text = input::text(bytes);
    let entries = match split(&text) {
        Ok(entries) => entries,
        Err(error) => return assert_showable(&error.to_string(), LONGEST),
    };
    assert!(!entries.is_empty() || text.trim_start_matches('\u{feff}').trim() == "[]");
    for entry in entries {
        assert_showable(&entry.place.to_string(), LONGEST);
        let parsed = entry
            .raw
            .and_then(|raw| TokenRow::parse(raw, entry.key.as_deref()));
        match parsed {
            Ok(row) => {
                is_usable(&row);
                is_the_same_when_written_again(&row);
            }
            Err(error) => assert_showable(&error.to_string(), LONGEST),
        }
    }
}

fn is_usable(row: &TokenRow) {
    for token in row.access_token.iter().chain([&row.refresh_token]) {
        let token = token.expose_secret();
        assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    match row.user_type {
        "Location" => assert!(row.location_id.is_some()),
        other => {
            assert!(other == "Company" && row.location_id.is_none() && row.company_id.is_some())
        }
    }
    assert!(row.lifetime.as_secs() >= 1 && row.lifetime.as_secs() <= 7 * 86_400);
    assert!(
        row.expires_at_ms
            .is_none_or(|at| (0..5_000_000_000_000).contains(&at))
    );
    assert!(
        row.tags.len() <= 32
            && row
                .tags
                .iter()
                .all(|tag| (1..=64).contains(&tag.chars().count()))
    );
}

/// As the export writes it.
fn is_the_same_when_written_again(row: &TokenRow) {
    let access_token = row.access_token.as_ref().map(ExposeSecret::expose_secret);
    let mut written = json!({
        "access_token": access_token,
        "refresh_token": row.refresh_token.expose_secret(),
        "scope": row.scope,
        "userType": row.user_type,
        "locationId": row.location_id,
        "companyId": row.company_id,
        "app": row.app,
        "clientId": row.client_id,
        "external_id": row.external_id,
        "tags": row.tags,
    });
    // A time that only the token's claims have may be outside of the range that a row may state.
    let stated = row
        .expires_at_ms
        .filter(|at| *at >= 1_514_764_800_000 && *at < 4_102_444_800_000);
    written["expires_at"] = Value::from(stated);
    let again = TokenRow::parse(&written.to_string(), None).expect("a row like an accepted one");
    assert_eq!(
        again.refresh_token.expose_secret(),
        row.refresh_token.expose_secret()
    );
    assert_eq!(
        again.access_token.as_ref().map(ExposeSecret::expose_secret),
        access_token
    );
    assert_eq!(
        (
            again.user_type,
            again.location_id,
            again.company_id,
            again.scope,
            again.tags
        ),
        (
            row.user_type,
            row.location_id.clone(),
            row.company_id.clone(),
            row.scope.clone(),
            row.tags.clone()
        )
    );
    assert_eq!(
        (again.external_id, again.app),
        (row.external_id.clone(), row.app.clone())
    );
    if stated == row.expires_at_ms {
        assert_eq!(again.expires_at_ms, row.expires_at_ms);
    }
}
