//! How every connection to Redis is made: with timeouts on all of it.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, ErrorKind, IntoConnectionInfo, RedisError, RedisResult, ServerErrorKind};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

/// How long a command may take: far above what Redis needs, far below what a caller waits.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// After this long without an acknowledged byte the kernel gives a connection up, so that one
/// whose other end vanished is replaced.
const DEAD_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
#[error("not a Redis address: write redis://[user:password@]host:port or rediss://…")]
pub struct BadAddress(#[source] redis::RedisError);

/// A client for `redis://` or `rediss://` URLs. Nothing is connected yet.
///
/// # Errors
/// When the URL cannot be read; the URL, which may hold a password, is not repeated.
pub fn client(url: &SecretString) -> Result<Client, BadAddress> {
    let keepalive = TcpKeepalive::new()
        .with_time(DEAD_AFTER)
        .with_interval(Duration::from_secs(1))
        .with_retries(3);
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(DEAD_AFTER);
    let info = url
        .expose_secret()
        .into_connection_info()
        .map_err(BadAddress)?
        .set_tcp_settings(tcp);
    Client::open(info).map_err(BadAddress)
}

/// A connection that connects when first used, and again whenever it breaks. Cheap to clone.
///
/// It reconnects in tens of milliseconds: with the library's own defaults a command on a dead
/// server took 9 s to fail. And it logs in again where the library would remember a failed login
/// for ever, so that a password that was put right needs no restart.
#[derive(Clone)]
pub struct Link {
    client: Client,
    manager: Arc<RwLock<ConnectionManager>>,
}

/// Why a command had no answer.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("no answer within {} s", COMMAND_TIMEOUT.as_secs())]
    TimedOut,
    #[error(transparent)]
    Redis(#[from] RedisError),
}

impl Link {
    /// # Errors
    /// When the client's settings contradict each other.
    pub fn new(client: Client) -> Result<Self, BadAddress> {
        let manager = Arc::new(RwLock::new(manager(&client)?));
        Ok(Self { client, manager })
    }

    /// Runs a command on the connection as it is now.
    ///
    /// # Errors
    /// When Redis refuses it, or does not answer in time.
    pub async fn run<T, F>(
        &self,
        command: impl FnOnce(ConnectionManager) -> F,
    ) -> Result<T, CommandError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        match timeout(COMMAND_TIMEOUT, command(self.current())).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.learn_from(&error);
                Err(error.into())
            }
            Err(_) => Err(CommandError::TimedOut),
        }
    }

    fn current(&self) -> ConnectionManager {
        let manager = self.manager.read().unwrap_or_else(PoisonError::into_inner);
        manager.clone()
    }

    fn learn_from(&self, error: &RedisError) {
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

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.client.get_connection_info().addr().to_string();
        f.debug_tuple("Link").field(&address).finish()
    }
}

fn manager(client: &Client) -> Result<ConnectionManager, BadAddress> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(10))
        .set_max_delay(Duration::from_millis(100))
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(COMMAND_TIMEOUT));
    client
        .get_connection_manager_lazy(config)
        .map_err(BadAddress)
}
