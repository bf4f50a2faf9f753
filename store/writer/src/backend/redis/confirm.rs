//! Waits until a write is on enough replicas.
//!
//! `WAIT` tells how many replicas have what *its own connection* has written before: asked first
//! thing, it confirms everything at once. (Redis 7.0 counts from any command of the connection, but
//! promises it of writes alone.) And a master that took over while the question was on its way
//! would confirm a write that it never had. So a question has three parts, sent together on one
//! connection: is the write there; a write of our own, the marker; how many replicas have the
//! marker. A replica follows one history, so one that has the marker has what was there before it.
//!
//! `WAIT` holds its connection up, so this has one to itself. Whoever asks while an answer is
//! waited for is asked for with all the others next time.

use std::time::Duration;

use redis::{Value, from_redis_value};
use store::connection::{CommandError, Connection, Link};
use store::{InstallationId, keys};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::{REVISION, millis};
use crate::backend::Confirmation;

/// How long replicas get. One that is well answers in a millisecond, on a busy machine in tenths of
/// a second, and the refresh that waits has a call to make within its lease. Below every timeout of
/// the connection: an answer that came too late for those would cost the connection.
const WAIT: Duration = Duration::from_millis(800);
/// How many are asked for at once.
const BATCH: usize = 256;

/// One queue where all writes are on one server. For a Cluster one for each partition: what is
/// sent together must stay in one slot.
pub(super) struct Confirmer {
    queues: Vec<mpsc::Sender<Question>>,
}

/// Is this write, named by its revision, on enough replicas?
struct Question {
    installation: InstallationId,
    revision: Vec<u8>,
    answer: oneshot::Sender<Confirmation>,
}

impl Confirmer {
    /// Asks for `replicas` over the link, which nobody else may use. Ends when it is dropped.
    pub(super) fn start(link: &Link, replicas: usize) -> Self {
        let count = if link.is_cluster() {
            keys::PARTITIONS
        } else {
            1
        };
        let queue = |_| {
            let (queue, questions) = mpsc::channel(BATCH);
            tokio::spawn(ask_together(questions, link.clone(), replicas));
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
        let (answer, answered) = oneshot::channel();
        let question = Question {
            installation: installation.clone(),
            revision: revision.to_vec(),
            answer,
        };
        let queue = &self.queues[usize::from(installation.partition()) % self.queues.len()];
        let _ = queue.send(question).await;
        answered.await.unwrap_or(Confirmation::Unconfirmed)
    }
}

async fn ask_together(mut questions: mpsc::Receiver<Question>, link: Link, replicas: usize) {
    let mut batch = Vec::new();
    while questions.recv_many(&mut batch, BATCH).await > 0 {
        match ask(&batch, &link, replicas).await {
            Ok((revisions, acknowledged)) => {
                for (question, revision) in batch.drain(..).zip(revisions) {
                    let confirmation = if revision.as_ref() != Some(&question.revision) {
                        Confirmation::Overwritten
                    } else if acknowledged < replicas {
                        Confirmation::Unconfirmed
                    } else {
                        Confirmation::Confirmed
                    };
                    // Nobody may wait for it any more, and that is fine.
                    let _ = question.answer.send(confirmation);
                }
            }
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "replicas cannot be asked"
                );
                batch.clear();
            }
        }
    }
}

/// The revisions that are there now, and how many replicas have them.
async fn ask(
    batch: &[Question],
    link: &Link,
    replicas: usize,
) -> Result<(Vec<Option<Vec<u8>>>, usize), CommandError> {
    let partition = batch
        .first()
        .map_or(0, |question| question.installation.partition());
    let mut pipeline = redis::pipe();
    for question in batch {
        pipeline.hget(keys::refresh(&question.installation), REVISION);
    }
    pipeline.set(keys::sync(partition), 1).ignore();
    pipeline.cmd("WAIT").arg(replicas).arg(millis(WAIT));
    link.run(async |mut redis: Connection| {
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
