//! The broker's settings.

use std::time::Duration;

use ghl::consent::{self, Consent, LoginWindow};
use ghl::webhook::{ED25519_KEY, RSA_KEY, Verifier};
use ghl::{api, token_endpoint};
use secrecy::{ExposeSecret, SecretString};
use service::config::{Settings, Size};
use store::LocationId;
use store_writer::protocol::DEFAULT_GRACE;

use crate::store_check::StoreCheck;

/// What the app asks for where nothing else is set: what the gateway's own routes need.
pub const DEFAULT_SCOPES: &str = "products.readonly products.write contacts.readonly contacts.write \
                              medias.readonly medias.write locations.readonly";
/// Far above what GHL is known to do.
const LONGEST_GRACE: Duration = Duration::from_secs(10 * 60);
/// A claim lasts until the attempt has begun, and is short enough for one that could not begin to be
/// tried again many times inside GHL's grace.
const CLAIM: Duration = Duration::from_secs(2);
const DEFAULT_JOURNAL_MAX: Size = Size::of_bytes(1_000_000_000);
const LEAST_JOURNAL_MAX: Size = Size::of_bytes(1_000_000);
const DEFAULT_REDIRECT_URI: &str = "http://127.0.0.1:8080/oauth/callback";

#[derive(Debug, Clone)]
pub struct Config {
    /// Names this process among the brokers.
    pub name: String,
    pub endpoint: token_endpoint::Config,
    pub consent: Consent,
    /// Whether a callback must carry the state of a consent that began here. GHL's marketplace
    /// starts installations without one.
    pub is_state_required: bool,
    pub verifier: Verifier,
    pub timing: Timing,
    pub scheduler: SchedulerConfig,
    /// Bytes of disk that answers take which the store has confirmed.
    pub journal_max: u64,
    pub static_tokens: Vec<StaticToken>,
    pub store_check: StoreCheck,
}

/// How long the steps of a refresh may take. All follow from how long GHL may.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// One call of the token endpoint.
    pub call: Duration,
    /// From the begin until the outcome counts as unknown.
    pub window: Duration,
    /// The lease. It outlasts the window, and is short enough for another broker to repeat the
    /// call of one that died within GHL's grace of 30 s.
    pub lease: Duration,
    /// For how long GHL answers a token that was sent again as it did the first time. Zero: a token
    /// is never sent twice to get a lost answer.
    pub grace: Duration,
}

impl Timing {
    #[must_use]
    pub fn of(call: Duration, grace: Duration) -> Self {
        Self {
            grace,
            call,
            window: call * 5 / 4,
            lease: call * 3 / 2,
        }
    }
}

#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// Refreshes under way at once.
    pub concurrency: usize,
    /// Refreshes started per second at most.
    pub rate: u32,
    /// For how long claimed work is put off.
    pub claim: Duration,
}

/// A token without a refresh token.
#[derive(Debug, Clone)]
pub struct StaticToken {
    pub token: SecretString,
    pub location: Option<LocationId>,
}

impl Config {
    /// Reads the settings; mistakes are collected there.
    pub fn read(settings: &mut Settings<'_>) -> Self {
        let api_url = settings.url("GHL_API_URL", api::DEFAULT_BASE_URL);
        let redirect_uri = settings.url("GHL_REDIRECT_URI", DEFAULT_REDIRECT_URI);
        let client_id = settings.required(
            "GHL_CLIENT_ID",
            "the client id of your app in GHL's marketplace",
        );
        let client_secrets = client_secrets(settings.secret("GHL_CLIENT_SECRET"));
        if client_secrets.is_empty() {
            settings.mistake(
                "GHL_CLIENT_SECRET",
                "is missing: the client secret of your app, or GHL_CLIENT_SECRET_FILE with its path; \
                 several, separated by commas, while it is changed",
            );
        }
        let default_name = format!("broker-{}", store::random::hex::<4>());
        let name = settings
            .text("EVERGREEN_BROKER_NAME")
            .unwrap_or(default_name);
        let call = settings.duration("EVERGREEN_TOKEN_TIMEOUT", Duration::from_secs(10));
        if call < Duration::from_millis(500) || call > Duration::from_secs(18) {
            settings.mistake(
                "EVERGREEN_TOKEN_TIMEOUT",
                "must be from 500ms to 18s: a lost answer is asked for again within GHL's 30 s",
            );
        }
        let grace = settings.duration("EVERGREEN_REPLAY_GRACE", DEFAULT_GRACE);
        if grace > LONGEST_GRACE {
            settings.mistake(
                "EVERGREEN_REPLAY_GRACE",
                "must be at most 10m: GHL repeats its answer to a refresh token for 30 s",
            );
        }
        let timing = Timing::of(call, grace);
        let concurrency = settings.parse("EVERGREEN_REFRESH_CONCURRENCY", 64, "a number from 1");
        let rate = settings.parse(
            "EVERGREEN_REFRESH_RATE",
            100,
            "refreshes per second, from 1",
        );
        if concurrency == 0 || rate == 0 {
            settings.mistake(
                "EVERGREEN_REFRESH_CONCURRENCY",
                "and EVERGREEN_REFRESH_RATE must be at least 1, or nothing is ever refreshed",
            );
        }
        let journal_max = settings.parse(
            "EVERGREEN_JOURNAL_MAX",
            DEFAULT_JOURNAL_MAX,
            "a size such as 1GB or 500MB",
        );
        if journal_max < LEAST_JOURNAL_MAX {
            settings.mistake(
                "EVERGREEN_JOURNAL_MAX",
                "must be at least 1MB: it holds the answers that a store which loses writes is given \
                 back",
            );
        }
        Self {
            endpoint: token_endpoint::Config {
                url: join(&api_url, "oauth/token"),
                client_id: client_id.clone(),
                client_secrets,
                redirect_uri: redirect_uri.clone(),
                timeout: call,
            },
            consent: Consent {
                url: settings.url("GHL_AUTHORIZE_URL", consent::DEFAULT_URL),
                client_id,
                redirect_uri,
                scopes: settings
                    .text("GHL_SCOPES")
                    .unwrap_or_else(|| DEFAULT_SCOPES.to_owned()),
                login_window: settings.parse(
                    "GHL_LOGIN_WINDOW",
                    LoginWindow::default(),
                    "new or self",
                ),
            },
            is_state_required: settings.parse("EVERGREEN_REQUIRE_STATE", true, "true or false"),
            verifier: read_verifier(settings),
            timing,
            scheduler: SchedulerConfig {
                concurrency,
                rate,
                claim: timing.lease.min(CLAIM),
            },
            journal_max: journal_max.bytes(),
            static_tokens: read_static_tokens(settings),
            store_check: settings.parse(
                "EVERGREEN_STORE_CHECK",
                StoreCheck::default(),
                "enforce or warn",
            ),
            name,
        }
    }
}

/// The first one is used, the next one is tried where GHL refuses it.
fn client_secrets(list: Option<SecretString>) -> Vec<SecretString> {
    let list = list.unwrap_or_default();
    let secrets = list.expose_secret().split(',').map(str::trim);
    secrets
        .filter(|secret| !secret.is_empty())
        .map(SecretString::from)
        .collect()
}

fn join(base: &url::Url, path: &str) -> url::Url {
    let mut joined = base.clone();
    joined.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    joined
}

fn read_verifier(settings: &mut Settings<'_>) -> Verifier {
    let ed25519 = settings.text("GHL_WEBHOOK_ED25519_KEY");
    let rsa = settings.text("GHL_WEBHOOK_RSA_KEY");
    let chosen = Verifier::new(
        ed25519.as_deref().unwrap_or(ED25519_KEY),
        rsa.as_deref().unwrap_or(RSA_KEY),
    );
    chosen.unwrap_or_else(|error| {
        settings.mistake(
            "GHL_WEBHOOK_ED25519_KEY",
            format!("or GHL_WEBHOOK_RSA_KEY is {error}"),
        );
        Verifier::new(ED25519_KEY, RSA_KEY).expect("the built-in keys are keys")
    })
}

fn read_static_tokens(settings: &mut Settings<'_>) -> Vec<StaticToken> {
    let token = settings.secret("GHL_ACCESS_TOKEN");
    let location = settings.parse_optional("GHL_LOCATION_ID", "a location id");
    if token.is_none() && location.is_some() {
        settings.mistake(
            "GHL_LOCATION_ID",
            "names the location of GHL_ACCESS_TOKEN, which is missing",
        );
    }
    token
        .map(|token| StaticToken { token, location })
        .into_iter()
        .collect()
}
