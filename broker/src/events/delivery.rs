//! Delivers the messages of the outbox. Each endpoint has a loop of its own, so a slow one delays no other.
//!
//! A queue is claimed by one broker at a time. Its first message is sent until the endpoint takes it or it is given up,
//! then the next one.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::shutdown::Shutdown;
use store::Timestamp;
use store_writer::StoreWriter;
use store_writer::backend::DueEntries;
use store_writer::outbox::{Settlement, Subject};
use store_writer::writer::WriteError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::client::{Client, Message};
use super::delivery_error::DeliveryError;
use super::endpoint::{Endpoint, Wants};
use super::gate::EndpointGate;
use super::message::Outgoing;
use super::retry;
use crate::apps::Apps;
use crate::metrics;

/// How long a queue is left to one broker. It is longer than an attempt.
const CLAIM: Duration = Duration::from_secs(60);
/// After this time no attempt begins in a claim, since the attempt could outlast it.
const LAST_BEGIN: Duration = Duration::from_secs(40);
/// How often the outbox is polled. A message of this process is sent at once.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How many queues of an endpoint a broker works on at once.
const CONCURRENCY: usize = 16;
/// How many messages of a queue are read at once.
const BATCH: usize = 20;

/// Delivers to one endpoint.
pub(super) struct Delivery {
    endpoint: RwLock<Arc<Endpoint>>,
    gate: Mutex<EndpointGate>,
    slots: Arc<Semaphore>,
    /// A slot is free again.
    freed: Notify,
    context: Context,
}

/// The state that all deliveries share.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) writer: StoreWriter,
    pub(crate) apps: Arc<Apps>,
    /// `None` in a simulation.
    pub(crate) client: Option<Client>,
    pub(crate) shutdown: Shutdown,
}

impl Context {
    /// Sends a message.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        message: Message<'_>,
        now: Timestamp,
    ) -> Result<(), DeliveryError> {
        match &self.client {
            Some(client) => client.send(endpoint, message, now).await,
            None => Err(DeliveryError::Other("there is no network".to_owned())),
        }
    }
}

/// The failed attempts with a message, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempts {
    pub(crate) count: u32,
    pub(crate) first_at: Timestamp,
    pub(crate) last_at: Timestamp,
    pub(crate) error: String,
}

/// A message that an endpoint has not taken, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadLetter {
    pub(crate) id: String,
    pub(crate) endpoint: String,
    pub(crate) subject: String,
    pub(crate) given_up_at: Timestamp,
    pub(crate) attempts: u32,
    pub(crate) error: String,
    /// The message as it was stored.
    pub(crate) message: String,
}

/// The end of an attempt.
struct Ended {
    settlement: Settlement,
    /// When the queue is due again, if nothing else of it is sent now.
    pause: Duration,
    /// The endpoint was down and has taken the message.
    has_reopened: bool,
}

impl Ended {
    fn new(settlement: Settlement, pause: Duration) -> Self {
        Self {
            settlement,
            pause,
            has_reopened: false,
        }
    }
}

impl Delivery {
    pub(super) fn new(endpoint: Endpoint, context: Context) -> Arc<Self> {
        Arc::new(Self {
            endpoint: RwLock::new(Arc::new(endpoint)),
            gate: Mutex::new(EndpointGate::new()),
            slots: Arc::new(Semaphore::new(CONCURRENCY)),
            freed: Notify::new(),
            context,
        })
    }

    pub(super) fn endpoint(&self) -> Arc<Endpoint> {
        let endpoint = self.endpoint.read().unwrap_or_else(PoisonError::into_inner);
        endpoint.clone()
    }

    /// Uses other settings from the next attempt on.
    pub(super) fn change(&self, endpoint: Endpoint) {
        let mut held = self
            .endpoint
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(endpoint);
    }

    /// When the next attempt is allowed. `None`: now.
    pub(super) fn reopens_at(&self) -> Option<Instant> {
        self.gate().reopens_at()
    }

    /// Runs until shutdown, or until the endpoint is gone.
    pub(super) async fn run(self: Arc<Self>, gone: Arc<Notify>) {
        let shutdown = self.context.shutdown.clone();
        let subscribers = self.context.writer.subscribers().clone();
        let mut is_failing = false;
        loop {
            let more = match self.begin_due().await {
                Ok(more) => {
                    is_failing = false;
                    more
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!(
                            error = &error as &dyn std::error::Error,
                            "the outbox cannot be read: messages wait in it"
                        );
                    }
                    false
                }
            };
            tokio::select! {
                biased;
                () = shutdown.started() => return,
                () = gone.notified() => return,
                () = self.freed.notified(), if more => {}
                () = subscribers.added(), if !more && !is_failing => {}
                () = sleep(POLL_INTERVAL) => {}
            }
        }
    }

    /// Claims queues that are due, and begins to deliver them. Whether more are due than there are free slots.
    async fn begin_due(self: &Arc<Self>) -> Result<bool, WriteError> {
        let endpoint = self.endpoint();
        let id = endpoint.id.as_str();
        let writer = &self.context.writer;
        let poll = writer.poll_deliveries(id).await?;
        for (partition, by, limit) in by_partition(&poll.due) {
            let free = self.slots.available_permits();
            if free == 0 {
                return Ok(true);
            }
            let due = DueEntries {
                partition,
                limit: limit.min(free),
                by,
            };
            for subject in writer.claim_deliveries(id, due, CLAIM).await? {
                let slot = self.slots.clone().acquire_owned().await;
                let Ok(slot) = slot else { return Ok(false) };
                let this = self.clone();
                let claimed_at = Instant::now();
                self.context
                    .shutdown
                    .spawn(async move { this.deliver(subject, claimed_at, slot).await });
            }
        }
        Ok(false)
    }

    async fn deliver(
        self: Arc<Self>,
        subject: Subject,
        claimed_at: Instant,
        slot: OwnedSemaphorePermit,
    ) {
        if let Err(error) = self.deliver_queue(&subject, claimed_at).await {
            // The claim ends by itself, and the message is sent again.
            debug!(
                subject = subject.name,
                error = &error as &dyn std::error::Error,
                "the end of a delivery is not recorded"
            );
        }
        drop(slot);
        self.freed.notify_one();
    }

    async fn deliver_queue(
        &self,
        subject: &Subject,
        claimed_at: Instant,
    ) -> Result<(), WriteError> {
        let endpoint = self.endpoint();
        let (id, writer) = (endpoint.id.as_str(), &self.context.writer);
        let queued = writer.queued(id, subject, BATCH).await?;
        let mut attempts = queued.attempts.as_deref().and_then(parse);
        let last = queued.messages.len().saturating_sub(1);
        if queued.messages.is_empty() {
            return writer
                .settle(id, subject, &Settlement::Unsent, Duration::ZERO)
                .await;
        }
        for (index, message) in queued.messages.into_iter().enumerate() {
            let is_over = claimed_at.elapsed() > LAST_BEGIN || self.context.shutdown.is_started();
            if is_over {
                let unsent = writer.settle(id, subject, &Settlement::Unsent, Duration::ZERO);
                return unsent.await;
            }
            let earlier = attempts.take();
            let ended = self.attempt(&endpoint, subject, message, earlier).await;
            let goes_on = match ended.settlement {
                Settlement::Delivered(_) | Settlement::Dead { .. } => {
                    index < last && !ended.has_reopened
                }
                Settlement::Failed { .. } | Settlement::Unsent => false,
            };
            // The queue stays claimed while its next message is sent.
            let pause = if goes_on { CLAIM } else { ended.pause };
            writer.settle(id, subject, &ended.settlement, pause).await?;
            // Not before the message is gone from its queue, since this queue becomes due, too.
            if ended.has_reopened {
                self.reopened(&endpoint).await;
            }
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// One attempt with one message.
    async fn attempt(
        &self,
        endpoint: &Endpoint,
        subject: &Subject,
        message: String,
        earlier: Option<Attempts>,
    ) -> Ended {
        let outgoing = match &endpoint.wants {
            Wants::Events { .. } => Outgoing::of_event(&message, &self.context.apps),
            Wants::Webhooks { .. } => Outgoing::of_webhook(&message),
        };
        let now = self.now().await;
        let outgoing = match outgoing {
            Ok(outgoing) => outgoing,
            Err(error) => {
                let attempts = count(earlier, error.to_string(), now);
                return self.give_up(endpoint, subject, message, "?".to_owned(), attempts, now);
            }
        };
        let permit = self.gate().may_send(Instant::now());
        let Some(permit) = permit else {
            if retry::is_dead(outgoing.at, now) {
                let error = earlier.as_ref().map(|it| it.error.clone());
                let error = error.unwrap_or_else(|| "the endpoint is down".to_owned());
                let attempts = count(earlier, error, now);
                return self.give_up(endpoint, subject, message, outgoing.id, attempts, now);
            }
            let reopens_at = self.reopens_at().unwrap_or_else(Instant::now);
            let pause = reopens_at.saturating_duration_since(Instant::now());
            return Ended::new(Settlement::Unsent, pause);
        };
        let sent = outgoing.as_message();
        match self.context.send(endpoint, sent, now).await {
            Ok(()) => {
                metrics::delivered(endpoint.id.as_str(), "delivered");
                let has_reopened = self.reopens_at().is_some();
                self.gate().succeeded(permit);
                Ended {
                    settlement: Settlement::Delivered(message),
                    pause: Duration::ZERO,
                    has_reopened,
                }
            }
            Err(error) => {
                metrics::delivered(endpoint.id.as_str(), error.kind());
                let was_open = self.reopens_at().is_none();
                self.gate().failed(permit, Instant::now());
                let attempts = count(earlier, error.to_string(), now);
                warn!(endpoint = %endpoint.id, message = outgoing.id, attempts = attempts.count,
                    error = %attempts.error, "a message was not delivered, and is sent again");
                if was_open && self.reopens_at().is_some() {
                    warn!(endpoint = %endpoint.id,
                        "the endpoint takes nothing: it gets one message at a time until it does");
                }
                if retry::is_dead(outgoing.at, now) {
                    return self.give_up(endpoint, subject, message, outgoing.id, attempts, now);
                }
                let pause = retry::pause(attempts.count, jitter());
                // While the endpoint is down, the next probe may be with this message.
                let probe = self.reopens_at();
                let probe = probe.map(|at| at.saturating_duration_since(Instant::now()));
                let pause = probe.map_or(pause, |probe| pause.min(probe));
                let attempts = serde_json::to_string(&attempts).unwrap_or_default();
                Ended::new(Settlement::Failed { attempts }, pause)
            }
        }
    }

    async fn reopened(&self, endpoint: &Endpoint) {
        info!(endpoint = %endpoint.id, "the endpoint takes messages again");
        let hastened = self
            .context
            .writer
            .hasten_deliveries(endpoint.id.as_str())
            .await;
        if let Err(error) = hastened {
            debug!(
                error = &error as &dyn std::error::Error,
                "messages wait for their next attempt"
            );
        }
    }

    fn give_up(
        &self,
        endpoint: &Endpoint,
        subject: &Subject,
        message: String,
        id: String,
        attempts: Attempts,
        now: Timestamp,
    ) -> Ended {
        metrics::delivered(endpoint.id.as_str(), "dead");
        warn!(endpoint = %endpoint.id, message = id, error = %attempts.error,
            "a message is given up: `evergreen events resend` sends it again");
        let letter = DeadLetter {
            id,
            endpoint: endpoint.id.to_string(),
            subject: subject.name.clone(),
            given_up_at: now,
            attempts: attempts.count,
            error: attempts.error,
            message: message.clone(),
        };
        let letter = serde_json::to_string(&letter).unwrap_or_default();
        Ended::new(Settlement::Dead { message, letter }, Duration::ZERO)
    }

    fn gate(&self) -> std::sync::MutexGuard<'_, EndpointGate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store's time, which the message has, too.
    async fn now(&self) -> Timestamp {
        let now = self.context.writer.now().await;
        now.unwrap_or_else(|_| Timestamp::of_this_machine())
    }
}

/// The attempts after another failure.
fn count(earlier: Option<Attempts>, error: String, now: Timestamp) -> Attempts {
    Attempts {
        count: earlier.as_ref().map_or(0, |it| it.count).saturating_add(1),
        first_at: earlier.map_or(now, |it| it.first_at),
        last_at: now,
        error,
    }
}

pub(crate) fn parse(text: &str) -> Option<Attempts> {
    serde_json::from_str(text).ok()
}

/// A number from 0 to 1.
fn jitter() -> f64 {
    f64::from(store::random::bytes::<1>()[0]) / 255.0
}

/// The due entries of each partition: until when they were due, and how many there are.
fn by_partition(due: &[(u8, Timestamp)]) -> Vec<(u8, Timestamp, usize)> {
    let mut groups: Vec<(u8, Timestamp, usize)> = Vec::new();
    for (partition, at) in due {
        match groups.iter_mut().find(|group| group.0 == *partition) {
            Some(group) => {
                group.1 = group.1.max(*at);
                group.2 += 1;
            }
            None => groups.push((*partition, *at, 1)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_entries_are_claimed_by_partition_in_the_order_of_their_first() {
        let at = Timestamp::from_millis;
        let due = [(7, at(1)), (3, at(2)), (7, at(5))];
        assert_eq!(by_partition(&due), [(7, at(5), 2), (3, at(2), 1)]);
    }

    #[test]
    fn failed_attempts_are_counted_from_the_first() {
        let at = Timestamp::from_millis;
        let first = count(None, "down".to_owned(), at(1));
        let text = serde_json::to_string(&first).unwrap();
        let second = count(parse(&text), "still down".to_owned(), at(9));
        assert_eq!(
            (second.count, second.first_at, second.last_at),
            (2, at(1), at(9))
        );
        assert_eq!(second.error, "still down");
    }
}
