//! The settings file: `service::config::TomlFile`.

use service::config::Source;
use service::fuzzing::parse_settings_file;

use crate::input::{self, assert_showable};

/// Stands for a secret in a corpus file.
const MARK: &str = "hunter2secret";

/// Keys are names of variables, or fields of sections. A mistake is one printable line, and quotes no value.
pub fn check(bytes: &[u8]) {
    let text = input::text(bytes);
    match parse_settings_file(&text) {
        Ok(file) => {
            for key in file.keys() {
                let is_name = |c: char| matches!(c, 'A'..='Z' | '0'..='9' | '_');
                let is_in_a_section = ["apps.", "events.", "webhooks."]
                    .iter()
                    .any(|kind| key.starts_with(kind));
                assert!(is_in_a_section || key.chars().all(is_name), "{key:?}");
                let value = file.get(&key).expect("a key has a value");
                let shown = format!("{file:?}");
                assert!(value != MARK || !shown.contains(MARK), "{shown}");
            }
        }
        Err(error) => {
            let message = error.to_string();
            // It may quote a key.
            assert_showable(&message, 200 + 8 * text.len());
            let is_key = text.lines().any(|line| {
                let before = line.split('=').next().unwrap_or_default();
                before.contains(MARK)
            });
            assert!(is_key || !message.contains(MARK), "{message}");
        }
    }
}
