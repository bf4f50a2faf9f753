//! How every connection to Redis is made: with timeouts on all of it.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, IntoConnectionInfo};
use secrecy::{ExposeSecret, SecretString};

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

/// A connection that connects when first used, and again whenever it breaks.
///
/// It reconnects in tens of milliseconds and gives each command one second chance: with the
/// library's own defaults a command on a dead server took 9 s to fail.
///
/// # Errors
/// When the client's settings contradict each other.
pub fn manager(client: &Client) -> Result<ConnectionManager, BadAddress> {
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
