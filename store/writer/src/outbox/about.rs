//! Reads the events of one installation. They are in its partition of the list of all events.

#[cfg(test)]
mod tests;

use std::time::Duration;

use store::{InstallationId, Timestamp};

use super::{List, ListRange};
use crate::backend::outbox::OutboxBackend;
use crate::error::WriteError;
use crate::events::Event;

/// The entries of one read.
const CHUNK: usize = 500;

/// The newest events of an installation.
#[derive(Debug, Clone, Default)]
pub struct EventsAbout {
    /// The newest first.
    pub events: Vec<Event>,
    /// When the oldest event that was looked at was written, if older ones were not looked at: the bound of a read was
    /// reached.
    pub looked_back_to: Option<Timestamp>,
}

/// Up to `limit` events of an installation that are not older than `kept_since`. Looks at `most` events of its partition
/// at most.
pub(crate) async fn read(
    backend: &(impl OutboxBackend + ?Sized),
    id: &InstallationId,
    kept_since: Timestamp,
    (limit, most): (usize, usize),
) -> Result<EventsAbout, WriteError> {
    let mut about = EventsAbout::default();
    let mut range = ListRange {
        partition: id.partition(),
        first: kept_since,
        last: Timestamp::from_millis(i64::MAX),
        limit: CHUNK,
        is_reverse: true,
    };
    let mut seen = 0;
    loop {
        let read = backend.read_list(&List::Events, &[range]).await?;
        let entries = read.into_iter().next().unwrap_or_default();
        let Some(oldest) = entries.last().map(|(at, _)| *at) else {
            return Ok(about);
        };
        seen += entries.len();
        let is_end = entries.len() < range.limit;
        // Most are about others, and need not be parsed.
        let texts = entries
            .iter()
            .filter(|(_, json)| json.contains(id.as_str()));
        let events = texts.filter_map(|(_, json)| serde_json::from_str::<Event>(json).ok());
        let events = events.filter(|event| {
            let installation = event.installation.as_ref();
            installation.is_some_and(|installation| installation.id == *id)
        });
        about.events.extend(events);
        if about.events.len() >= limit {
            about.events.truncate(limit);
            return Ok(about);
        }
        if is_end {
            return Ok(about);
        }
        if seen >= most {
            about.looked_back_to = Some(oldest);
            return Ok(about);
        }
        // No two entries of a partition have the same time.
        range.last = oldest - Duration::from_millis(1);
    }
}
