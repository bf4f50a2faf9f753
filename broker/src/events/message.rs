//! Messages as they are stored, and as they are sent.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Status, Timestamp};
use store_writer::events::Event;

use super::client::Message;
use crate::apps::{App, Apps};

/// GHL's headers that a forwarded webhook keeps. GHL's signature is over the body alone.
const FORWARDED: [&str; 2] = ["x-ghl-signature", "x-wh-signature"];

/// A webhook of GHL that is forwarded, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredWebhook {
    pub(crate) id: String,
    /// When it arrived, in the store's time.
    pub(crate) at: Timestamp,
    pub(crate) content_type: String,
    pub(crate) headers: Vec<(String, String)>,
    /// The body in base64.
    pub(crate) body: String,
}

impl StoredWebhook {
    /// Of a webhook that GHL has signed.
    pub(crate) fn new(id: String, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Self {
        let text = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let kept = FORWARDED.into_iter();
        let kept = kept.filter_map(|name| Some((name.to_owned(), text(name)?)));
        Self {
            id,
            at: now,
            content_type: text(CONTENT_TYPE.as_str())
                .unwrap_or_else(|| "application/json".to_owned()),
            headers: kept.collect(),
            body: BASE64_STANDARD.encode(body),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A message, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) id: String,
    /// When it was stored, or stored again.
    pub(crate) at: Timestamp,
    pub(crate) content_type: HeaderValue,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A stored message that an operator has sent again. It is tried as long as a new one.
#[derive(Deserialize)]
struct Resent {
    #[serde(rename = "resentAt")]
    at: Option<Timestamp>,
}

/// A stored message, to be stored again.
pub(crate) fn resent(message: &str, now: Timestamp) -> String {
    match serde_json::from_str(message) {
        Ok(Value::Object(mut fields)) => {
            let at = serde_json::to_value(now).unwrap_or_default();
            fields.insert("resentAt".to_owned(), at);
            Value::Object(fields).to_string()
        }
        Ok(_) | Err(_) => message.to_owned(),
    }
}

fn resent_at(json: &str) -> Option<Timestamp> {
    serde_json::from_str::<Resent>(json).ok()?.at
}

/// The stored message cannot be read. A newer build wrote it, or somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored message cannot be read by this build")]
pub(crate) struct Unreadable;

impl Outgoing {
    /// Of a stored event.
    pub(crate) fn of_event(json: &str, apps: &Apps) -> Result<Self, Unreadable> {
        let event: Event = serde_json::from_str(json).map_err(|_| Unreadable)?;
        let at = humantime::parse_rfc3339(&event.time).map_err(|_| Unreadable)?;
        let at = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        Ok(Self {
            at: resent_at(json).unwrap_or(Timestamp::from_millis(millis)),
            content_type: HeaderValue::from_static("application/json"),
            headers: HeaderMap::new(),
            body: Bytes::from(payload(&event, apps).to_string()),
            id: event.id,
        })
    }

    /// As the client sends it.
    pub(crate) fn as_message(&self) -> Message<'_> {
        Message {
            id: &self.id,
            content_type: &self.content_type,
            headers: &self.headers,
            body: &self.body,
        }
    }

    /// Of a stored webhook.
    pub(crate) fn of_webhook(json: &str) -> Result<Self, Unreadable> {
        let stored: StoredWebhook = serde_json::from_str(json).map_err(|_| Unreadable)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &stored.headers {
            let name: HeaderName = name.parse().map_err(|_| Unreadable)?;
            headers.insert(name, value.parse().map_err(|_| Unreadable)?);
        }
        Ok(Self {
            id: stored.id,
            at: resent_at(json).unwrap_or(stored.at),
            content_type: stored.content_type.parse().map_err(|_| Unreadable)?,
            headers,
            body: BASE64_STANDARD
                .decode(stored.body)
                .map_err(|_| Unreadable)?
                .into(),
        })
    }
}

/// The event as endpoints get it: with the link by which the customer connects again, if that is needed.
pub(crate) fn payload(event: &Event, apps: &Apps) -> Value {
    let mut payload = serde_json::to_value(event).unwrap_or_default();
    if let Some(installation) = &event.installation {
        let is_over = match installation.status {
            Status::Invalid | Status::Revoked => true,
            Status::Active | Status::Paused | Status::Static => false,
        };
        let app = apps.named(&event.app).filter(|_| is_over);
        let link = app.map(|app| reconnect_link(&app));
        payload["installation"]["reconnectLink"] = link.into();
    }
    payload
}

/// The public link at which a customer connects again.
pub(crate) fn reconnect_link(app: &App) -> String {
    let mut link = app.consent.redirect_uri.clone();
    link.set_path("/oauth/install");
    link.set_query(None);
    if !app.name.is_default() {
        link.query_pairs_mut().append_pair("app", app.name.as_str());
    }
    link.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhook_comes_back_as_it_was() {
        let mut headers = HeaderMap::new();
        headers.insert("x-ghl-signature", HeaderValue::from_static("c2ln"));
        headers.insert("authorization", HeaderValue::from_static("secret"));
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let body = b"{\"a\": \"\xff\"}";
        let now = Timestamp::from_millis(7);
        let stored = StoredWebhook::new("w1".to_owned(), &headers, body, now);
        let sent = Outgoing::of_webhook(&stored.to_json()).unwrap();
        assert_eq!(sent.body, &body[..]);
        assert_eq!(sent.at, now);
        assert_eq!(sent.headers.len(), 1);
        assert_eq!(sent.headers["x-ghl-signature"], "c2ln");
        assert_eq!(Outgoing::of_webhook("{}"), Err(Unreadable));

        let later = Timestamp::from_millis(9);
        let again = Outgoing::of_webhook(&resent(&stored.to_json(), later)).unwrap();
        assert_eq!(again, Outgoing { at: later, ..sent });
    }
}
