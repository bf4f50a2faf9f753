//! The webhooks that were sent, so that one can be sent again.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

/// How many webhooks are kept. All are counted.
const MAX_KEPT: usize = 25_000;

/// Counts over all webhooks.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct WebhookCounts {
    pub(crate) created: u64,
    pub(crate) attempts: u64,
    /// Answered with 2xx.
    pub(crate) delivered: u64,
    /// Not answered with 2xx after all retries.
    pub(crate) abandoned: u64,
}

#[derive(Debug, Default)]
pub(crate) struct SentWebhooks {
    counts: WebhookCounts,
    kept: HashMap<String, Sent>,
    /// The ids of the kept webhooks, oldest first.
    order: VecDeque<String>,
}

#[derive(Clone, Debug)]
struct Sent {
    body: Bytes,
    attempts: u32,
    /// Of the last attempt that was answered.
    status: Option<u16>,
}

impl SentWebhooks {
    /// Keeps a new webhook. A repeated id replaces the earlier webhook.
    pub(crate) fn keep(&mut self, id: String, body: Bytes) {
        self.counts.created += 1;
        let sent = Sent {
            body,
            attempts: 0,
            status: None,
        };
        if self.kept.insert(id.clone(), sent).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.kept.remove(&oldest);
        }
    }

    /// Counts an attempt. `status` is that of the response. Returns whether the webhook was delivered.
    pub(crate) fn attempted(&mut self, id: &str, status: Option<u16>) -> bool {
        let is_delivered = status.is_some_and(|status| (200..300).contains(&status));
        self.counts.attempts += 1;
        self.counts.delivered += u64::from(is_delivered);
        if let Some(sent) = self.kept.get_mut(id) {
            sent.attempts += 1;
            sent.status = status.or(sent.status);
        }
        is_delivered
    }

    pub(crate) fn abandoned(&mut self) {
        self.counts.abandoned += 1;
    }

    pub(crate) fn counts(&self) -> WebhookCounts {
        self.counts
    }

    /// The original body of a webhook.
    pub(crate) fn body(&self, id: &str) -> Option<Bytes> {
        self.kept.get(id).map(|sent| sent.body.clone())
    }

    /// The kept webhooks as JSON, oldest first.
    pub(crate) fn shown(&self) -> Vec<Value> {
        let kept = self.order.iter().filter_map(|id| self.kept.get(id));
        kept.map(|sent| {
            let body: Value = serde_json::from_slice(&sent.body).unwrap_or_default();
            json!({"body": body, "attempts": sent.attempts, "status": sent.status})
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_is_delivered() {
        let mut sent = SentWebhooks::default();
        sent.keep("a".to_owned(), Bytes::from_static(b"{}"));
        for (status, expected) in [
            (None, false),
            (Some(302), false),
            (Some(404), false),
            (Some(503), false),
            (Some(204), true),
        ] {
            assert_eq!(sent.attempted("a", status), expected, "{status:?}");
        }
        assert_eq!((sent.counts().attempts, sent.counts().delivered), (5, 1));
        assert_eq!(sent.body("a").unwrap(), "{}");
    }

    #[test]
    fn oldest_webhook_is_dropped() {
        let mut sent = SentWebhooks::default();
        for number in 0..=MAX_KEPT {
            sent.keep(number.to_string(), Bytes::new());
        }
        assert!(sent.body("0").is_none() && sent.body("1").is_some());
        assert_eq!(sent.shown().len(), MAX_KEPT);
    }
}
