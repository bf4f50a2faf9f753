//! One server.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, RedisError, RedisResult, ServerErrorKind};

use super::{COMMAND_TIMEOUT, Connection};
use crate::clock::Moment;

/// An answer that takes longer costs the connection. Before a command's own time is over, so that
/// who waits for it learns which connection it was.
const SILENCE: Duration = COMMAND_TIMEOUT.saturating_sub(Duration::from_millis(100));

/// A connection that connects when first used, and again whenever it breaks. Cheap to clone.
///
/// It reconnects in tens of milliseconds: with the library's own defaults a command on a dead
/// server took 9 s to fail. It logs in again where the library would remember a failed login for
/// ever, so that a password that was put right needs no restart. And it leaves a connection that
/// gives no answers, which the library would keep: behind a proxy the kernel sees no loss.
#[derive(Clone)]
pub(super) struct Server {
    client: Client,
    current: Arc<RwLock<Current>>,
}

struct Current {
    manager: ConnectionManager,
    since: Moment,
}

impl Server {
    pub(super) fn new(client: Client) -> RedisResult<Self> {
        let current = Current::new(&client)?;
        Ok(Self {
            client,
            current: Arc::new(RwLock::new(current)),
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn run<T, F>(&self, command: impl FnOnce(Connection) -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let answer = command(Connection::Server(self.current())).await;
        if let Err(error) = &answer {
            self.learn_from(error);
        }
        answer
    }

    pub(super) fn current(&self) -> ConnectionManager {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.manager.clone()
    }

    pub(super) fn learn_from(&self, error: &RedisError) {
        let may_be_of_the_login = match error.kind() {
            ErrorKind::AuthenticationFailed
            | ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::NoPerm) => true,
            _ => matches!(error.code(), Some("NOAUTH" | "WRONGPASS")),
        };
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // One that is younger is not the one that was silent.
        let is_silent = error.is_timeout() && current.since.elapsed() >= SILENCE;
        if (may_be_of_the_login || is_silent)
            && let Ok(fresh) = Current::new(&self.client)
        {
            *current = fresh;
        }
    }
}

impl Current {
    fn new(client: &Client) -> RedisResult<Self> {
        Ok(Self {
            manager: manager(client)?,
            since: Moment::now(),
        })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server")
            .field(&address(&self.client))
            .finish()
    }
}

/// Host and port: never the password.
pub(super) fn address(client: &Client) -> String {
    client.get_connection_info().addr().to_string()
}

fn manager(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(10))
        .set_max_delay(Duration::from_millis(100))
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(SILENCE));
    client.get_connection_manager_lazy(config)
}
