//! Reads from Redis: one connection for commands and one for announcements.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, try_join};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{AsyncCommands, Client, RedisError, RedisResult, Value};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::{MissedTickBehavior, timeout};
use tracing::{info, warn};

use super::{ReadBackend, ReadError};
use crate::app::AppName;
use crate::caller::KeyHash;
use crate::clock::{Moment, StoreClock, Timestamp};
use crate::connection::{COMMAND_TIMEOUT, CommandError, Connection, RedisClient};
use crate::id::InstallationId;
use crate::invalidation::Invalidation;
use crate::key_list::RingKind;
use crate::keys;
use crate::record::Fields;

/// How often the channel is checked and the clock is synchronized. A store that hangs is detected within this
/// and the command timeout.
const HEARTBEAT: Duration = Duration::from_secs(1);
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// A reader that falls behind by more announcements is stuck.
const BACKLOG: usize = 16 * 1024;

pub(super) struct RedisReadBackend {
    client: RedisClient,
    invalidations: broadcast::Sender<Invalidation>,
    clock: Arc<StoreClock>,
    tasks: [JoinHandle<()>; 2],
}

impl RedisReadBackend {
    pub(super) fn start(client: RedisClient) -> Self {
        let (invalidations, _) = broadcast::channel(BACKLOG);
        let clock = Arc::new(StoreClock::new());
        let tasks = [
            tokio::spawn(listen(client.clone(), invalidations.clone())),
            tokio::spawn(synchronize_clock_forever(client.clone(), clock.clone())),
        ];
        Self {
            client,
            invalidations,
            clock,
            tasks,
        }
    }

    /// Runs a read. If the connection turns out to be closed, runs it again on a new one: the server may have closed it long
    /// ago, for example because its users were loaded again or it was restarted.
    async fn run<T, F>(&self, command: impl Fn(Connection) -> F) -> Result<T, ReadError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut answer = self.client.run(&command).await;
        if let Err(CommandError::Redis(error)) = &answer
            && error.is_connection_dropped()
        {
            answer = self.client.run(&command).await;
        }
        answer.map_err(|error| ReadError::Unavailable(Box::new(error)))
    }

    async fn hash(&self, key: String) -> Result<Fields, ReadError> {
        let key = &self.client.names().key(key);
        let fields: HashMap<String, Vec<u8>> = self
            .run(|mut redis| async move { redis.hgetall(key).await })
            .await?;
        Ok(fields.into_iter().collect())
    }
}

impl Drop for RedisReadBackend {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl ReadBackend for RedisReadBackend {
    fn access<'a>(&'a self, id: &'a InstallationId) -> BoxFuture<'a, Result<Fields, ReadError>> {
        Box::pin(async move {
            // The caller compares the expiry with this clock.
            if !self.clock.is_synchronized() {
                let sent_at = synchronize_clock(&self.client, &self.clock).await;
                sent_at.map_err(|error| ReadError::Unavailable(Box::new(error)))?;
            }
            self.hash(keys::access(id)).await
        })
    }

    fn location<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Fields, ReadError>> {
        let others = self.hash(keys::location_by_app(name));
        Box::pin(async move {
            let default = &self.client.names().key(keys::location(name));
            let default = self.run(|mut redis| async move { redis.get(default).await });
            let (default, mut found): (Option<String>, Fields) = try_join(default, others).await?;
            if let Some(id) = default {
                found.set(AppName::DEFAULT, id);
            }
            Ok(found)
        })
    }

    fn caller<'a>(&'a self, key: &'a KeyHash) -> BoxFuture<'a, Result<Fields, ReadError>> {
        Box::pin(self.hash(keys::caller(key)))
    }

    fn access_key_list(&self) -> BoxFuture<'_, Result<Fields, ReadError>> {
        Box::pin(self.hash(keys::key_list(RingKind::Access)))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(self.run(|mut redis| async move { redis.ping().await }))
    }

    fn invalidations(&self) -> broadcast::Receiver<Invalidation> {
        self.invalidations.subscribe()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Forwards announcements forever. Announces when the channel is lost and when it works again.
async fn listen(client: RedisClient, invalidations: broadcast::Sender<Invalidation>) {
    let mut is_disconnected = false;
    loop {
        let server = client.server().await;
        let channel = client.names().invalidations();
        let error = match subscribe(&server, &channel).await {
            Ok((sink, stream)) => {
                if std::mem::take(&mut is_disconnected) {
                    info!("receiving cache invalidations from the store again");
                }
                tokio::select! {
                    error = relay(sink, stream, &invalidations) => error,
                    () = client.wait_until_moved(&server) => io::Error::other("the master moved").into(),
                }
            }
            Err(error) => error,
        };
        announce(&invalidations, Invalidation::ChannelLost);
        if !std::mem::replace(&mut is_disconnected, true) {
            warn!(%error, "lost the channel of cache invalidations, reconnecting");
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn subscribe(server: &Client, name: &str) -> RedisResult<(PubSubSink, PubSubStream)> {
    let connected = async {
        let mut channel = server.get_async_pubsub().await?;
        channel.subscribe(name).await?;
        Ok(channel.split())
    };
    flatten(timeout(COMMAND_TIMEOUT, connected).await)
}

/// Forwards messages until the channel breaks or stops answering, and returns the reason.
///
/// [`Invalidation::ChannelRestored`] is repeated with every heartbeat, for receivers that subscribed late or
/// lagged.
async fn relay(
    mut sink: PubSubSink,
    mut messages: PubSubStream,
    invalidations: &broadcast::Sender<Invalidation>,
) -> RedisError {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => match message.get_payload::<String>() {
                    Ok(text) => announce(invalidations, Invalidation::from_message(&text)),
                    Err(error) => return error,
                },
                None => return RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset)),
            },
            _ = heartbeat.tick() => {
                match flatten(timeout(COMMAND_TIMEOUT, sink.ping::<Value>()).await) {
                    Ok(_) => announce(invalidations, Invalidation::ChannelRestored),
                    Err(error) => return error,
                }
            }
        }
    }
}

fn announce(invalidations: &broadcast::Sender<Invalidation>, invalidation: Invalidation) {
    // An error means that there is no receiver yet, which is fine.
    let _ = invalidations.send(invalidation);
}

fn flatten<T>(outcome: Result<RedisResult<T>, Elapsed>) -> RedisResult<T> {
    outcome.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// Keeps the copy of the store's clock synchronized.
async fn synchronize_clock_forever(client: RedisClient, clock: Arc<StoreClock>) {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        heartbeat.tick().await;
        // On an error the copy keeps running by itself.
        let _ = synchronize_clock(&client, &clock).await;
    }
}

async fn synchronize_clock(client: &RedisClient, clock: &StoreClock) -> Result<(), CommandError> {
    let sent_at = Moment::now();
    let time =
        |mut redis: Connection| async move { redis::cmd("TIME").query_async(&mut redis).await };
    let (seconds, micros): (i64, i64) = client.run(time).await?;
    let server_time = Timestamp::from_millis(seconds * 1000 + micros / 1000);
    clock.set(server_time, sent_at);
    Ok(())
}
