//! Reading from Redis: one connection for commands, one for announcements.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{AsyncCommands, Client, RedisError, RedisResult, Value};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::{MissedTickBehavior, timeout};
use tracing::{info, warn};

use super::{ReadError, Reads};
use crate::caller::KeyHash;
use crate::change::Change;
use crate::clock::{Moment, StoreClock, Timestamp};
use crate::connection::{COMMAND_TIMEOUT, CommandError, Connection, Link};
use crate::id::InstallationId;
use crate::keys;
use crate::record::Fields;

/// How often the channel is proven alive, and the store asked for its time. A store that hangs is
/// noticed within this and the command timeout.
const HEARTBEAT: Duration = Duration::from_secs(1);
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// More announcements than any reader falls behind by without being stuck.
const BACKLOG: usize = 16 * 1024;

pub(super) struct RedisReads {
    commands: Link,
    changes: broadcast::Sender<Change>,
    clock: Arc<StoreClock>,
    tasks: [JoinHandle<()>; 2],
}

impl RedisReads {
    pub(super) fn start(commands: Link) -> Self {
        let (changes, _) = broadcast::channel(BACKLOG);
        let clock = Arc::new(StoreClock::new());
        let tasks = [
            tokio::spawn(listen(commands.clone(), changes.clone())),
            tokio::spawn(follow_clock(commands.clone(), clock.clone())),
        ];
        Self {
            commands,
            changes,
            clock,
            tasks,
        }
    }

    async fn run<T, F>(&self, command: impl FnOnce(Connection) -> F) -> Result<T, ReadError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let answer = self.commands.run(command).await;
        answer.map_err(|error| ReadError::Unavailable(Box::new(error)))
    }

    async fn hash(&self, key: String) -> Result<Fields, ReadError> {
        let fields: HashMap<String, Vec<u8>> = self
            .run(|mut redis| async move { redis.hgetall(key).await })
            .await?;
        Ok(fields.into_iter().collect())
    }
}

impl Drop for RedisReads {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Reads for RedisReads {
    fn access<'a>(&'a self, id: &'a InstallationId) -> BoxFuture<'a, Result<Fields, ReadError>> {
        Box::pin(async move {
            // What is read is judged by this clock.
            if !self.clock.is_told() {
                let asked = ask_time(&self.commands, &self.clock).await;
                asked.map_err(|error| ReadError::Unavailable(Box::new(error)))?;
            }
            self.hash(keys::access(id)).await
        })
    }

    fn location<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<String>, ReadError>> {
        let key = keys::location(name);
        Box::pin(self.run(|mut redis| async move { redis.get(key).await }))
    }

    fn caller<'a>(&'a self, key: &'a KeyHash) -> BoxFuture<'a, Result<Fields, ReadError>> {
        Box::pin(self.hash(keys::caller(key)))
    }

    fn keys_in_use(&self) -> BoxFuture<'_, Result<bool, ReadError>> {
        Box::pin(self.run(|mut redis| async move { redis.exists(keys::CALLERS).await }))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(self.run(|mut redis| async move { redis.ping().await }))
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Passes announcements on for ever; says when they cannot be trusted, and when they can again.
async fn listen(link: Link, changes: broadcast::Sender<Change>) {
    let mut is_cut_off = false;
    loop {
        let server = link.server().await;
        let error = match subscribe(&server).await {
            Ok((sink, stream)) => {
                if std::mem::take(&mut is_cut_off) {
                    info!("announcements from the store arrive again");
                }
                tokio::select! {
                    error = relay(sink, stream, &changes) => error,
                    () = link.moved_from(&server) => io::Error::other("the master moved").into(),
                }
            }
            Err(error) => error,
        };
        announce(&changes, Change::Lost);
        if !std::mem::replace(&mut is_cut_off, true) {
            warn!(%error, "announcements from the store are cut off, trying again");
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn subscribe(server: &Client) -> RedisResult<(PubSubSink, PubSubStream)> {
    let connected = async {
        let mut channel = server.get_async_pubsub().await?;
        channel.subscribe(keys::CHANGES).await?;
        Ok(channel.split())
    };
    flatten(timeout(COMMAND_TIMEOUT, connected).await)
}

/// Passes messages on until the channel breaks or goes silent, and returns why it did.
///
/// [`Change::Restored`] is repeated with every heartbeat: a receiver that came late, or lagged,
/// learns of it too.
async fn relay(
    mut sink: PubSubSink,
    mut messages: PubSubStream,
    changes: &broadcast::Sender<Change>,
) -> RedisError {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => match message.get_payload::<String>() {
                    Ok(text) => announce(changes, Change::from_message(&text)),
                    Err(error) => return error,
                },
                None => return RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset)),
            },
            _ = heartbeat.tick() => {
                match flatten(timeout(COMMAND_TIMEOUT, sink.ping::<Value>()).await) {
                    Ok(_) => announce(changes, Change::Restored),
                    Err(error) => return error,
                }
            }
        }
    }
}

fn announce(changes: &broadcast::Sender<Change>, change: Change) {
    // Nobody may be listening yet, and that is fine.
    let _ = changes.send(change);
}

fn flatten<T>(outcome: Result<RedisResult<T>, Elapsed>) -> RedisResult<T> {
    outcome.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// Keeps our copy of the store's clock true.
async fn follow_clock(commands: Link, clock: Arc<StoreClock>) {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        heartbeat.tick().await;
        // It runs on by itself while the store is away.
        let _ = ask_time(&commands, &clock).await;
    }
}

async fn ask_time(commands: &Link, clock: &StoreClock) -> Result<(), CommandError> {
    let asked = Moment::now();
    let time =
        |mut redis: Connection| async move { redis::cmd("TIME").query_async(&mut redis).await };
    let (seconds, micros): (i64, i64) = commands.run(time).await?;
    let told = Timestamp::from_millis(seconds * 1000 + micros / 1000);
    clock.set(told, asked);
    Ok(())
}
