//! Self-reports of servers.

use std::collections::HashMap;

use store::Timestamp;
use store::clock::Moment;

/// The report of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The server's `host:port`.
    pub server: String,
    /// The report of `INFO`; `None`: this user may not ask.
    pub info: Option<Info>,
    /// The report of `CONFIG GET`; `None`: this user may not ask.
    pub config: Option<Config>,
    /// The server's clock.
    pub clock: ClockReading,
    /// The number of replicas that must have a write.
    pub replicas_wanted: usize,
}

/// The report of `INFO`. `None` in a field: not reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// The memory limit in bytes; 0: none.
    pub maxmemory: Option<u64>,
    /// The eviction policy, `maxmemory_policy`.
    pub policy: Option<String>,
    /// Whether writes are logged in an append-only file.
    pub aof: Option<bool>,
    /// The number of replicas that are in sync.
    pub replicas: Option<usize>,
}

/// The report of `CONFIG GET`. `None` in a field: not reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The sync policy of the append-only file, `appendfsync`.
    pub fsync: Option<String>,
    /// Whether the append-only file is not synced while it is rewritten.
    pub pauses_fsync: bool,
    /// The schedule of snapshots, `save`; empty: no snapshots.
    pub save: Option<String>,
}

/// A server's clock and this machine's clock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The server's time.
    pub server_time: Timestamp,
    /// This machine's wall clock.
    pub local_time: Timestamp,
    /// When both were read.
    pub at: Moment,
}

impl Info {
    /// Parses the answer to `INFO`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let fields: HashMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.trim().split_once(':'))
            .collect();
        let has_role = fields.contains_key("role");
        let online = fields
            .iter()
            .filter(|(name, value)| is_replica(name) && value.contains("state=online"));
        Self {
            maxmemory: fields.get("maxmemory").and_then(|bytes| bytes.parse().ok()),
            policy: fields
                .get("maxmemory_policy")
                .map(|policy| (*policy).to_owned()),
            aof: fields.get("aof_enabled").map(|is_on| *is_on == "1"),
            replicas: has_role.then(|| online.count()),
        }
    }
}

/// A field of a replica: `slave0`, `slave1`, …
fn is_replica(field: &str) -> bool {
    let number = field.strip_prefix("slave");
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

impl Config {
    /// From the answers to `CONFIG GET`.
    #[must_use]
    pub fn of(settings: &HashMap<String, String>) -> Self {
        let get = |name: &str| settings.get(name).cloned();
        Self {
            fsync: get("appendfsync"),
            pauses_fsync: get("no-appendfsync-on-rewrite").as_deref() == Some("yes"),
            save: get("save"),
        }
    }
}
