//! Rows of an import.

use std::time::Duration;

use sandbox::mint::{Consented, Mint};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use store::Timestamp;

/// The size of an access token, in bytes.
const TOKEN_BYTES: usize = 600;

/// A row for each of these locations, whose tokens a sandbox accepts. The access tokens expire after `lifetime`.
///
/// # Panics
/// If this machine's clock is before 1970.
pub fn minted(locations: impl Iterator<Item = String>, lifetime: Duration) -> Vec<Value> {
    let mint = Mint::new(&sandbox::Config::default());
    let now = Timestamp::of_this_machine().as_millis();
    let issued_ms = u64::try_from(now).expect("after 1970");
    let row = |location: String| {
        let consented = Consented {
            location: location.as_str().into(),
            company: "comp".into(),
            scope: broker::DEFAULT_SCOPES.to_owned(),
            issued_ms,
        };
        let minted = mint.tokens(consented, lifetime, TOKEN_BYTES);
        json!({
            "access_token": minted.access_token.expose_secret(),
            "refresh_token": minted.refresh_token.expose_secret(),
            "expires_in": lifetime.as_secs(),
            "userType": "Location",
            "locationId": location,
        })
    };
    locations.map(row).collect()
}
