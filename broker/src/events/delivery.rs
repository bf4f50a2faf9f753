//! Delivers the messages of the outbox. Each endpoint has a loop of its own, so a slow one delays no other.
//!
//! A queue is claimed by one broker at a time. While the endpoint is down, one queue at a time is claimed, as a probe.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use service::shutdown::Shutdown;
use store::Timestamp;
use store_writer::StoreWriter;
use store_writer::backend::{DueEntries, DuePoll};
use store_writer::outbox::{Backlog, Subject};
use store_writer::writer::WriteError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::bounds::{Bounds, MOST_WAITING};
use super::client::{Client, Message};
use super::delivery_error::DeliveryError;
use super::endpoint::Endpoint;
use super::gate::{EndpointGate, Permit};
use super::retry;
use crate::apps::Apps;
use crate::metrics;
use crate::refresh::worker::Worker;

/// How long a queue is left to one broker. It is longer than an attempt.
pub(super) const CLAIM: Duration = Duration::from_secs(60);
/// A queue that is due later than this is claimed by nobody. The servers of a Cluster have different clocks.
pub(super) const BEYOND_CLAIMS: Duration = Duration::from_secs(65);
/// How often all partitions of the outbox are polled. A message of this process is sent at once.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Likewise, while nothing waits for the endpoint. A broker that stores a message sends it, too.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// How many queues of an endpoint a broker works on at once.
const CONCURRENCY: usize = 16;
/// How often the messages of an endpoint are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);
/// In one of this many counts, queues are looked for that a wrong clock has scheduled.
const COUNTS_PER_CLOCK_CHECK: u64 = 40;

/// Delivers to one endpoint.
pub(super) struct Delivery {
    endpoint: RwLock<Arc<Endpoint>>,
    gate: Mutex<EndpointGate>,
    backlog: Arc<Backlog>,
    slots: Arc<Semaphore>,
    /// A slot is free again.
    freed: Notify,
    pub(super) context: Context,
}

/// The state that all deliveries share.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) writer: StoreWriter,
    pub(crate) apps: Arc<Apps>,
    pub(crate) worker: Arc<Worker>,
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

/// The queues that are due, and when all partitions are polled again.
struct Plan {
    due: VecDeque<DueEntries>,
    poll_all_at: Instant,
}

/// The event that a loop waits for.
enum Wait {
    /// A free slot.
    Slot,
    /// A free slot, or this time: the endpoint is down.
    Down(Instant),
    /// A new message, or the time of the next poll.
    Message,
}

/// A permit of the gate of an endpoint. It is given back unused when it is dropped.
pub(super) struct HeldPermit {
    delivery: Arc<Delivery>,
    permit: Option<Permit>,
}

impl HeldPermit {
    pub(super) fn is_probe(&self) -> bool {
        self.permit.is_some_and(Permit::is_probe)
    }

    /// The endpoint has answered. Whether it was down.
    pub(super) fn answered(mut self) -> bool {
        let permit = self.permit.take();
        permit.is_some_and(|permit| self.delivery.gate().answered(permit))
    }

    /// The endpoint has failed. Whether it is down since then.
    pub(super) fn failed(mut self) -> bool {
        let Some(permit) = self.permit.take() else {
            return false;
        };
        let mut gate = self.delivery.gate();
        let was_open = gate.reopens_at().is_none();
        gate.failed(permit, Instant::now());
        was_open && gate.reopens_at().is_some()
    }
}

impl Drop for HeldPermit {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.delivery.gate().unused(permit, Instant::now());
        }
    }
}

impl Delivery {
    pub(super) fn new(endpoint: Endpoint, context: Context) -> Arc<Self> {
        let subscribers = context.writer.subscribers();
        Arc::new(Self {
            backlog: subscribers.backlog(endpoint.id.as_str()),
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

    /// The right to attempt one delivery. `None` while the endpoint is down and a probe is not due.
    pub(super) fn permit(self: &Arc<Self>) -> Option<HeldPermit> {
        let permit = self.gate().may_send(Instant::now())?;
        Some(HeldPermit {
            delivery: self.clone(),
            permit: Some(permit),
        })
    }

    /// Runs until shutdown, or until the sender of `gone` is dropped.
    pub(super) async fn run(self: Arc<Self>, mut gone: watch::Receiver<()>) {
        tokio::select! {
            biased;
            () = self.is_over(&mut gone) => return,
            () = self.context.worker.watch.wait_until_verified() => {}
        }
        tokio::join!(self.deliver_due(gone.clone()), self.keep_bounds(gone));
    }

    /// Returns at shutdown, or when the endpoint is gone.
    async fn is_over(&self, gone: &mut watch::Receiver<()>) {
        tokio::select! {
            biased;
            () = self.context.shutdown.started() => {}
            _ = gone.changed() => {}
        }
    }

    async fn deliver_due(self: &Arc<Self>, mut gone: watch::Receiver<()>) {
        let mut plan = Plan {
            due: VecDeque::new(),
            poll_all_at: Instant::now(),
        };
        let mut is_failing = false;
        loop {
            let wait = match self.begin_due(&mut plan).await {
                Ok(wait) => {
                    is_failing = false;
                    wait
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!(
                            error = &error as &dyn std::error::Error,
                            "the outbox cannot be read: messages wait in it"
                        );
                    }
                    plan.poll_all_at = Instant::now() + POLL_INTERVAL;
                    Wait::Down(plan.poll_all_at)
                }
            };
            tokio::select! {
                biased;
                () = self.is_over(&mut gone) => return,
                () = self.freed.notified(), if !matches!(wait, Wait::Message) => {}
                () = self.backlog.added(), if matches!(wait, Wait::Message) => {}
                () = sleep_until(match wait {
                    Wait::Down(at) => at,
                    Wait::Slot | Wait::Message => plan.poll_all_at,
                }) => {}
            }
        }
    }

    /// Claims queues that are due, and begins to deliver them.
    async fn begin_due(self: &Arc<Self>, plan: &mut Plan) -> Result<Wait, WriteError> {
        if self.reopens_at().is_some() {
            plan.due.clear();
            plan.poll_all_at = Instant::now();
            return self.begin_probe().await;
        }
        self.poll(plan).await?;
        while let Some(mut due) = plan.due.pop_front() {
            let free = self.slots.available_permits();
            let left = due.limit.saturating_sub(free);
            due.limit -= left;
            if left > 0 {
                plan.due.push_front(DueEntries { limit: left, ..due });
            }
            if free == 0 {
                return Ok(Wait::Slot);
            }
            self.begin(due, None).await?;
            if self.reopens_at().is_some() {
                break;
            }
        }
        Ok(Wait::Message)
    }

    /// Polls all partitions if it is time, or those where this process has stored messages.
    async fn poll(&self, plan: &mut Plan) -> Result<(), WriteError> {
        let (endpoint, writer) = (self.endpoint(), &self.context.writer);
        let id = endpoint.id.as_str();
        let added = self.backlog.take_partitions();
        if Instant::now() >= plan.poll_all_at {
            let poll = writer.poll_deliveries(id, &all_partitions()).await?;
            let is_idle = poll.due.is_empty() && poll.later.is_empty() && poll.missing == 0;
            plan.poll_all_at = Instant::now()
                + if is_idle {
                    IDLE_INTERVAL
                } else {
                    POLL_INTERVAL
                };
            plan.due = DueEntries::by_partition(&poll.due).into();
        } else if !added.is_empty() {
            let poll = writer.poll_deliveries(id, &added).await?;
            plan.due.extend(DueEntries::by_partition(&poll.due));
        }
        Ok(())
    }

    /// Begins one delivery to an endpoint that is down, if it is time.
    async fn begin_probe(self: &Arc<Self>) -> Result<Wait, WriteError> {
        let Some(permit) = self.permit() else {
            let reopens_at = self.reopens_at();
            return Ok(Wait::Down(reopens_at.unwrap_or_else(Instant::now)));
        };
        if self.slots.available_permits() == 0 {
            return Ok(Wait::Slot);
        }
        let endpoint = self.endpoint();
        let writer = &self.context.writer;
        let poll = writer
            .poll_deliveries(endpoint.id.as_str(), &all_partitions())
            .await?;
        if let Some(due) = probe_of(&poll) {
            self.begin(due, Some(permit)).await?;
        }
        // Not sooner, also if there is nothing to send, or if another broker was faster.
        Ok(Wait::Down(Instant::now() + POLL_INTERVAL))
    }

    /// Claims queues, and begins to deliver them. There are free slots for them.
    async fn begin(
        self: &Arc<Self>,
        due: DueEntries,
        mut permit: Option<HeldPermit>,
    ) -> Result<(), WriteError> {
        let (endpoint, writer) = (self.endpoint(), &self.context.writer);
        let claimed = writer.claim_deliveries(endpoint.id.as_str(), due, CLAIM);
        for subject in claimed.await? {
            let slot = self.slots.clone().acquire_owned().await;
            let Ok(slot) = slot else { return Ok(()) };
            let delivery = self
                .clone()
                .deliver(subject, Instant::now(), slot, permit.take());
            self.context.shutdown.spawn(delivery);
        }
        Ok(())
    }

    async fn deliver(
        self: Arc<Self>,
        subject: Subject,
        claimed_at: Instant,
        slot: OwnedSemaphorePermit,
        permit: Option<HeldPermit>,
    ) {
        if let Err(error) = self.deliver_queue(&subject, claimed_at, permit).await {
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

    /// Keeps what waits for the endpoint within its bounds.
    async fn keep_bounds(&self, mut gone: watch::Receiver<()>) {
        for round in 0_u64.. {
            if let Err(error) = self.check_bounds(round).await {
                debug!(
                    error = &error as &dyn std::error::Error,
                    "the messages of an endpoint were not counted"
                );
            }
            tokio::select! {
                biased;
                () = self.is_over(&mut gone) => break,
                () = sleep(COUNT_INTERVAL) => {}
            }
        }
        self.report_dropped(0);
    }

    async fn check_bounds(&self, round: u64) -> Result<(), WriteError> {
        let (endpoint, writer) = (self.endpoint(), &self.context.writer);
        let id = endpoint.id.as_str();
        self.report_dropped(0);
        let bounds = Bounds::of(writer.count_deliveries(id).await?);
        self.backlog.set_full(bounds.is_full);
        if bounds.excess_dead > 0 {
            writer.forget_dead_letters(id, bounds.excess_dead).await?;
            self.report_dropped(bounds.excess_dead as u64);
        }
        if round.is_multiple_of(COUNTS_PER_CLOCK_CHECK) {
            writer.hasten_deliveries(id, retry::LONGEST_PAUSE).await?;
        }
        Ok(())
    }

    /// Reports the messages that this process has dropped, and dead letters.
    fn report_dropped(&self, dead_letters: u64) {
        let messages = self.backlog.take_dropped();
        if messages + dead_letters == 0 {
            return;
        }
        let endpoint = self.endpoint();
        metrics::dropped(endpoint.id.as_str(), messages + dead_letters);
        warn!(endpoint = %endpoint.id, messages, dead_letters,
            "messages are dropped, since {MOST_WAITING} wait for the endpoint or too many are given up: \
             `GET /v1/events?after=` still has the events");
    }

    fn gate(&self) -> MutexGuard<'_, EndpointGate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn all_partitions() -> Vec<u8> {
    (0..=u8::MAX).collect()
}

/// The queue that a probe is made with: the first that is due, or else the first that is surely not claimed.
fn probe_of(poll: &DuePoll) -> Option<DueEntries> {
    let first_due = poll.due.first().copied();
    let (partition, at) = first_due.or_else(|| poll.later_than(BEYOND_CLAIMS))?;
    let is_due = first_due.is_some();
    Some(DueEntries {
        partition,
        limit: 1,
        from: (!is_due).then_some(at),
        by: at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_is_due_or_not_claimed() {
        let at = Timestamp::from_millis;
        let now = at(1_000_000);
        let (claimed, waits) = ((3, now + CLAIM), (5, now + 2 * CLAIM));
        let probe = |scheduled: &[(u8, Timestamp)]| {
            let probe = probe_of(&DuePoll::of(scheduled.iter().copied(), now));
            probe.map(|it| (it.partition, it.from, it.by, it.limit))
        };
        let due = (7, at(999_000));
        assert_eq!(probe(&[claimed, waits, due]), Some((7, None, due.1, 1)));
        let waiting = Some((5, Some(waits.1), waits.1, 1));
        assert_eq!(probe(&[claimed, waits]), waiting);
        assert_eq!(probe(&[claimed]), None);
        assert_eq!(probe(&[]), None);
    }
}
