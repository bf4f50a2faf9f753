//! One lock node and its health, checked with the operation that a lock uses.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use redis::{Client, ErrorKind, RedisError};
use store::clock::Moment;
use store::connection::{BadAddress, CommandError, Connection, RedisClient};
use store::names::Prefix;
use tokio::time::timeout;

/// A node that answers more slowly would slow down every lock.
const PROBE_TIMEOUT: Duration = Duration::from_millis(200);
/// The TTL of our key on a node: far longer than the interval of the checks.
const PROBE_TTL: Duration = Duration::from_secs(600);

/// The health of a lock node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The node can be used.
    Up,
    /// The node refuses connections, does not answer, or is unreachable.
    Away(String),
    /// The node answers with an error: a wrong password, a missing permission, a replica, or no memory.
    Refuses(String),
    /// The node restarted empty. Until then it may lack a lock that a broker relies on.
    Forgot {
        /// When every lock that it lost has expired.
        until: Moment,
    },
}

impl Health {
    /// Every value of [`Health::as_str`].
    pub const STATES: [&str; 4] = ["up", "away", "refuses", "forgot"];

    /// Whether locks can be taken on the node.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        match self {
            Self::Up => true,
            Self::Away(_) | Self::Refuses(_) | Self::Forgot { .. } => false,
        }
    }

    /// The state in one word, as in metrics: `up`, `away`, `refuses` or `forgot`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Away(_) => "away",
            Self::Refuses(_) => "refuses",
            Self::Forgot { .. } => "forgot",
        }
    }
}

pub(crate) struct Node {
    pub(crate) raw_client: Client,
    pub(crate) client: RedisClient,
    /// A key of this process. Its loss shows that the node lost its data.
    key: String,
    max_lock_ttl: Duration,
    state: Mutex<State>,
}

struct State {
    health: Health,
    /// Whether the node had our key.
    has_our_key: bool,
    /// Until when the node may lack a lock.
    suspect_until: Option<Moment>,
}

impl Node {
    pub(super) fn new(
        (raw_client, prefix): (Client, &Prefix),
        key: String,
        max_lock_ttl: Duration,
    ) -> Result<Self, BadAddress> {
        Ok(Self {
            client: RedisClient::single(raw_client.clone(), prefix.clone())?,
            raw_client,
            key,
            max_lock_ttl,
            state: Mutex::new(State {
                health: Health::Away("not seen yet".to_owned()),
                has_our_key: false,
                suspect_until: None,
            }),
        })
    }

    pub(crate) fn health(&self) -> Health {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.health.clone()
    }

    /// Writes our key and checks whether it was still there. A PING would also succeed on a replica, without
    /// the needed permissions, and on a node that lost its data. Returns the health if it changed.
    pub(super) async fn examine(&self) -> Option<Health> {
        let mut command = redis::cmd("SET");
        command.arg(&self.key).arg("1");
        command.arg("PX").arg(PROBE_TTL.as_millis()).arg("GET");
        let probe = self
            .client
            .run(async |mut redis: Connection| command.query_async(&mut redis).await);
        let found: Result<Option<String>, Health> = match timeout(PROBE_TIMEOUT, probe).await {
            Ok(Ok(earlier)) => Ok(earlier),
            Ok(Err(CommandError::Redis(error) | CommandError::NoMaster(error))) => {
                Err(classify(&error))
            }
            Ok(Err(CommandError::TimedOut)) | Err(_) => Err(Health::Away(format!(
                "no answer within {} ms",
                PROBE_TIMEOUT.as_millis()
            ))),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(found, Ok(None)) && state.has_our_key {
            state.suspect_until = Some(Moment::now() + self.max_lock_ttl);
        }
        state.has_our_key |= found.is_ok();
        let now = match (found, state.suspect_until) {
            (Err(unhealthy), _) => unhealthy,
            (Ok(_), Some(until)) if Moment::now() < until => Health::Forgot { until },
            (Ok(_), Some(_) | None) => Health::Up,
        };
        let is_new = state.health.as_str() != now.as_str();
        state.health.clone_from(&now);
        is_new.then_some(now)
    }

    /// Host and port, never the password.
    pub(crate) fn address(&self) -> String {
        self.raw_client.get_connection_info().addr().to_string()
    }
}

fn classify(error: &RedisError) -> Health {
    // An error of Redis itself begins with a code such as NOAUTH. The library has no kind for most codes.
    if error.code().is_some() || error.kind() == ErrorKind::AuthenticationFailed {
        Health::Refuses(error.to_string())
    } else {
        Health::Away(error.to_string())
    }
}
