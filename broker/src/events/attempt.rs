//! Delivers the messages of a claimed queue. The first is sent until the endpoint takes it or it is given up, then the
//! next one.

use std::sync::Arc;
use std::time::Duration;

use store::Timestamp;
use store_writer::outbox::{Settlement, Subject};
use store_writer::writer::WriteError;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::attempts::{Attempts, DeadLetter};
use super::delivery::{BEYOND_CLAIMS, CLAIM, Delivery, HeldPermit};
use super::delivery_error::DeliveryError;
use super::endpoint::{Endpoint, Wants};
use super::message::{Outgoing, Unreadable};
use super::retry;
use crate::metrics;

/// After this time no attempt begins in a claim, since the attempt could outlast it.
const LAST_BEGIN: Duration = Duration::from_secs(40);
/// How many messages of a queue are read at once.
const BATCH: usize = 20;

/// The end of an attempt, or of a message that was given up without one.
struct Ended {
    settlement: Settlement,
    /// When the queue is due again, if nothing else of it is sent now.
    pause: Duration,
    /// The endpoint was down and has taken the message.
    has_reopened: bool,
    /// Left over, if there was no attempt.
    permit: Option<HeldPermit>,
}

/// A message under way.
struct Sending<'a> {
    endpoint: &'a Endpoint,
    subject: &'a Subject,
    message: String,
    id: String,
    now: Timestamp,
}

impl Delivery {
    /// Delivers the first messages of a queue.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(super) async fn deliver_queue(
        self: &Arc<Self>,
        subject: &Subject,
        claimed_at: Instant,
        permit: Option<HeldPermit>,
    ) -> Result<(), WriteError> {
        let endpoint = self.endpoint();
        let (id, writer) = (endpoint.id.as_str(), &self.context.writer);
        let unsent = || writer.settle(id, subject, &Settlement::Unsent, Duration::ZERO);
        // Without a permit nothing is read.
        let Some(permit) = permit.or_else(|| self.permit()) else {
            return unsent().await;
        };
        let mut permit = Some(permit);
        let queued = writer.queued(id, subject, BATCH).await?;
        let mut attempts = queued.attempts.as_deref().and_then(Attempts::parse);
        let mut left = queued.messages.len();
        if left == 0 {
            return unsent().await;
        }
        for message in queued.messages {
            left -= 1;
            let is_over = claimed_at.elapsed() > LAST_BEGIN || self.context.shutdown.is_started();
            let held = permit.take().or_else(|| self.permit());
            let Some(held) = held.filter(|_| !is_over) else {
                return unsent().await;
            };
            let earlier = attempts.take();
            let ended = self
                .attempt(&endpoint, subject, message, earlier, held)
                .await?;
            let is_gone = match ended.settlement {
                Settlement::Delivered(_) | Settlement::Dead { .. } => true,
                Settlement::Failed { .. } | Settlement::Unsent => false,
            };
            let goes_on = is_gone && left > 0;
            // The queue stays claimed while its next message is sent.
            let pause = if goes_on { CLAIM } else { ended.pause };
            writer.settle(id, subject, &ended.settlement, pause).await?;
            if ended.has_reopened {
                self.reopened(&endpoint).await;
            }
            if !goes_on {
                break;
            }
            permit = ended.permit;
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
        permit: HeldPermit,
    ) -> Result<Ended, WriteError> {
        let outgoing = match &endpoint.wants {
            Wants::Events { .. } => Outgoing::of_event(&message, &self.context.apps),
            Wants::Webhooks { .. } => Outgoing::of_webhook(&message),
        };
        // The store's time, which the message has, too.
        let now = self.context.writer.now().await?;
        let id = |id: &str| id.to_owned();
        let sending = Sending {
            endpoint,
            subject,
            message,
            id: outgoing.as_ref().map_or(id("?"), |it| id(&it.id)),
            now,
        };
        let outgoing = match outgoing {
            Ok(outgoing) => outgoing,
            Err(error @ Unreadable) => {
                let attempts = Attempts::after(earlier, error.to_string(), now);
                return Ok(sending.given_up(attempts, Some(permit)));
            }
        };
        if retry::is_given_up(outgoing.at, now, earlier.is_some(), permit.is_probe()) {
            let attempts = earlier.unwrap_or_else(|| Attempts::none(now));
            return Ok(sending.given_up(attempts, Some(permit)));
        }
        let sent = self.context.send(endpoint, outgoing.as_message(), now);
        Ok(match sent.await {
            Ok(()) => {
                metrics::delivered(endpoint.id.as_str(), "delivered");
                Ended {
                    settlement: Settlement::Delivered(sending.message),
                    pause: Duration::ZERO,
                    has_reopened: permit.answered(),
                    permit: None,
                }
            }
            Err(error) => sending.failed(&error, outgoing.at, earlier, permit),
        })
    }

    async fn reopened(&self, endpoint: &Endpoint) {
        info!(endpoint = %endpoint.id, "the endpoint takes messages again");
        let id = endpoint.id.as_str();
        let hastened = self.context.writer.hasten_deliveries(id, BEYOND_CLAIMS);
        if let Err(error) = hastened.await {
            debug!(
                error = &error as &dyn std::error::Error,
                "messages wait for their next attempt"
            );
        }
    }
}

impl Sending<'_> {
    fn failed(
        self,
        error: &DeliveryError,
        stored_at: Timestamp,
        earlier: Option<Attempts>,
        permit: HeldPermit,
    ) -> Ended {
        let endpoint = &self.endpoint.id;
        metrics::delivered(endpoint.as_str(), error.kind());
        let attempts = Attempts::after(earlier, error.to_string(), self.now);
        warn!(%endpoint, message = self.id, attempts = attempts.count, error = %attempts.error,
            "a message was not delivered, and is sent again");
        match error.is_of_endpoint() {
            true => {
                if permit.failed() {
                    warn!(%endpoint,
                        "the endpoint takes nothing: it gets one message at a time until it does");
                }
            }
            // The endpoint works, but what waits is not sent sooner, since nothing was taken.
            false => drop(permit.answered()),
        }
        if retry::is_dead(stored_at, self.now) {
            return self.given_up(attempts, None);
        }
        Ended {
            pause: retry::pause(attempts.count, jitter()),
            settlement: Settlement::Failed {
                attempts: attempts.to_json(),
            },
            has_reopened: false,
            permit: None,
        }
    }

    fn given_up(self, attempts: Attempts, permit: Option<HeldPermit>) -> Ended {
        let endpoint = &self.endpoint.id;
        metrics::delivered(endpoint.as_str(), "dead");
        warn!(%endpoint, message = self.id, error = %attempts.error,
            "a message is given up: `evergreen events resend` sends it again");
        let letter = DeadLetter {
            id: self.id,
            endpoint: endpoint.to_string(),
            subject: self.subject.name.clone(),
            given_up_at: self.now,
            attempts: attempts.count,
            error: attempts.error,
            message: self.message.clone(),
        };
        Ended {
            settlement: Settlement::Dead {
                message: self.message,
                letter: letter.to_json(),
            },
            pause: Duration::ZERO,
            has_reopened: false,
            permit,
        }
    }
}

/// A number from 0 to 1.
fn jitter() -> f64 {
    f64::from(store::random::bytes::<1>()[0]) / 255.0
}
