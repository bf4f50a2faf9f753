//! The difference between two readings of the settings, by name. No value of a setting is kept or shown.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;

use service::config::Source;

use crate::settings::KNOWN;

/// Settings whose value is the path of a file that a process follows by itself.
const FOLLOWED_FILES: &[&str] = &[
    "EVERGREEN_TLS_CERT",
    "EVERGREEN_TLS_CLIENT_CA",
    "EVERGREEN_TLS_KEY",
];

/// The kind of setting that a hash is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The setting as it is written.
    Value,
    /// The file that it names.
    Content,
}

/// All settings at one moment, as hashes. The hashes are only good within this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot(BTreeMap<(String, Part), u64>);

/// Makes snapshots that can be compared with each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshots(RandomState);

/// The names of the settings that have changed, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Those that are in use now.
    pub(crate) applied: Vec<String>,
    /// Those that need a restart.
    pub(crate) need_restart: Vec<String>,
}

impl Snapshots {
    pub(crate) fn take(&self, source: &dyn Source) -> Snapshot {
        let mut hashes = BTreeMap::new();
        for key in source.keys().into_iter().filter(|key| is_ours(key)) {
            let Some(value) = source.get(&key) else {
                continue;
            };
            if is_file(&key)
                && let Ok(content) = fs::read(value.trim())
            {
                hashes.insert((key.clone(), Part::Content), self.0.hash_one(content));
            }
            hashes.insert((key, Part::Value), self.0.hash_one(value.trim()));
        }
        Snapshot(hashes)
    }
}

/// Compares the settings of now with those `in_use`, and with those of the `start` for all that needs a restart.
/// `is_reloaded`: whether a setting is used without a restart.
pub(crate) fn changes(
    start: &Snapshot,
    in_use: &Snapshot,
    now: &Snapshot,
    is_reloaded: impl Fn(&str) -> bool,
) -> Changes {
    let is_applied = |(key, part): &(String, Part)| {
        is_section(key)
            || is_reloaded(setting(key))
            || (*part == Part::Content && FOLLOWED_FILES.contains(&key.as_str()))
    };
    Changes {
        applied: names(in_use.differences(now).filter(|key| is_applied(key))),
        need_restart: names(start.differences(now).filter(|key| !is_applied(key))),
    }
}

impl Snapshot {
    fn differences<'a>(&'a self, now: &'a Self) -> impl Iterator<Item = &'a (String, Part)> {
        let gone = self.0.keys().filter(|key| !now.0.contains_key(*key));
        let other = now
            .0
            .iter()
            .filter(|(key, hash)| self.0.get(key) != Some(hash));
        gone.chain(other.map(|(key, _)| key))
    }
}

fn names<'a>(keys: impl Iterator<Item = &'a (String, Part)>) -> Vec<String> {
    let mut names: Vec<String> = keys.map(|(key, _)| shown(key)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A setting by its name, and a section as a whole.
fn shown(key: &str) -> String {
    match key.rsplit_once('.') {
        Some((section, _)) => section.to_owned(),
        None => setting(key).to_owned(),
    }
}

/// The setting of a secret that is in a file.
fn setting(key: &str) -> &str {
    let secret = key.strip_suffix("_FILE");
    match secret.filter(|_| !KNOWN.contains(&key)) {
        Some(secret) => secret,
        None => key,
    }
}

fn is_ours(key: &str) -> bool {
    is_section(key) || key.starts_with("EVERGREEN_") || key.starts_with("GHL_")
}

/// The settings of an app or an endpoint. No variable of the environment has a name with a point.
fn is_section(key: &str) -> bool {
    key.contains('.')
}

fn is_file(key: &str) -> bool {
    setting(key) != key || key.ends_with("_file") || FOLLOWED_FILES.contains(&key)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn is_reloaded(setting: &str) -> bool {
        ["EVERGREEN_ACCESS_KEYS", "EVERGREEN_MAX_BODY"].contains(&setting)
    }

    fn source(entries: &[(&str, &str)]) -> HashMap<String, String> {
        let entries = entries.iter();
        entries
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn changes_are_named_once_and_sorted_by_their_effect() {
        let snapshots = Snapshots::default();
        let take = |entries: &[(&str, &str)]| snapshots.take(&source(entries));
        let start = take(&[
            ("EVERGREEN_LISTEN", "127.0.0.1:1"),
            ("EVERGREEN_MAX_BODY", "1MB"),
            ("apps.one.client_id", "a"),
            ("apps.one.title", "One"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(
            changes(&start, &start, &start, is_reloaded),
            Changes::default()
        );
        let now = take(&[
            ("EVERGREEN_LISTEN", "127.0.0.1:2"),
            ("EVERGREEN_MAX_BODY", " 1MB "),
            ("EVERGREEN_ACCESS_KEYS_FILE", "/nowhere"),
            ("apps.one.client_id", "b"),
            ("PATH", "/sbin"),
        ]);
        let found = changes(&start, &start, &now, is_reloaded);
        assert_eq!(found.applied, ["EVERGREEN_ACCESS_KEYS", "apps.one"]);
        assert_eq!(found.need_restart, ["EVERGREEN_LISTEN"]);
        // It is said until somebody restarts the process.
        let again = changes(&start, &now, &now, is_reloaded);
        assert_eq!(again.applied, [""; 0]);
        assert_eq!(again.need_restart, ["EVERGREEN_LISTEN"]);
    }

    #[test]
    fn content_of_files_counts() {
        let directory =
            std::env::temp_dir().join(format!("evergreen-{}", store::random::hex::<8>()));
        fs::create_dir(&directory).unwrap();
        let file = |name: &str, content: &str| {
            let path = directory.join(name);
            fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let entries = [
            ("EVERGREEN_ACCESS_KEYS_FILE", file("ring", "a")),
            ("EVERGREEN_REDIS_URL_FILE", file("url", "a")),
            ("EVERGREEN_TLS_CERT", file("certificate", "a")),
        ];
        let entries = entries.each_ref().map(|(key, path)| (*key, path.as_str()));
        let snapshots = Snapshots::default();
        let before = snapshots.take(&source(&entries));
        for name in ["ring", "url", "certificate"] {
            file(name, "b");
        }
        let now = snapshots.take(&source(&entries));
        let found = changes(&before, &before, &now, is_reloaded);
        assert_eq!(
            found.applied,
            ["EVERGREEN_ACCESS_KEYS", "EVERGREEN_TLS_CERT"]
        );
        assert_eq!(found.need_restart, ["EVERGREEN_REDIS_URL"]);
        fs::remove_dir_all(&directory).unwrap();
    }
}
