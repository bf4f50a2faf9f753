//! One lock node, and its health as found by doing what a lock does.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use redis::{Client, ErrorKind, RedisError};
use store::clock::Moment;
use store::connection::{BadAddress, CommandError, Connection, Link};
use tokio::time::timeout;

/// A node that answers slower than this would slow every lock down.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a node is to remember us: far longer than we are silent.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How a lock node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Up,
    /// Refused, silent, or cut off.
    Away(String),
    /// There, and says no: a wrong password, a missing right, a replica, no memory.
    Refuses(String),
    /// Came back empty: it may have forgotten a lock that somebody relies on until then.
    Forgot {
        until: Moment,
    },
}

impl Health {
    /// Every value of [`Health::as_str`].
    pub const STATES: [&str; 4] = ["up", "away", "refuses", "forgot"];

    pub(super) fn is_usable(&self) -> bool {
        match self {
            Self::Up => true,
            Self::Away(_) | Self::Refuses(_) | Self::Forgot { .. } => false,
        }
    }

    /// The state in one word: up, away, refuses, forgot.
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
    pub(crate) client: Client,
    pub(crate) link: Link,
    /// A key of this process, by which a node shows that it remembers.
    key: String,
    memory: Duration,
    state: Mutex<State>,
}

struct State {
    health: Health,
    /// Whether the node has our key.
    is_known: bool,
    /// Until when it may have forgotten a lock.
    suspect_until: Option<Moment>,
}

impl Node {
    pub(super) fn new(client: Client, key: String, memory: Duration) -> Result<Self, BadAddress> {
        Ok(Self {
            link: Link::new(client.clone())?,
            client,
            key,
            memory,
            state: Mutex::new(State {
                health: Health::Away("not seen yet".to_owned()),
                is_known: false,
                suspect_until: None,
            }),
        })
    }

    pub(crate) fn health(&self) -> Health {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.health.clone()
    }

    /// Writes our key, and sees whether it was still there: a PING would pass on a replica, with
    /// rights that do not suffice, and on a node that lost its memory. Returns the health if it is
    /// another than before.
    pub(super) async fn examine(&self) -> Option<Health> {
        let mut command = redis::cmd("SET");
        command.arg(&self.key).arg("1");
        command.arg("PX").arg(REMEMBERED.as_millis()).arg("GET");
        let probe = self
            .link
            .run(async |mut redis: Connection| command.query_async(&mut redis).await);
        let found: Result<Option<String>, Health> = match timeout(PATIENCE, probe).await {
            Ok(Ok(earlier)) => Ok(earlier),
            Ok(Err(CommandError::Redis(error) | CommandError::NoMaster(error))) => {
                Err(classify(&error))
            }
            Ok(Err(CommandError::TimedOut)) | Err(_) => Err(Health::Away(format!(
                "no answer within {} ms",
                PATIENCE.as_millis()
            ))),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(found, Ok(None)) && state.is_known {
            state.suspect_until = Some(Moment::now() + self.memory);
        }
        state.is_known |= found.is_ok();
        let now = match (found, state.suspect_until) {
            (Err(sick), _) => sick,
            (Ok(_), Some(until)) if Moment::now() < until => Health::Forgot { until },
            (Ok(_), Some(_) | None) => Health::Up,
        };
        let is_new = state.health.as_str() != now.as_str();
        state.health.clone_from(&now);
        is_new.then_some(now)
    }

    /// Host and port: never the password.
    pub(crate) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }
}

fn classify(error: &RedisError) -> Health {
    // What Redis itself said begins with a code, such as NOAUTH; the library has no kind for most.
    if error.code().is_some() || error.kind() == ErrorKind::AuthenticationFailed {
        Health::Refuses(error.to_string())
    } else {
        Health::Away(error.to_string())
    }
}
