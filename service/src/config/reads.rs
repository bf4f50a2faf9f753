//! The settings that were read, with their defaults: what `evergreen config print` shows.

use std::collections::BTreeMap;

use super::Origin;

/// A setting that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Its name, such as `EVERGREEN_LISTEN` or `apps.NAME.client_id`.
    pub key: String,
    /// The kind of its value.
    pub kind: Kind,
    /// The value as it is set. `None` if it is not set, if it is a secret, and if it has a mistake, since a secret may
    /// have been put into the wrong setting.
    pub value: Option<String>,
    /// Where it is set. `None` if it is not set.
    pub origin: Option<Origin>,
    /// The value that applies if it is not set. `None` if nothing does, or if that depends on other things.
    pub default: Option<String>,
}

/// The kind of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No secret.
    Plain,
    /// The path of a file with a secret.
    SecretFile,
    /// A secret, or a command line, which may contain one.
    Secret,
}

/// All that was read so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads(BTreeMap<String, (Kind, Option<String>)>);

impl Reads {
    /// Notes that a setting was read. A secret stays one.
    pub(super) fn note(&mut self, key: &str, kind: Kind) {
        let (known, _) = self.0.entry(key.to_owned()).or_insert((kind, None));
        *known = kind.max(*known);
    }

    /// Notes what applies if the setting is not set.
    pub(super) fn note_default(&mut self, key: &str, default: String) {
        let (_, known) = self.0.entry(key.to_owned()).or_insert((Kind::Plain, None));
        *known = Some(default);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Kind, Option<&str>)> {
        let all = self.0.iter();
        all.map(|(key, (kind, default))| (key.as_str(), *kind, default.as_deref()))
    }
}
