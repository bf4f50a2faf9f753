//! Sessions of the Model Context Protocol.

use std::collections::HashMap;

use serde_json::Value;
use tokio::sync::watch;

/// All sessions that have not ended.
#[derive(Debug, Default)]
pub(crate) struct McpSessions(HashMap<String, Session>);

#[derive(Debug)]
struct Session {
    location: String,
    /// Its notifications so far.
    notifications: watch::Sender<Vec<String>>,
}

impl McpSessions {
    pub(super) fn begin(&mut self, id: &str, location: &str) {
        let session = Session {
            location: location.to_owned(),
            notifications: watch::Sender::new(Vec::new()),
        };
        self.0.insert(id.to_owned(), session);
    }

    /// Whether there is such a session, and it is this location's.
    pub(super) fn is_of(&self, id: &str, location: &str) -> bool {
        let session = self.0.get(id);
        session.is_some_and(|session| session.location == location)
    }

    pub(super) fn notify(&mut self, id: &str, notification: &Value) {
        if let Some(session) = self.0.get(id) {
            let notification = notification.to_string();
            session
                .notifications
                .send_modify(|all| all.push(notification));
        }
    }

    pub(super) fn listen(&self, id: &str) -> Option<watch::Receiver<Vec<String>>> {
        let session = self.0.get(id);
        session.map(|session| session.notifications.subscribe())
    }

    /// Ends a session, and its streams with it.
    pub(super) fn end(&mut self, id: &str) {
        self.0.remove(id);
    }
}
