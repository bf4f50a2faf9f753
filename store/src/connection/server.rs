//! One server.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, RedisError, RedisResult, ServerErrorKind};

use super::{COMMAND_TIMEOUT, Connection};

/// A connection that connects when first used, and again whenever it breaks. Cheap to clone.
///
/// It reconnects in tens of milliseconds: with the library's own defaults a command on a dead
/// server took 9 s to fail. And it logs in again where the library would remember a failed login
/// for ever, so that a password that was put right needs no restart.
#[derive(Clone)]
pub(super) struct Server {
    client: Client,
    manager: Arc<RwLock<ConnectionManager>>,
}

impl Server {
    pub(super) fn new(client: Client) -> RedisResult<Self> {
        let manager = manager(&client)?;
        Ok(Self {
            client,
            manager: Arc::new(RwLock::new(manager)),
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
        let manager = self.manager.read().unwrap_or_else(PoisonError::into_inner);
        manager.clone()
    }

    pub(super) fn learn_from(&self, error: &RedisError) {
        let may_be_of_the_login = match error.kind() {
            ErrorKind::AuthenticationFailed
            | ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::NoPerm) => true,
            _ => matches!(error.code(), Some("NOAUTH" | "WRONGPASS")),
        };
        if may_be_of_the_login && let Ok(fresh) = manager(&self.client) {
            *self.manager.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
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
        .set_response_timeout(Some(COMMAND_TIMEOUT));
    client.get_connection_manager_lazy(config)
}
