//! The sandbox: a local GHL in memory. It lets a newcomer try an app without credentials, and tests check the
//! refresh protocol against its ledger.
//!
//! # GHL's routes
//! `GET|POST [/v2]/oauth/chooselocation` (consent) · `POST /oauth/token` · `POST
//! /oauth/locationToken` and `/oauth/location-token` · `GET /oauth/installedLocations` and
//! `/oauth/installed-locations` · `GET|POST /products` ·
//! `GET|PUT|DELETE /products/{id}` · `GET|POST /contacts` · `POST /contacts/upsert` · `POST
//! /contacts/search` · `GET|PUT|DELETE /contacts/{id}` · `POST /opportunities` · `GET|POST
//! /opportunities/search` · `GET /locations/search` · `GET /locations/{id}` · `GET /companies/{id}` ·
//! `GET|POST|DELETE /mcp/` (the Model Context Protocol) · `POST /medias/upload-file` · `GET /medias/files` · `POST /medias/folder` · `PUT
//! /medias/update-files` · `PUT /medias/delete-files` · `POST|DELETE /medias/{id}` · `DELETE
//! /marketplace/app/{appId}/installations`; all but the first two require a bearer token and a `Version`
//! header. The token must have the kind and the scopes that GHL's documents say.
//!
//! # Consents
//! A consent needs no browser: `POST [/v2]/oauth/chooselocation` takes the fields of the app's link and the
//! choice, from the form or the query, and redirects with the code. The choice is `locationId` (with
//! `companyId` if it is a new location of that company), or a bulk consent with `companyId`. A bulk consent
//! takes `locations` (ids, repeated or separated by commas; all current locations if absent), `all=true` for
//! all locations, and `future=false` to leave out later ones. A further consent adds locations and replaces
//! the choice about later ones. `deny=1` refuses.
//!
//! # The ledger
//! `GET /_sandbox/ledger` returns exact counts since the start:
//! ```json
//! {
//!   "refresh_tokens_issued": 3, "refresh_tokens_spent": 2,
//!   "replays_in_grace": 0, "spent_outside_grace": 0,
//!   "spent_after_revocation": 0, "refreshed_without_rotation": 0,
//!   "calls_ok": 9, "calls_with_expired_token": 0, "calls_with_unknown_token": 0,
//!   "token_calls": {"code_exchanged": 1, "refreshed": 2, "replayed": 0, "invalid_grant": 0,
//!     "invalid_client": 0, "location_inactive": 0, "invalid_request": 0,
//!     "faulted": 0, "answers_lost": 0},
//!   "api_calls": {"ok": 9, "expired_access_token": 0, "unknown_access_token": 0,
//!     "revoked_access_token": 0, "forbidden": 0, "rate_limited": 0, "rejected": 0,
//!     "faulted": 0, "answers_lost": 0},
//!   "grants": 1, "grants_revoked": 0,
//!   "location_tokens_minted": 2, "location_tokens_refused": 0,
//!   "companies": {"…": {"location_tokens_minted": 2, "location_tokens_refused": 0,
//!     "locations_minted": 1, "most_minted_of_a_location": 2, "rate_limited_calls": 0}},
//!   "presented_by_other_client": 0,
//!   "clients": {"sandbox-client": {"refresh_tokens_issued": 3, "refresh_tokens_spent": 2,
//!     "presented_by_other_client": 0}},
//!   "webhooks": {"created": 1, "attempts": 1, "delivered": 1, "abandoned": 0}
//! }
//! ```
//! `companies` has the companies that minted location tokens, or whose own calls got 429.
//! `presented_by_other_client` counts codes and refresh tokens of a client id that came with other client
//! credentials.
//!
//! `?detail=1` adds `installations`, a list of grants. `GET /_sandbox/ledger/{id}` returns `{id,
//! installations}` with the grants of one location or company, oldest first, and its counts of minted and
//! refused location tokens. An entry of `installations`:
//! ```json
//! {
//!   "grant": "00c0ffee00c0ffee", "userType": "Location", "locationId": "…", "companyId": "…",
//!   "clientId": "sandbox-client", "mintedFrom": "00c0ffee00c0ff00",
//!   "granted_ms": 1700000000000, "revoked": false,
//!   "refresh_tokens_issued": 2, "refresh_tokens_spent": 1, "replays_in_grace": 1,
//!   "spent_outside_grace": 0, "spent_after_revocation": 0, "refreshed_without_rotation": 0,
//!   "tokens": [
//!     {"token": "5f2b…", "generation": 1, "issued_ms": 1700000000000,
//!      "spent_ms": 1700000001000, "spent": 2, "replays_in_grace": 1, "spent_outside_grace": 0,
//!      "repeats": [{"at_ms": 1700000001500, "in_grace": true}], "successor": "91ac…"},
//!     {"token": "91ac…", "generation": 2, "issued_ms": 1700000001000, "spent_ms": null,
//!      "spent": 0, "replays_in_grace": 0, "spent_outside_grace": 0, "repeats": [],
//!      "successor": null}
//!   ]
//! }
//! ```
//! `mintedFrom` is the agency's grant of a minted token. `token` and `successor` are the first 12 hex
//! digits of the SHA-256 of the refresh token.
//!
//! # Faults
//! `PUT /_sandbox/faults` sets a list of rules, `GET` returns them with `fired`, `DELETE` removes them:
//! ```json
//! [
//!   {"on": "token", "kind": "status", "status": 429, "retry_after": 2, "next": 3},
//!   {"on": "token", "kind": "status", "status": 502, "body": "html", "share": 0.1, "seed": 7},
//!   {"on": "token", "kind": "status", "status": 200, "body": "missing_refresh_token", "next": 1},
//!   {"on": "token", "kind": "odd_answer", "oddity": "expires_in", "value": "soon", "next": 1},
//!   {"on": "token", "kind": "process_then_lose", "next": 1, "grant": "refresh_token"},
//!   {"on": "api", "kind": "hang", "ms": 500, "next": 1, "locationId": "…"},
//!   {"on": "api", "kind": "process_then_lose", "next": 1, "path": "/oauth/locationToken"}
//! ]
//! ```
//! `locationId` limits a rule to the tokens of a location or company, `path` to the API calls whose path
//! starts with it.
//!
//! Kinds: `status`, `hang` and `slow_body` (with `ms`), `reset_before`, `process_then_lose`, and
//! for the token endpoint `invalid_grant`, `invalid_client`, `location_inactive`, `odd_answer`.
//! `odd_answer` is processed first, then its response is changed. Oddities: `scope_array`, `booleans_as_text`,
//! `camel_case`, `byte_order_mark`, `wrapped`, `gzip`, `expires_in` (with any `value`),
//! `unreadable`, `foreign`. Bodies of
//! `status`: `html`, `truncated_json`, and with 200 for the token endpoint `missing_fields`,
//! `missing_refresh_token`. With an error status or an `html` body the call is not processed. With 200 and
//! another body it is processed first.
//!
//! # Control
//! All of these are `POST` with a JSON object, except where noted. `appId` names the default app if absent.
//!
//! | route | body | effect |
//! | --- | --- | --- |
//! | `/_sandbox/revoke`, `pause`, `resume`, `expire` | `locationId` or `companyId` | changes tokens, not installations |
//! | `/_sandbox/agencies` | `companyId`, `locations` (a number), `name?` | creates an agency with the locations `<companyId>Loc00001` and so on |
//! | `/_sandbox/locations` | `companyId?`, `locationId?`, `name?` | creates a location. If a bulk consent covers it, installs the app and sends INSTALL |
//! | `/_sandbox/install` | `locationId`, `appId?` | an agency user installs the app on one more location. Sends INSTALL |
//! | `/_sandbox/uninstall` | `locationId` or `companyId`, `appId?` | uninstalls the app, ends its tokens, sends UNINSTALL |
//! | `/_sandbox/webhooks` | `type`, `locationId` or `companyId`, `appId?`, `webhookId?`, `timestamp?`, `fields?` | sends a webhook once. `fields` replaces fields of its body, and `null` leaves one out |
//! | `/_sandbox/webhooks/resend` | `webhookId` | sends the original body again, once |
//! | `GET /_sandbox/webhooks` | | the webhooks so far: `body`, `attempts`, `status` |
//! | `GET /_sandbox/webhook-key.pem` | | the key of their signatures |
//! | `GET\|PUT /_sandbox/settings` | any of its fields | shows and changes settings |
//! | `ANY /_sandbox/echo/…` | | an API call that returns the request as it arrived |
//!
//! Webhook types: `INSTALL`, `UNINSTALL`, `UPDATE`, `PLAN_CHANGE`. The settings `webhook_without_company_id`
//! and `webhook_without_user_id` leave these fields out of all of them.

#![warn(missing_docs)]

mod announce;
mod api;
mod app;
mod apps;
mod clock;
mod config;
mod consent;
mod control;
mod directory;
mod error;
mod faults;
mod fields;
mod grants;
mod html;
mod ids;
mod installations;
mod ledger;
mod limits;
mod lingering_close;
pub mod mint;
mod oauth;
mod router;
mod server;
mod settings;

mod subject;
mod token;
mod uninstallation;
mod webhooks;

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;

pub use apps::ClientCredentials;
pub use config::Config;
pub use webhooks::webhook_key_pem;

/// Serves a new sandbox on `listener` until `shutdown`, then waits two seconds for calls in flight.
///
/// # Errors
/// If the system has no random numbers, or if the TLS client for webhooks cannot be built.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let app = app::App::new(&config).map_err(io::Error::other)?;
    server::serve(listener, router::router(Arc::new(app)), shutdown).await
}
