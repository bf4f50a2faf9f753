//! An entry of the audit log in words.

use serde_json::Value;

use crate::console::Time;

/// The actions that a person can ask for. Entries of newer brokers have others, which are shown as they are.
pub(super) const ACTIONS: [&str; 23] = [
    "app_name_freed",
    "browser_key_created",
    "connect_link_created",
    "event_sent",
    "installation_changed",
    "installation_connected",
    "installation_deleted",
    "installation_revoked",
    "installation_uninstalled",
    "installations_exported",
    "installations_imported",
    "key_created",
    "key_revoked",
    "key_rotated",
    "log_level_changed",
    "request_refused",
    "sealing_key_forgotten",
    "sealing_keys_rotated",
    "sign_in_link_created",
    "signed_in",
    "token_added",
    "token_fetched",
    "token_refreshed",
];

/// A row of the list.
pub(super) struct Row {
    /// `None` for a time that cannot be read.
    pub(super) at: Option<Time>,
    pub(super) action: String,
    pub(super) by: String,
    pub(super) key: Option<String>,
    pub(super) installation: Option<String>,
    /// The outcome, and the class of its badge.
    pub(super) outcome: (String, &'static str),
    pub(super) address: String,
    pub(super) count: u64,
    pub(super) detail: String,
}

impl Row {
    pub(super) fn of(entry: &Value) -> Self {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let outcome = text("outcome");
        let class = match outcome.as_str() {
            "done" => "good",
            "refused" | "failed" => "bad",
            _ => "",
        };
        let others = entry["otherAddresses"].as_array().map_or(0, Vec::len);
        let address = match others {
            0 => text("address"),
            _ => format!("{} and {others} more", text("address")),
        };
        Self {
            at: entry["at"].as_str().and_then(Time::parse),
            action: text("action"),
            by: by(&entry["by"]),
            key: entry["key"].as_object().map(|_| named(&entry["key"])),
            installation: entry["installation"].as_str().map(str::to_owned),
            outcome: (outcome, class),
            address,
            count: entry["count"].as_u64().unwrap_or(1),
            detail: text("detail"),
        }
    }

    /// The action in words.
    pub(super) fn words(&self) -> String {
        self.action.replace('_', " ")
    }
}

fn by(by: &Value) -> String {
    match by["kind"].as_str().unwrap_or_default() {
        "key" => named(by),
        "local_admin" => format!("{} of this machine", named(by)),
        "operator" => "command line".to_owned(),
        "webhook" => "GHL".to_owned(),
        "anonymous" => "anybody".to_owned(),
        other => other.to_owned(),
    }
}

/// The name of a key, and the beginning of its id.
fn named(key: &Value) -> String {
    let text = |name: &str| key[name].as_str().unwrap_or_default();
    format!("{} ({})", text("name"), text("id"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use store::audit::Action;

    use super::*;

    #[test]
    fn actions_are_those_of_the_log() {
        for action in ACTIONS {
            let known = serde_json::from_value::<Action>(json!(action));
            assert!(known.is_ok(), "{action}");
        }
        // An exhaustive match: a new action fails to compile here until it is in the list.
        let is_listed = |action: Action| match action {
            Action::TokenFetched
            | Action::TokenRefreshed
            | Action::KeyCreated
            | Action::KeyRotated
            | Action::KeyRevoked
            | Action::SealingKeysRotated
            | Action::SealingKeyForgotten
            | Action::InstallationConnected
            | Action::InstallationRevoked
            | Action::AppNameFreed
            | Action::TokenAdded
            | Action::InstallationsImported
            | Action::InstallationsExported
            | Action::InstallationUninstalled
            | Action::BrowserKeyCreated
            | Action::ConnectLinkCreated
            | Action::InstallationChanged
            | Action::InstallationDeleted
            | Action::EventSent
            | Action::LogLevelChanged
            | Action::SignInLinkCreated
            | Action::SignedIn
            | Action::RequestRefused => ACTIONS.contains(&json!(action).as_str().unwrap()),
        };
        assert!(is_listed(Action::SignedIn) && is_listed(Action::RequestRefused));
    }

    #[test]
    fn entry_is_in_words_also_of_a_newer_broker() {
        let row = Row::of(&json!({
            "at": "2026-11-29T12:00:00.007Z",
            "action": "key_revoked",
            "by": { "kind": "local_admin", "id": "0123abcd", "name": "local administrator" },
            "key": { "id": "89abcdef", "name": "crm" },
            "outcome": "done",
            "address": "10.0.0.7",
            "otherAddresses": ["10.0.0.8"],
            "count": 3,
        }));
        assert_eq!(row.words(), "key revoked");
        assert_eq!(row.by, "local administrator (0123abcd) of this machine");
        assert_eq!(row.key.as_deref(), Some("crm (89abcdef)"));
        assert_eq!(
            (row.address.as_str(), row.count),
            ("10.0.0.7 and 1 more", 3)
        );
        let newer = Row::of(&json!({ "action": "moon_landed", "by": { "kind": "moon" } }));
        assert_eq!(
            (newer.words().as_str(), newer.by.as_str()),
            ("moon landed", "moon")
        );
        assert!(newer.at.is_none());
    }
}
