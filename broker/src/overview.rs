//! The state of everything at a glance, for the console's first page and `evergreen status`.
//!
//! | module | contents |
//! | --- | --- |
//! | `gather` | collects the facts, each within a time limit |
//! | `advice` | what is wrong, the worst first, and what to do: a pure function of the facts |
//! | `statistics`, `counts`, `presence` | counts of the last day, and the processes that run |
//! | `chart` | charts as SVG |

pub(crate) mod advice;
pub(crate) mod chart;
pub(crate) mod counts;
pub(crate) mod gather;
pub(crate) mod presence;
pub(crate) mod statistics;

use std::collections::BTreeMap;

use serde::Serialize;
use store_writer::writer::Bucket;
use utoipa::ToSchema;

use advice::Advice;
use presence::Kind;

/// The series of [`History`], in the order in which they are shown.
pub(crate) const SERIES: [&str; 16] = [
    "refreshed",
    "refused",
    "unreachable",
    "credentials",
    "own",
    "minted",
    "connected",
    "webhooks",
    "forwarded",
    "call_refused",
    "call_failed",
    "ghl_4xx",
    "ghl_429",
    "ghl_5xx",
    "delivered",
    "undelivered",
];

/// The whole deployment, as one broker knows it. A member is `null` if it could not be learned in time.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Overview {
    /// When it was made, in the store's time.
    pub(crate) at: String,
    /// The name of the broker that made it.
    pub(crate) broker: String,
    /// The version of that broker.
    #[schema(value_type = String)]
    pub(crate) version: &'static str,
    /// Whether GHL is the sandbox of this machine.
    pub(crate) sandbox: bool,
    /// The problems, the worst first. Empty if all is well.
    pub(crate) advice: Vec<Advice>,
    pub(crate) installations: Option<Installations>,
    /// The installations whose access tokens expire first. Each is refreshed before.
    pub(crate) expiries: Option<Vec<Expiry>>,
    pub(crate) refreshes: Option<Refreshes>,
    /// GHL, as this broker's refreshes find it.
    pub(crate) ghl: Ghl,
    /// The brokers and gateways that were seen within the last minute.
    pub(crate) processes: Option<Vec<Process>>,
    /// `null` if there are none.
    pub(crate) lock_nodes: Option<LockNodes>,
    pub(crate) store: Store,
    /// Why this broker is not ready. Empty if it is.
    pub(crate) not_ready: Vec<NotReady>,
    /// The endpoints of events of this broker's settings.
    pub(crate) endpoints: Option<Vec<Endpoint>>,
    /// Apps with installations that are due, and that no broker knows.
    pub(crate) unclaimed: Option<Vec<Unclaimed>>,
    /// Sealing keys that no record needs any more.
    pub(crate) removable_sealing_keys: Option<Vec<RemovableKey>>,
    /// Whether there is a live key with which a backend can call or fetch tokens.
    pub(crate) has_caller_key: Option<bool>,
    pub(crate) history: Option<History>,
    /// The members that could not be learned.
    #[schema(value_type = Vec<String>)]
    pub(crate) unknown: Vec<&'static str>,
}

/// All installations.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = InstallationCount)]
pub(crate) struct Installations {
    /// How many there are now.
    pub(crate) total: u64,
    /// How many are in each state: `valid`, `suspect`, `paused`, `invalid`, `revoked`, `static`, `asleep` and
    /// `unreadable`. `null` until a broker has counted them.
    #[schema(value_type = Option<BTreeMap<String, u64>>)]
    pub(crate) by_state: Option<BTreeMap<&'static str, u64>>,
    /// When they were counted by state.
    pub(crate) counted_at: Option<String>,
    /// How many seconds ago that was.
    pub(crate) age: Option<u64>,
}

/// An access token that expires soon.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SoonExpiry)]
pub(crate) struct Expiry {
    pub(crate) installation_id: String,
    /// Its name for people: its external id, the name of the company, or its location or company.
    pub(crate) name: String,
    pub(crate) app: String,
    pub(crate) expires_at: String,
    /// Seconds; 0 once expired.
    pub(crate) expires_in: u64,
}

/// The refreshes that are due.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RefreshBacklog)]
pub(crate) struct Refreshes {
    /// Installations that are due, and that no broker has claimed.
    pub(crate) due: u64,
    /// For how many seconds the first of them has been due.
    pub(crate) oldest_due: Option<u64>,
    /// Access tokens that have expired, and should have been refreshed.
    pub(crate) expired: u64,
    /// Access tokens that expire within five minutes.
    pub(crate) expiring: u64,
    /// Attempts and consents in this broker's journal that have not ended. `null` if it cannot be read.
    pub(crate) in_journal: Option<usize>,
}

/// GHL's token endpoint.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = GhlState)]
pub(crate) struct Ghl {
    /// Whether no new refresh token is spent, since the outcome of refreshes is unknown.
    pub(crate) outage: bool,
    /// Whether it refuses the refresh tokens of all installations.
    pub(crate) refuses_all: bool,
    pub(crate) apps: Vec<App>,
}

/// An app of this broker.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AppState)]
pub(crate) struct App {
    pub(crate) name: String,
    /// Whether GHL refuses its client id and secret.
    pub(crate) credentials_rejected: bool,
    /// Why its refreshes pause. `null` if they do not.
    #[schema(value_type = Option<String>)]
    pub(crate) pause: Option<&'static str>,
    /// Where GHL sends customers after their consent.
    pub(crate) redirect_uri: String,
}

/// A process that runs.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Process {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) started_at: String,
    pub(crate) seen_at: String,
}

/// The lock nodes, as this broker sees them.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LockNodes {
    pub(crate) nodes: Vec<LockNode>,
    /// How many must be usable.
    pub(crate) needed: usize,
}

/// A lock node.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LockNode {
    pub(crate) address: String,
    /// `up`, `away`, `refuses` or `forgot`.
    #[schema(value_type = String)]
    pub(crate) state: &'static str,
    pub(crate) usable: bool,
}

/// The store.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StoreState)]
pub(crate) struct Store {
    /// `file` or `redis`.
    #[schema(value_type = String)]
    pub(crate) kind: &'static str,
    /// The findings of the last check. `null` if there was no check yet.
    pub(crate) findings: Option<Vec<Finding>>,
}

/// Why the store is not as safe as it could be.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StoreFinding)]
pub(crate) struct Finding {
    #[schema(value_type = String)]
    pub(crate) reason: &'static str,
    /// Whether tokens may be lost.
    #[serde(rename = "unsafe")]
    pub(crate) is_unsafe: bool,
    pub(crate) text: String,
}

/// A reason of `/readyz`.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotReady {
    #[schema(value_type = String)]
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// For how many seconds it has been so.
    pub(crate) seconds: u64,
}

/// An endpoint of events.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EndpointState)]
pub(crate) struct Endpoint {
    pub(crate) id: String,
    /// Subjects with messages that are not delivered yet.
    pub(crate) waiting: u64,
    /// Those of them whose first message failed at least once.
    pub(crate) failing: u64,
    /// Messages that were given up.
    pub(crate) dead_letters: u64,
    /// Whether this broker finds it down.
    pub(crate) down: bool,
}

/// Installations of an app that no broker knows.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UnclaimedInstallations)]
pub(crate) struct Unclaimed {
    pub(crate) app: String,
    pub(crate) due: u64,
}

/// A sealing key that may be removed from the settings.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RemovableKey {
    /// The setting that has it.
    #[schema(value_type = String)]
    pub(crate) setting: &'static str,
    pub(crate) id: String,
}

/// Counts of the last 24 hours.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct History {
    /// When the first bucket begins.
    pub(crate) from: String,
    /// The length of a bucket: 300.
    pub(crate) bucket_seconds: u64,
    /// The counts of 288 buckets, by what is counted. The last bucket is not over.
    #[schema(value_type = BTreeMap<String, Vec<u64>>)]
    pub(crate) series: BTreeMap<&'static str, Vec<u64>>,
    /// Their sums.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub(crate) totals: BTreeMap<&'static str, u64>,
    /// The last bucket.
    #[serde(skip)]
    pub(crate) last: Bucket,
}

impl History {
    /// The sum of a series over its last `buckets`.
    pub(crate) fn sum(&self, name: &str, buckets: usize) -> u64 {
        let series = self.series.get(name).map_or(&[][..], Vec::as_slice);
        series.iter().rev().take(buckets).sum()
    }

    /// The counts of a series. Empty if there is none with this name.
    pub(crate) fn of(&self, name: &str) -> &[u64] {
        self.series.get(name).map_or(&[], Vec::as_slice)
    }
}
