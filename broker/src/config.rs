//! The broker's settings.

use std::time::Duration;

use ghl::api;
use secrecy::SecretString;
use service::client_address::TrustedProxies;
use service::config::{Settings, Size};
use service::rate_limit::Rate;
use service::receive;
use store::{LocationId, Quota};
use store_writer::protocol::DEFAULT_GRACE;
use url::Url;

use crate::apps::{self, AppConfig};
use crate::audit::AuditLog;
use crate::connect::return_urls::ReturnUrls;
use crate::events::endpoint::Endpoint;
use crate::events::{client, config as events};
use crate::health::store_check::StoreCheck;

/// Far above GHL's documented grace period of 30 s.
const LONGEST_GRACE: Duration = Duration::from_secs(10 * 60);
/// A claim lasts until the attempt has begun. It is short, so that an attempt that could not begin is tried
/// again many times inside GHL's grace period.
const CLAIM: Duration = Duration::from_secs(2);
const DEFAULT_JOURNAL_MAX: Size = Size::of_bytes(1_000_000_000);
const LEAST_JOURNAL_MAX: Size = Size::of_bytes(1_000_000);

/// All settings of a broker.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of this process among the brokers (`EVERGREEN_BROKER_NAME`).
    pub name: String,
    /// The base of GHL's API (`GHL_API_URL`).
    pub api_url: Url,
    /// The apps at GHL.
    pub apps: Vec<AppConfig>,
    /// The receivers of events and of forwarded webhooks.
    pub endpoints: Vec<Endpoint>,
    /// How they are reached.
    pub events_client: client::Config,
    /// Whether a callback must carry the state of a consent that began here. Installations that begin in
    /// GHL's marketplace have none.
    pub is_state_required: bool,
    /// Code exchanges that one address may cause (`EVERGREEN_CONSENT_RATE`).
    pub consent_rate: Rate,
    /// Where a customer's browser may be sent after a consent (`EVERGREEN_RETURN_URLS`).
    pub return_urls: ReturnUrls,
    /// Whether the public link may carry an external id (`EVERGREEN_PUBLIC_EXTERNAL_IDS`). Anybody can write it.
    pub has_public_external_ids: bool,
    /// Where the audit log is written besides the store.
    pub audit_log: AuditLog,
    /// The load balancers that say where a request for administration comes from.
    pub trusted_proxies: TrustedProxies,
    /// The memory for all bodies that are being received, in bytes (`EVERGREEN_RECEIVE_MEMORY`).
    pub receive_memory: u64,
    /// The timeouts of a refresh.
    pub timing: Timing,
    /// The limits of the scheduler.
    pub scheduler: SchedulerConfig,
    /// The most bytes that confirmed responses take in the journal.
    pub journal_max: u64,
    /// Access tokens without a refresh token.
    pub static_tokens: Vec<StaticToken>,
    /// The reaction to an unsafe store.
    pub store_check: StoreCheck,
}

/// The timeouts of a refresh. All follow from the timeout of the token endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The timeout of one call of the token endpoint (`EVERGREEN_TOKEN_TIMEOUT`).
    pub call: Duration,
    /// From the begin of an attempt until its outcome counts as unknown.
    pub window: Duration,
    /// The lifetime of a lease. It outlasts the window. It is short enough that another broker can retry for
    /// a dead one within GHL's grace period of 30 s.
    pub lease: Duration,
    /// How long GHL replays its response to a token that is sent again (`EVERGREEN_REPLAY_GRACE`). If zero, a
    /// token is never sent again for a lost response.
    pub grace: Duration,
}

impl Timing {
    /// The timeouts for a call of the token endpoint and GHL's grace period.
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

/// The limits of the scheduler.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// The most refreshes in flight (`EVERGREEN_REFRESH_CONCURRENCY`).
    pub concurrency: usize,
    /// The most refreshes started per second (`EVERGREEN_REFRESH_RATE`).
    pub rate: u32,
    /// How long a claimed installation is hidden from other brokers.
    pub claim: Duration,
}

/// An access token without a refresh token.
#[derive(Debug, Clone)]
pub struct StaticToken {
    /// The access token (`GHL_ACCESS_TOKEN`).
    pub token: SecretString,
    /// The location of the token, if known (`GHL_LOCATION_ID`).
    pub location: Option<LocationId>,
}

impl Config {
    /// Reads the settings. Mistakes are collected in `settings`.
    pub fn read(settings: &mut Settings<'_>) -> Self {
        let api_url = settings.url_for_secrets("GHL_API_URL", api::DEFAULT_BASE_URL);
        let default_name = format!("broker-{}", store::random::hex::<4>());
        let name = settings
            .text("EVERGREEN_BROKER_NAME")
            .unwrap_or(default_name);
        let call = settings.duration("EVERGREEN_TOKEN_TIMEOUT", Duration::from_secs(10));
        if call < Duration::from_millis(500) || call > Duration::from_secs(18) {
            settings.mistake(
                "EVERGREEN_TOKEN_TIMEOUT",
                "must be from 500ms to 18s: a lost response is retried within GHL's grace period of 30 s",
            );
        }
        let grace = settings.duration("EVERGREEN_REPLAY_GRACE", DEFAULT_GRACE);
        if grace > LONGEST_GRACE {
            settings.mistake(
                "EVERGREEN_REPLAY_GRACE",
                "must be at most 10m: GHL replays its response to a refresh token for 30 s",
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
                "must be at least 1MB: it holds the responses that are restored to a store that loses \
                 writes",
            );
        }
        let events_client = client::Config::read(settings);
        Self {
            apps: apps::config::read(settings, &api_url, call),
            endpoints: events::read(settings, events_client.private_addresses),
            events_client,
            api_url,
            is_state_required: settings.parse("EVERGREEN_REQUIRE_STATE", false, "true or false"),
            consent_rate: read_consent_rate(settings),
            return_urls: ReturnUrls::read(settings),
            has_public_external_ids: settings.parse(
                "EVERGREEN_PUBLIC_EXTERNAL_IDS",
                false,
                "true or false",
            ),
            audit_log: settings.text("EVERGREEN_AUDIT_LOG").into(),
            trusted_proxies: TrustedProxies::read(settings),
            receive_memory: receive::read_memory(settings),
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

/// A made-up code costs a call of GHL's token endpoint, and GHL limits those. A person needs one call.
fn read_consent_rate(settings: &mut Settings<'_>) -> Rate {
    let default: Quota = "20/10s".parse().expect("a rate");
    let rate = settings.parse(
        "EVERGREEN_CONSENT_RATE",
        default,
        "code exchanges per interval such as 20/10s",
    );
    Rate::new(rate.calls(), rate.interval())
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
