//! Where settings come from.

use std::collections::HashMap;
use std::fmt;

/// A source of settings by name.
pub trait Source: Send + Sync {
    /// The setting's value as written, or `None` if this source does not have it.
    fn get(&self, key: &str) -> Option<String>;

    /// Every name this source has, in no particular order.
    fn keys(&self) -> Vec<String>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug)]
pub struct Environment;

/// Several sources. The first one that has a setting takes precedence. Flags come before the environment, and the
/// environment comes before the file.
pub struct Layered(pub Vec<Box<dyn Source>>);

impl Source for Environment {
    /// A value that is not UTF-8 is read with replacement characters. So parsing it fails, and it does not look unset.
    fn get(&self, key: &str) -> Option<String> {
        std::env::var_os(key).map(|value| value.to_string_lossy().into_owned())
    }

    fn keys(&self) -> Vec<String> {
        std::env::vars_os()
            .map(|(key, _)| key.to_string_lossy().into_owned())
            .collect()
    }
}

impl Source for Layered {
    /// An empty or blank value counts as unset, so that it does not hide the value of a later source.
    fn get(&self, key: &str) -> Option<String> {
        self.0
            .iter()
            .filter_map(|source| source.get(key))
            .find(|value| !value.trim().is_empty())
    }

    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.0.iter().flat_map(|source| source.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl fmt::Debug for Layered {
    /// Without the values, since some are secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Layered")
            .field("sources", &self.0.len())
            .finish_non_exhaustive()
    }
}

impl Source for HashMap<String, String> {
    fn get(&self, key: &str) -> Option<String> {
        HashMap::get(self, key).cloned()
    }

    fn keys(&self) -> Vec<String> {
        HashMap::keys(self).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(entries: &[(&str, &str)]) -> Box<dyn Source> {
        Box::new(HashMap::from_iter(
            entries
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        ))
    }

    #[test]
    fn first_source_with_a_value_wins() {
        let layered = Layered(vec![
            source(&[("A", "flag"), ("EMPTY", " ")]),
            source(&[
                ("A", "environment"),
                ("EMPTY", "filled"),
                ("B", "environment"),
            ]),
        ]);
        assert_eq!(layered.get("A").as_deref(), Some("flag"));
        assert_eq!(layered.get("B").as_deref(), Some("environment"));
        assert_eq!(layered.get("EMPTY").as_deref(), Some("filled"));
        assert_eq!(layered.get("C"), None);
        assert_eq!(layered.keys(), ["A", "B", "EMPTY"]);
    }

    #[test]
    fn debug_output_is_redacted() {
        let layered = Layered(vec![source(&[("GHL_CLIENT_SECRET", "hunter2")])]);
        assert!(!format!("{layered:?}").contains("hunter2"));
    }
}
