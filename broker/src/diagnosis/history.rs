//! The latest history of an installation: its events, and what people did to it by the audit log.

use serde_json::Value;
use store::{InstallationId, Timestamp};
use store_writer::events::{Event, EventType};
use store_writer::outbox::EventsAbout;
use store_writer::{StoreWriter, WriteError};

/// The most entries.
pub(crate) const MOST: usize = 50;

/// The latest entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// The newest first, at most [`MOST`].
    pub(crate) entries: Vec<Entry>,
    /// If older events were not looked at: the time of the oldest one that was.
    pub(crate) looked_back_to: Option<Timestamp>,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// RFC 3339 in UTC, with milliseconds if it is of the audit log.
    pub(crate) at: String,
    pub(crate) source: Source,
    /// The type of the event, or the action of the entry.
    pub(crate) kind: String,
    /// In words.
    pub(crate) text: String,
}

/// Where an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Event,
    Audit,
}

impl Source {
    /// The name in the JSON.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Audit => "audit",
        }
    }
}

/// The history of an installation. Events are kept for 30 days.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn of(writer: &StoreWriter, id: &InstallationId) -> Result<History, WriteError> {
    let (events, entries) = tokio::try_join!(
        writer.newest_events_about(id, MOST),
        writer.audit_about(id, MOST)
    )?;
    Ok(merge(&events, &entries))
}

fn merge(about: &EventsAbout, audit: &[Value]) -> History {
    let events = about.events.iter().map(of_event);
    let mut entries: Vec<Entry> = events.chain(audit.iter().map(of_audit)).collect();
    // A time without milliseconds is after those of its second, as texts are ordered.
    entries.sort_by(|a, b| b.at.cmp(&a.at));
    entries.truncate(MOST);
    History {
        entries,
        looked_back_to: about.looked_back_to,
    }
}

fn of_event(event: &Event) -> Entry {
    let installation = event.installation.as_ref();
    let reason = installation.and_then(|it| it.reason.as_deref());
    let words = match event.kind.parse() {
        Ok(kind) => in_words(kind),
        // Of a newer build.
        Err(()) => event.kind.as_str(),
    };
    Entry {
        at: event.time.clone(),
        source: Source::Event,
        kind: event.kind.clone(),
        text: match reason {
            Some(reason) => format!("{words}: {reason}"),
            None => words.to_owned(),
        },
    }
}

const fn in_words(kind: EventType) -> &'static str {
    match kind {
        EventType::Connected => "The customer connected",
        EventType::Reconnected => "The customer connected again",
        EventType::NeedsConsent => "The customer must connect again",
        EventType::Recovered => "The refresh token works again",
        EventType::Paused => "GHL holds the location inactive",
        EventType::Resumed => "The location is active again",
        EventType::Uninstalled => "The app was uninstalled, or the installation was ended",
        EventType::PlanChanged => "The customer has another plan",
        EventType::Updated => "Facts, tags or the external id have changed",
        EventType::CredentialsRejected => "GHL refuses the client id and secret of the app",
        EventType::Test => "A test",
    }
}

/// An entry of the audit log, which may be of a newer build.
fn of_audit(entry: &Value) -> Entry {
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let action = text("action");
    let by = &entry["by"];
    let by = match by["name"].as_str() {
        Some(name) => format!(" by the key {name}"),
        None => by["kind"].as_str().map_or_else(String::new, |kind| {
            format!(" by {}", kind.replace('_', " "))
        }),
    };
    let mut words = format!("{}{by}", sentence(&action));
    match entry["outcome"].as_str() {
        Some("done") | None => {}
        Some(outcome) => words.push_str(&format!(", {outcome}")),
    }
    if let Some(count) = entry["count"].as_u64().filter(|count| *count > 1) {
        words.push_str(&format!(", {count} times"));
    }
    if let Some(detail) = entry["detail"].as_str() {
        words.push_str(&format!(": {detail}"));
    }
    Entry {
        at: text("at"),
        source: Source::Audit,
        kind: action,
        text: words,
    }
}

/// `token_fetched` as `Token fetched`.
fn sentence(action: &str) -> String {
    let words = action.replace('_', " ");
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use store::AppName;

    use super::*;

    fn event(kind: EventType, at: i64) -> Event {
        Event::about_app(AppName::default(), kind, None, Timestamp::from_millis(at))
    }

    #[test]
    fn events_and_audit_entries_are_in_the_order_of_time() {
        let about = EventsAbout {
            events: vec![
                event(EventType::NeedsConsent, 3_000),
                event(EventType::Connected, 1_000),
            ],
            looked_back_to: None,
        };
        let audit = [json!({
            "at": "1970-01-01T00:00:02.500Z", "action": "token_refreshed", "outcome": "failed", "count": 2,
            "by": { "kind": "key", "name": "ops" }, "detail": "refresh_rejected",
        })];
        let history = merge(&about, &audit);
        let texts: Vec<&str> = history.entries.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "The customer must connect again",
                "Token refreshed by the key ops, failed, 2 times: refresh_rejected",
                "The customer connected",
            ]
        );
        assert_eq!(history.entries[1].source, Source::Audit);
    }

    #[test]
    fn entry_of_a_newer_build_is_shown_as_far_as_it_is_known() {
        let entry =
            of_audit(&json!({ "action": "token_polished", "by": { "kind": "local_admin" } }));
        assert_eq!(entry.text, "Token polished by local admin");
        let mut unknown = event(EventType::Test, 0);
        unknown.kind = "installation.polished".to_owned();
        assert_eq!(of_event(&unknown).text, "installation.polished");
    }

    #[test]
    fn history_has_at_most_50_entries() {
        let events = (0..60).map(|at| event(EventType::Updated, at * 1000));
        let about = EventsAbout {
            events: events.collect(),
            looked_back_to: Some(Timestamp::from_millis(0)),
        };
        let history = merge(&about, &[]);
        assert_eq!(history.entries.len(), MOST);
        assert_eq!(history.entries[0].at, "1970-01-01T00:00:59Z");
        assert!(history.looked_back_to.is_some());
    }
}
