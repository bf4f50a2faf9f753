//! Where settings come from.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

/// A source of settings by name.
pub trait Source: Send + Sync {
    /// The setting's value as written, or `None` if this source does not have it.
    fn get(&self, key: &str) -> Option<String>;

    /// Every name this source has, in no particular order.
    fn keys(&self) -> Vec<String>;

    /// Where the value of this setting is from. `None` if this source does not have it, or does not know.
    fn origin(&self, _key: &str) -> Option<Origin> {
        None
    }
}

/// The place where a setting is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line.
    Flag,
    /// A variable of the environment.
    Environment,
    /// The settings file.
    File(PathBuf),
    /// The file of an app.
    AppFile(PathBuf),
    /// The program itself, such as `up` for its sandbox.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) | Self::AppFile(path) => path.display().fmt(f),
            Self::Program => f.write_str("evergreen itself"),
        }
    }
}

/// The flags of the command line, by the names of their settings.
#[derive(Clone, Default)]
pub struct Flags(pub HashMap<String, String>);

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

    fn origin(&self, key: &str) -> Option<Origin> {
        std::env::var_os(key).map(|_| Origin::Environment)
    }
}

impl Source for Flags {
    fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    fn keys(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn origin(&self, key: &str) -> Option<Origin> {
        self.0.get(key).map(|_| Origin::Flag)
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

    fn origin(&self, key: &str) -> Option<Origin> {
        let mut sources = self.0.iter();
        let first = sources.find(|source| {
            let value = source.get(key);
            value.is_some_and(|it| !it.trim().is_empty())
        });
        first?.origin(key)
    }
}

impl fmt::Debug for Flags {
    /// Without the values, since some are secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
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
    use std::path::Path;

    use super::*;
    use crate::config::TomlFile;

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
    fn origin_is_that_of_the_first_source_with_a_value() {
        let flags = HashMap::from([
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), " ".into()),
        ]);
        let file = TomlFile::parse(Path::new("evergreen.toml"), "A = 2\nB = 3\n").unwrap();
        let layered = Layered(vec![Box::new(Flags(flags)), Box::new(file)]);
        assert_eq!(layered.origin("A"), Some(Origin::Flag));
        let in_file = Origin::File("evergreen.toml".into());
        assert_eq!(layered.origin("B"), Some(in_file));
        assert_eq!(layered.origin("C"), None);
    }

    #[test]
    fn debug_output_is_redacted() {
        let layered = Layered(vec![source(&[("GHL_CLIENT_SECRET", "hunter2")])]);
        assert!(!format!("{layered:?}").contains("hunter2"));
    }
}
