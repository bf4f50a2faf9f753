//! Waits until a write is on enough replicas.
//!
//! `WAIT` covers only writes made on its own connection. As the first command of a connection it confirms
//! everything at once. (Redis 7.0 counts from any command of the connection, but documents it for writes
//! only.) A promoted master can also acknowledge a write that it never received. A request therefore has
//! three parts, sent together on one connection:
//!
//! 1. read the revision of the write,
//! 2. write a marker,
//! 3. wait until enough replicas have the marker.
//!
//! A replica applies one history in order. A replica that has the marker has everything before it.
//!
//! `WAIT` blocks its connection, so these requests have a separate one. Requests that arrive during a `WAIT`
//! are sent together as the next batch.

use std::time::Duration;

use redis::{Value, from_redis_value};
use store::connection::{CommandError, Connection, RedisClient};
use store::{InstallationId, keys};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::reply::millis;
use crate::backend::{Confirmation, REVISION};

/// How long to wait for replicas. A healthy replica answers within a millisecond, or within some 100 ms on a
/// busy machine. The waiting refresh must still make its call within the lease. The value is below every
/// timeout of the connection, because a later reply would cost the connection.
const WAIT_TIMEOUT: Duration = Duration::from_millis(800);
/// The most requests in one batch.
const BATCH: usize = 256;

/// One queue if all writes are on one server. In a Cluster one queue for each partition, because a batch must
/// stay in one slot.
pub(super) struct ReplicationConfirmer {
    queues: Vec<mpsc::Sender<ConfirmRequest>>,
}

/// Asks whether the write of this revision is on enough replicas.
struct ConfirmRequest {
    installation: InstallationId,
    revision: Vec<u8>,
    reply: oneshot::Sender<Confirmation>,
}

impl ReplicationConfirmer {
    /// Requires `replicas`. No other code may use the client's connections. Its tasks end when it is dropped.
    pub(super) fn start(client: &RedisClient, replicas: usize) -> Self {
        let count = if client.is_cluster() {
            keys::PARTITIONS
        } else {
            1
        };
        let queue = |_| {
            let (queue, requests) = mpsc::channel(BATCH);
            tokio::spawn(confirm_batches(requests, client.clone(), replicas));
            queue
        };
        Self {
            queues: (0..count).map(queue).collect(),
        }
    }

    pub(super) async fn confirm(
        &self,
        installation: &InstallationId,
        revision: &[u8],
    ) -> Confirmation {
        let (reply, replied) = oneshot::channel();
        let request = ConfirmRequest {
            installation: installation.clone(),
            revision: revision.to_vec(),
            reply,
        };
        let queue = &self.queues[usize::from(installation.partition()) % self.queues.len()];
        let _ = queue.send(request).await;
        replied.await.unwrap_or(Confirmation::Unconfirmed)
    }
}

async fn confirm_batches(
    mut requests: mpsc::Receiver<ConfirmRequest>,
    client: RedisClient,
    replicas: usize,
) {
    let mut batch = Vec::new();
    while requests.recv_many(&mut batch, BATCH).await > 0 {
        match query(&batch, &client, replicas).await {
            Ok((revisions, acknowledged)) => {
                for (request, revision) in batch.drain(..).zip(revisions) {
                    let confirmation = if revision.as_ref() != Some(&request.revision) {
                        Confirmation::Overwritten
                    } else if acknowledged < replicas {
                        Confirmation::Unconfirmed
                    } else {
                        Confirmation::Confirmed
                    };
                    // An error means that the waiting call was cancelled, which is fine.
                    let _ = request.reply.send(confirmation);
                }
            }
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot ask how many replicas have a write"
                );
                batch.clear();
            }
        }
    }
}

/// The current revisions, and the number of replicas that have them.
async fn query(
    batch: &[ConfirmRequest],
    client: &RedisClient,
    replicas: usize,
) -> Result<(Vec<Option<Vec<u8>>>, usize), CommandError> {
    let partition = batch
        .first()
        .map_or(0, |request| request.installation.partition());
    let mut pipeline = redis::pipe();
    for request in batch {
        let key = client.names().key(keys::refresh(&request.installation));
        pipeline.hget(key, REVISION);
    }
    pipeline
        .set(client.names().key(keys::replication_marker(partition)), 1)
        .ignore();
    pipeline.cmd("WAIT").arg(replicas).arg(millis(WAIT_TIMEOUT));
    client
        .run(async |mut redis: Connection| {
            let mut answers: Vec<Value> = pipeline.query_async(&mut redis).await?;
            let acknowledged = answers.pop().unwrap_or(Value::Int(0));
            let revisions = answers.into_iter().map(from_redis_value);
            Ok((
                revisions.collect::<Result<_, _>>()?,
                from_redis_value(acknowledged)?,
            ))
        })
        .await
}
