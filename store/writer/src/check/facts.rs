//! What servers tell about themselves.

use std::collections::HashMap;

use store::Timestamp;
use store::clock::Moment;

/// What one server told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Host and port.
    pub server: String,
    /// `None`: this user may not ask.
    pub info: Option<Info>,
    /// `None`: this user may not ask.
    pub config: Option<Config>,
    pub clock: ClockReading,
    /// How many replicas must have a write.
    pub replicas_wanted: usize,
}

/// What `INFO` tells. `None`: it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    pub maxmemory: Option<u64>,
    pub policy: Option<String>,
    /// Whether writes are logged in an append-only file.
    pub aof: Option<bool>,
    /// Replicas that are in step.
    pub replicas: Option<usize>,
}

/// What `CONFIG GET` tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    pub fsync: Option<String>,
    /// Whether the log is not synced while it is rewritten.
    pub pauses_fsync: bool,
    /// When snapshots are saved; empty: never.
    pub save: Option<String>,
}

/// A server's clock, and this machine's at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    pub told: Timestamp,
    pub here: Timestamp,
    pub at: Moment,
}

impl Info {
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

/// `slave0`, `slave1`, …
fn is_replica(field: &str) -> bool {
    let number = field.strip_prefix("slave");
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

impl Config {
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
