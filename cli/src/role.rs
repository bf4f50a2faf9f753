//! The process that settings are for.

use clap::ValueEnum;
use service::config::Source;

/// A process that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Everything in one process
    Up,
    /// A broker, over Redis
    Broker,
    /// A gateway, over Redis
    Gateway,
}

impl Role {
    /// The name of its command.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Broker => "broker",
            Self::Gateway => "gateway",
        }
    }

    /// The process that these settings can only be for: `up` has no Redis, and a gateway no secrets of GHL.
    pub(crate) fn guess(source: &dyn Source) -> Self {
        let is_set = |key: &str| {
            let value = source.get(key);
            value.is_some_and(|it| !it.trim().is_empty())
        };
        let is_secret_set = |key: &str| {
            let others = ["_FILE", "_COMMAND"].map(|suffix| format!("{key}{suffix}"));
            is_set(key) || others.iter().any(|key| is_set(key))
        };
        let of_broker = ["EVERGREEN_REFRESH_KEYS", "GHL_CLIENT_SECRET"];
        if !is_secret_set("EVERGREEN_REDIS_URL") {
            Self::Up
        } else if of_broker.into_iter().any(is_secret_set) {
            Self::Broker
        } else {
            Self::Gateway
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn role_is_guessed_from_the_secrets() {
        for (keys, expected) in [
            (&[][..], Role::Up),
            (&["GHL_CLIENT_SECRET"], Role::Up),
            (&["EVERGREEN_REDIS_URL"], Role::Gateway),
            (
                &["EVERGREEN_REDIS_URL_FILE", "EVERGREEN_ACCESS_KEYS"],
                Role::Gateway,
            ),
            (
                &["EVERGREEN_REDIS_URL", "GHL_CLIENT_SECRET_FILE"],
                Role::Broker,
            ),
            (
                &["EVERGREEN_REDIS_URL", "EVERGREEN_REFRESH_KEYS_COMMAND"],
                Role::Broker,
            ),
        ] {
            let keys = keys.iter();
            let source: HashMap<String, String> = keys
                .map(|key| ((*key).to_owned(), "x".to_owned()))
                .collect();
            assert_eq!(Role::guess(&source), expected, "{source:?}");
        }
    }
}
