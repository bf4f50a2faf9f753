//! How every connection to Redis is made: with timeouts on all of it, and to whoever is the master.

mod address;
mod cluster;
mod sentinel;
mod server;

use std::fmt;
use std::future::{Future, pending};
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::{ConnectionLike, ConnectionManager};
use redis::{
    Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value,
};
use tokio::time::timeout;

pub use address::{Address, BadAddress, client};

use cluster::Nodes;
use sentinel::Followed;
use server::{Server, address as address_of};

/// How long a command may take: far above what Redis needs, far below what a caller waits.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// After this long without an acknowledged byte the kernel gives a connection up, so that one
/// whose other end vanished is replaced.
const DEAD_AFTER: Duration = Duration::from_secs(5);

/// What commands run on: it connects when first used and again whenever it breaks, and goes where
/// the master goes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Link(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Single(Box<Server>),
    Sentinel(Followed),
    Cluster(Nodes),
}

/// One connection, whatever the store is made of. A Cluster's sends every command to the master of
/// its first key.
#[derive(Clone)]
pub enum Connection {
    Server(ConnectionManager),
    Cluster(Nodes),
}

/// Why a command had no answer.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("no answer within {} s", COMMAND_TIMEOUT.as_secs())]
    TimedOut,
    /// It is a replica, or has too few of them; a moment later another server may be the master.
    #[error("no master takes writes just now")]
    NoMaster(#[source] RedisError),
    #[error(transparent)]
    Redis(#[from] RedisError),
}

impl Link {
    /// A link to one server.
    ///
    /// # Errors
    /// When the client's settings contradict each other.
    pub fn new(client: Client) -> Result<Self, BadAddress> {
        let server = Server::new(client).map_err(BadAddress::Single)?;
        Ok(Self(Kind::Single(Box::new(server))))
    }

    /// A link to a store of any kind. Behind Sentinels the master is looked for from now on.
    ///
    /// # Errors
    /// When the address' settings contradict each other.
    pub fn to(address: Address) -> Result<Self, BadAddress> {
        match address {
            Address::Single(client) => Self::new(*client),
            Address::Sentinel(client) => Ok(Self(Kind::Sentinel(Followed::start(*client)))),
            Address::Cluster(nodes) => Ok(Self(Kind::Cluster(Nodes::start(nodes)))),
        }
    }

    /// Runs a command on the connection as it is now.
    ///
    /// # Errors
    /// When Redis refuses it, or does not answer in time.
    pub async fn run<T, F>(&self, command: impl FnOnce(Connection) -> F) -> Result<T, CommandError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let answered = timeout(COMMAND_TIMEOUT, async {
            match &self.0 {
                Kind::Single(server) => server.run(command).await,
                Kind::Sentinel(followed) => followed.server().await?.run(command).await,
                Kind::Cluster(nodes) => command(Connection::Cluster(nodes.clone())).await,
            }
        });
        let outcome = match answered.await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => self.judge(error),
            Err(_) => CommandError::TimedOut,
        };
        self.learn_from(&outcome);
        Err(outcome)
    }

    /// Runs a command at each server that takes writes: the only one, the master, or every master
    /// of a Cluster. Each answer comes with the server's host and port.
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
            .map_err(|error| self.judge(error))?;
        let command = &command;
        let answers = masters.into_iter().map(async |master| {
            let answer = timeout(COMMAND_TIMEOUT, master.run(command)).await;
            let answer = match answer {
                Ok(answer) => answer.map_err(|error| self.judge(error)),
                Err(_) => Err(CommandError::TimedOut),
            };
            (address_of(master.client()), answer)
        });
        Ok(join_all(answers).await)
    }

    /// How often another server took the place of one. One that only restarts does not count.
    #[must_use]
    pub fn switches(&self) -> u64 {
        match &self.0 {
            Kind::Single(_) => 0,
            Kind::Sentinel(followed) => followed.switches(),
            Kind::Cluster(nodes) => nodes.switches(),
        }
    }

    async fn masters(&self) -> RedisResult<Vec<Server>> {
        match &self.0 {
            Kind::Single(server) => Ok(vec![Server::clone(server)]),
            Kind::Sentinel(followed) => Ok(vec![followed.server().await?]),
            Kind::Cluster(nodes) => nodes.masters().await,
        }
    }

    /// Whether one pipeline must not touch more than one partition.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.0, Kind::Cluster(_))
    }

    /// A server for a connection of one's own, which hears every announcement: the only one, the
    /// master, or one node of a Cluster after the other.
    ///
    /// Waits where there is no master.
    pub async fn server(&self) -> Client {
        match &self.0 {
            Kind::Single(server) => server.client().clone(),
            Kind::Sentinel(followed) => followed.master().await,
            Kind::Cluster(nodes) => nodes.next(),
        }
    }

    /// Returns once [`Link::server`] would be another one for a reason.
    pub async fn moved_from(&self, server: &Client) {
        match &self.0 {
            Kind::Sentinel(followed) => followed.moved_from(server).await,
            Kind::Single(_) | Kind::Cluster(_) => pending().await,
        }
    }

    /// A link to the same store over connections of its own, for commands that hold theirs up.
    ///
    /// # Errors
    /// As [`Link::new`].
    pub fn apart(&self) -> Result<Self, BadAddress> {
        match &self.0 {
            Kind::Single(server) => Self::new(server.client().clone()),
            Kind::Sentinel(followed) => Ok(Self(Kind::Sentinel(followed.apart()))),
            Kind::Cluster(nodes) => Ok(Self(Kind::Cluster(nodes.apart()))),
        }
    }

    fn judge(&self, error: RedisError) -> CommandError {
        if error.is_timeout() {
            return CommandError::TimedOut;
        }
        let is_replica = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        let is_lonely = error.code() == Some("NOREPLICAS");
        match self.0 {
            Kind::Sentinel(_) | Kind::Cluster(_) if is_replica || is_lonely => {
                CommandError::NoMaster(error)
            }
            Kind::Single(_) if is_lonely => CommandError::NoMaster(error),
            Kind::Single(_) | Kind::Sentinel(_) | Kind::Cluster(_) => CommandError::Redis(error),
        }
    }

    fn learn_from(&self, error: &CommandError) {
        let is_lost = match error {
            CommandError::TimedOut | CommandError::NoMaster(_) => true,
            CommandError::Redis(error) => error.is_io_error() || error.is_cluster_error(),
        };
        match &self.0 {
            Kind::Sentinel(followed) if is_lost => followed.doubt(),
            Kind::Cluster(nodes) if is_lost => nodes.doubt(),
            Kind::Single(_) | Kind::Sentinel(_) | Kind::Cluster(_) => {}
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(nodes) => Box::pin(async move {
                let mut answers = nodes.send(&cluster::single(cmd), 0, 1).await?;
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
            Self::Cluster(nodes) => Box::pin(nodes.send(pipeline, offset, count)),
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
