//! Connections to Redis. Every command has a timeout and goes to the current master.

mod address;
mod cluster;
mod sentinel;
mod server;
mod tls;

use std::fmt;
use std::future::{Future, pending};
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::{ConnectionLike, ConnectionManager};
use redis::{
    Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value,
};
use tokio::time::timeout;

pub use address::{Address, BadAddress, client, client_with_tls};
pub use tls::RedisTls;

use crate::names::{Names, Prefix};
use address::AddressKind;
use cluster::ClusterClient;
use sentinel::SentinelMaster;
use server::{Server, address as address_of};

/// How long a command may take: far above what Redis needs, far below what a caller waits.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// The kernel closes a connection after this long without an acknowledged byte. A connection to a vanished
/// host is replaced that way.
const DEAD_CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs commands against a store. It connects at first use, reconnects after an error, and follows the
/// master. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RedisClient {
    kind: Kind,
    names: Names,
}

#[derive(Clone, Debug)]
enum Kind {
    Single(Box<Server>),
    Sentinel(SentinelMaster),
    Cluster(ClusterClient),
}

/// One connection, for any kind of store. In a Cluster each command goes to the master of its first key.
#[derive(Clone)]
pub enum Connection {
    /// To one server.
    Server(ConnectionManager),
    /// To all nodes of a Cluster.
    Cluster(ClusterClient),
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No answer came within [`COMMAND_TIMEOUT`]. The command may have taken effect.
    #[error("no answer within {} s", COMMAND_TIMEOUT.as_secs())]
    TimedOut,
    /// The server is a replica or has too few replicas. Another server may become the master soon.
    #[error("no master accepts writes now")]
    NoMaster(#[source] RedisError),
    /// Redis or the connection failed.
    #[error(transparent)]
    Redis(#[from] RedisError),
}

impl Kind {
    fn single(client: Client) -> Result<Self, BadAddress> {
        let server = Server::new(client).map_err(BadAddress::Single)?;
        Ok(Self::Single(Box::new(server)))
    }
}

impl RedisClient {
    /// A client of one server, with keys of this prefix.
    ///
    /// # Errors
    /// When the client's settings contradict each other.
    pub fn single(client: Client, prefix: Prefix) -> Result<Self, BadAddress> {
        let names = Names::new(prefix, address::database(&client));
        let kind = Kind::single(client)?;
        Ok(Self { kind, names })
    }

    /// A client of any kind of store. Behind Sentinels or in a Cluster it starts a task that follows the
    /// master.
    ///
    /// # Errors
    /// When the address' settings contradict each other.
    pub fn open(address: Address) -> Result<Self, BadAddress> {
        let names = address.names();
        let kind = match address.kind {
            AddressKind::Single(client) => Kind::single(*client)?,
            AddressKind::Sentinel { client, .. } => Kind::Sentinel(SentinelMaster::start(*client)),
            AddressKind::Cluster(nodes) => Kind::Cluster(ClusterClient::start(nodes)),
        };
        Ok(Self { kind, names })
    }

    /// The names of the keys and channels there.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Runs a command on the current connection.
    ///
    /// # Errors
    /// When Redis refuses the command, or does not answer within [`COMMAND_TIMEOUT`].
    pub async fn run<T, F>(&self, command: impl FnOnce(Connection) -> F) -> Result<T, CommandError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let answered = timeout(COMMAND_TIMEOUT, async {
            match &self.kind {
                Kind::Single(server) => server.run(command).await,
                Kind::Sentinel(sentinel) => sentinel.server().await?.run(command).await,
                Kind::Cluster(cluster) => command(Connection::Cluster(cluster.clone())).await,
            }
        });
        let outcome = match answered.await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => self.classify(error),
            Err(_) => CommandError::TimedOut,
        };
        self.handle_error(&outcome);
        Err(outcome)
    }

    /// Runs a command on each server that accepts writes: the single server, the master, or every master of a
    /// Cluster. Returns each server's `host:port` with its answer.
    ///
    /// # Errors
    /// When no master is known.
    pub async fn run_on_masters<T, F>(
        &self,
        command: impl Fn(Connection) -> F,
    ) -> Result<Vec<(String, Result<T, CommandError>)>, CommandError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let found = timeout(COMMAND_TIMEOUT, self.masters()).await;
        let masters = found
            .map_err(|_| CommandError::TimedOut)?
            .map_err(|error| self.classify(error))?;
        let command = &command;
        let answers = masters.into_iter().map(async |master| {
            let answer = timeout(COMMAND_TIMEOUT, master.run(command)).await;
            let answer = match answer {
                Ok(answer) => answer.map_err(|error| self.classify(error)),
                Err(_) => Err(CommandError::TimedOut),
            };
            (address_of(master.client()), answer)
        });
        Ok(join_all(answers).await)
    }

    /// How often another server became the master. A restart of the same server does not count.
    #[must_use]
    pub fn switches(&self) -> u64 {
        match &self.kind {
            Kind::Single(_) => 0,
            Kind::Sentinel(sentinel) => sentinel.switches(),
            Kind::Cluster(cluster) => cluster.switches(),
        }
    }

    async fn masters(&self) -> RedisResult<Vec<Server>> {
        match &self.kind {
            Kind::Single(server) => Ok(vec![Server::clone(server)]),
            Kind::Sentinel(sentinel) => Ok(vec![sentinel.server().await?]),
            Kind::Cluster(cluster) => cluster.masters().await,
        }
    }

    /// Whether the store is a Cluster. A pipeline may then touch one partition only.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster(_))
    }

    /// The server for a dedicated connection that receives every announcement: the single server, the master,
    /// or the next node of a Cluster in turn.
    ///
    /// Waits while there is no master.
    pub async fn server(&self) -> Client {
        match &self.kind {
            Kind::Single(server) => server.client().clone(),
            Kind::Sentinel(sentinel) => sentinel.master().await,
            Kind::Cluster(cluster) => cluster.next(),
        }
    }

    /// Returns once the master is no longer `server`. Never returns for a single server or a Cluster.
    pub async fn wait_until_moved(&self, server: &Client) {
        match &self.kind {
            Kind::Sentinel(sentinel) => sentinel.wait_until_moved(server).await,
            Kind::Single(_) | Kind::Cluster(_) => pending().await,
        }
    }

    /// A client of the same store over separate connections, for commands that block their connection.
    ///
    /// # Errors
    /// As [`RedisClient::single`].
    pub fn with_own_connections(&self) -> Result<Self, BadAddress> {
        let kind = match &self.kind {
            Kind::Single(server) => Kind::single(server.client().clone())?,
            Kind::Sentinel(sentinel) => Kind::Sentinel(sentinel.with_own_connections()),
            Kind::Cluster(cluster) => Kind::Cluster(cluster.with_own_connections()),
        };
        let names = self.names.clone();
        Ok(Self { kind, names })
    }

    fn classify(&self, error: RedisError) -> CommandError {
        if error.is_timeout() {
            return CommandError::TimedOut;
        }
        let is_replica = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        let lacks_replicas = error.code() == Some("NOREPLICAS");
        match self.kind {
            Kind::Sentinel(_) | Kind::Cluster(_) if is_replica || lacks_replicas => {
                CommandError::NoMaster(error)
            }
            Kind::Single(_) if lacks_replicas => CommandError::NoMaster(error),
            Kind::Single(_) | Kind::Sentinel(_) | Kind::Cluster(_) => CommandError::Redis(error),
        }
    }

    fn handle_error(&self, error: &CommandError) {
        let is_lost = match error {
            CommandError::TimedOut | CommandError::NoMaster(_) => true,
            CommandError::Redis(error) => error.is_io_error() || error.is_cluster_error(),
        };
        match &self.kind {
            Kind::Sentinel(sentinel) if is_lost => sentinel.refresh_soon(),
            Kind::Cluster(cluster) if is_lost => cluster.refresh_soon(),
            Kind::Single(_) | Kind::Sentinel(_) | Kind::Cluster(_) => {}
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(cluster) => Box::pin(async move {
                let mut answers = cluster.send(&cluster::single(cmd), 0, 1).await?;
                Ok(answers.pop().unwrap_or(Value::Nil))
            }),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => Box::pin(cluster.send(pipeline, offset, count)),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(_) => 0,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
