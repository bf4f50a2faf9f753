//! The health of one lock node, found by doing what a lock does.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use redis::{Client, ErrorKind, RedisError};
use store::connection::{BadAddress, CommandError, Connection, Link};
use tokio::time::timeout;

/// A node that answers slower than this would slow every lock down.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    Up,
    /// Refused, silent, or cut off.
    Away(String),
    /// There, and says no: a wrong password, a missing right, a replica, no memory.
    Refuses(String),
}

pub(super) struct Node {
    pub(super) client: Client,
    probe: Link,
    health: Mutex<Health>,
}

impl Node {
    pub(super) fn new(client: Client) -> Result<Self, BadAddress> {
        Ok(Self {
            probe: Link::new(client.clone())?,
            client,
            health: Mutex::new(Health::Up),
        })
    }

    pub(super) fn health(&self) -> Health {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.clone()
    }

    /// Writes a key of its own that lives for a moment: a PING would pass on a replica, and with
    /// rights that do not suffice. Returns the health if it is another than before.
    pub(super) async fn examine(&self, key: &str) -> Option<Health> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg("1").arg("PX").arg(1000);
        let probe = self
            .probe
            .run(async |mut redis: Connection| command.query_async::<()>(&mut redis).await);
        let now = match timeout(PATIENCE, probe).await {
            Ok(Ok(())) => Health::Up,
            Ok(Err(CommandError::Redis(error) | CommandError::NoMaster(error))) => classify(&error),
            Ok(Err(CommandError::TimedOut)) | Err(_) => {
                Health::Away(format!("no answer within {} ms", PATIENCE.as_millis()))
            }
        };
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = std::mem::discriminant(&*health) != std::mem::discriminant(&now);
        health.clone_from(&now);
        is_new.then_some(now)
    }

    /// Host and port: never the password.
    pub(super) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }
}

fn classify(error: &RedisError) -> Health {
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::AuthenticationFailed => {
            Health::Refuses(error.to_string())
        }
        _ => Health::Away(error.to_string()),
    }
}
