//! A reconnecting connection to one server.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, RedisError, RedisResult, ServerErrorKind};

use super::{COMMAND_TIMEOUT, Connection};
use crate::clock::Moment;

/// A response that takes longer costs the connection. It is below the timeout of a command, so that the
/// command can still report which connection was unresponsive.
const RESPONSE_TIMEOUT: Duration = COMMAND_TIMEOUT.saturating_sub(Duration::from_millis(100));

/// A connection that is opened at first use and again after an error. Cheap to clone.
///
/// It differs from the library's defaults in three ways. It reconnects within tens of milliseconds; by
/// default a command to a dead server failed after 9 s. It logs in again after a failed login, which the
/// library would cache forever; a corrected password needs no restart. It abandons an unresponsive
/// connection, which the library would keep; behind a proxy the kernel detects no loss.
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
            self.handle_error(error);
        }
        answer
    }

    pub(super) fn current(&self) -> ConnectionManager {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.manager.clone()
    }

    pub(super) fn handle_error(&self, error: &RedisError) {
        let may_be_login_error = match error.kind() {
            ErrorKind::AuthenticationFailed
            | ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::NoPerm) => true,
            _ => matches!(error.code(), Some("NOAUTH" | "WRONGPASS")),
        };
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // A younger connection is not the one that timed out.
        let is_unresponsive = error.is_timeout() && current.since.elapsed() >= RESPONSE_TIMEOUT;
        if (may_be_login_error || is_unresponsive)
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

/// Host and port, never the password.
pub(super) fn address(client: &Client) -> String {
    client.get_connection_info().addr().to_string()
}

fn manager(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(10))
        .set_max_delay(Duration::from_millis(100))
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    client.get_connection_manager_lazy(config)
}
