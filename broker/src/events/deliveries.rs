//! The endpoints of this broker, and the loops that deliver to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use store::Timestamp;
use store_writer::events::Event;
use store_writer::outbox::Subscriber;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

use super::delivery::{Context, Delivery};
use super::endpoint::{self, Endpoint, EndpointId};
use super::message::Outgoing;
use crate::metrics;

/// All endpoints. They can change while the broker runs.
pub(crate) struct Deliveries {
    context: Context,
    running: Mutex<BTreeMap<EndpointId, Running>>,
}

struct Running {
    delivery: Arc<Delivery>,
    /// Dropped when the endpoint is gone.
    _gone: watch::Sender<()>,
}

impl Deliveries {
    pub(crate) fn new(context: Context) -> Self {
        Self {
            context,
            running: Mutex::default(),
        }
    }

    /// Delivers to these endpoints from now on. Messages for one that is gone stay in the outbox, for another broker.
    pub(crate) fn set(&self, endpoints: &[Endpoint]) {
        let mut running = self.lock();
        running.retain(|id, _| {
            let stays = endpoints.iter().any(|endpoint| endpoint.id == *id);
            if !stays {
                info!(endpoint = %id, "the endpoint is gone");
            }
            stays
        });
        for endpoint in endpoints {
            if let Some(held) = running.get(&endpoint.id) {
                held.delivery.change(endpoint.clone());
                continue;
            }
            metrics::endpoint_configured(endpoint.id.as_str());
            let delivery = Delivery::new(endpoint.clone(), self.context.clone());
            let (_gone, is_gone) = watch::channel(());
            self.context.shutdown.spawn(delivery.clone().run(is_gone));
            running.insert(endpoint.id.clone(), Running { delivery, _gone });
        }
        let subscribers = endpoints.iter().map(subscriber).collect();
        self.context.writer.subscribers().set(subscribers);
    }

    /// The endpoints, each with the time until its next attempt is allowed if it is down.
    pub(crate) fn endpoints(&self) -> Vec<(Arc<Endpoint>, Option<std::time::Duration>)> {
        let now = Instant::now();
        let all = self.lock();
        let all = all.values().map(|held| {
            let reopens_at = held.delivery.reopens_at();
            let pause = reopens_at.map(|at| at.saturating_duration_since(now));
            (held.delivery.endpoint(), pause)
        });
        all.collect()
    }

    /// Sends an event to an endpoint at once. The error is in words.
    ///
    /// # Errors
    /// If the endpoint does not take it, or is not known.
    pub(crate) async fn send_now(
        &self,
        id: &str,
        event: &Event,
        now: Timestamp,
    ) -> Result<(), String> {
        let known = {
            let all = self.lock();
            let mut all = all.values().map(|held| held.delivery.endpoint());
            all.find(|endpoint| endpoint.id.as_str() == id)
        };
        let endpoint = known.ok_or_else(|| "there is no such endpoint".to_owned())?;
        let outgoing = Outgoing::of_event(&event.to_json(), &self.context.apps);
        let outgoing = outgoing.map_err(|error| error.to_string())?;
        let sent = self.context.send(&endpoint, outgoing.as_message(), now);
        sent.await.map_err(|error| error.to_string())
    }

    /// The ids of the endpoints that want a message.
    pub(crate) fn wanting(&self, about: &endpoint::Subject<'_>) -> Vec<String> {
        let all = self.lock();
        let wanting = all.values().map(|held| held.delivery.endpoint());
        let wanting = wanting.filter(|endpoint| endpoint.wants(about));
        wanting.map(|endpoint| endpoint.id.to_string()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<EndpointId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

fn subscriber(endpoint: &Endpoint) -> Subscriber {
    let wanting = endpoint.clone();
    Subscriber {
        endpoint: endpoint.id.to_string(),
        wants: Box::new(move |event| {
            wanting.wants(&endpoint::Subject::Event {
                event_type: &event.kind,
                app: &event.app,
            })
        }),
    }
}
