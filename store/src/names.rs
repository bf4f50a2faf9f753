//! The names of one deployment's keys and channels in Redis, so that several deployments can share its servers.
//!
//! [`crate::keys`] has all names as they are with the default prefix, and as they are in the file of `up`. They become
//! names in Redis where a command is made, and nowhere else.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::keys;

/// The longest prefix. Each key begins with it, so it takes memory.
const LONGEST: usize = 16;

/// The text before the first colon of each key (`EVERGREEN_REDIS_PREFIX`). The default is `ghl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(Arc<str>);

/// The text is no prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 1 to {LONGEST} of a-z, 0-9 and -")]
pub struct BadPrefix;

/// The names in a store: a prefix, and the number of the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    prefix: Prefix,
    database: i64,
}

impl Default for Prefix {
    fn default() -> Self {
        Self(keys::PREFIX.into())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Prefix {
    type Err = BadPrefix;

    /// No character may act in a pattern of an ACL or of `SCAN`, or be a hash tag of a Cluster.
    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let is_allowed =
            |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        match (1..=LONGEST).contains(&text.len()) && text.as_bytes().iter().all(is_allowed) {
            true => Ok(Self(text.into())),
            false => Err(BadPrefix),
        }
    }
}

impl Names {
    /// The names in this database.
    #[must_use]
    pub fn new(prefix: Prefix, database: i64) -> Self {
        Self { prefix, database }
    }

    /// A key as it is in Redis. `key`: a name of [`crate::keys`], or a pattern of such names.
    #[must_use]
    pub fn key<'k>(&self, key: impl Into<Cow<'k, str>>) -> String {
        let key = key.into();
        if *self.prefix.0 == *keys::PREFIX {
            return key.into_owned();
        }
        let rest = key.strip_prefix(keys::PREFIX);
        debug_assert!(rest.is_some(), "{key} is no name of a key");
        format!("{}{}", self.prefix.0, rest.unwrap_or(&key))
    }

    /// The name of a key in Redis as [`crate::keys`] has it; `None` for a key of another deployment.
    #[must_use]
    pub fn own(&self, key: &str) -> Option<String> {
        let rest = key.strip_prefix(&*self.prefix.0)?;
        rest.starts_with(':')
            .then(|| format!("{}{rest}", keys::PREFIX))
    }

    /// The channel of [`crate::Invalidation`] messages. A channel belongs to no database, so it has the number of the
    /// database in its name. The one of the first database has none, as in earlier versions.
    #[must_use]
    pub fn invalidations(&self) -> String {
        let channel = self.key(keys::INVALIDATIONS);
        match self.database {
            0 => channel,
            number => format!("{channel}:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::AppName;
    use crate::id::InstallationId;

    fn names(prefix: &str, database: i64) -> Names {
        Names::new(prefix.parse().unwrap(), database)
    }

    #[test]
    fn default_names_are_those_of_the_keys_module() {
        let id = InstallationId::random();
        let key = keys::access(&id);
        assert_eq!(Names::default().key(&key), key);
        assert_eq!(Names::default().own(&key), Some(key));
        assert_eq!(Names::default().invalidations(), "ghl:inv");
    }

    #[test]
    fn each_prefix_has_keys_and_channels_of_its_own() {
        let due = keys::due(7, &AppName::default());
        assert_eq!(due, "ghl:due:{07}");
        let acme = names("acme", 0);
        assert_eq!(acme.key(&due), "acme:due:{07}");
        assert_eq!(acme.own("acme:due:{07}"), Some(due));
        for other in ["ghl:due:{07}", "acme-2:due:{07}", "acme", "ac:due:{07}"] {
            assert_eq!(acme.own(other), None, "{other}");
        }
        let channels = [("ghl", 0), ("ghl", 3), ("acme", 0), ("acme", 3)];
        let channels = channels.map(|(prefix, database)| names(prefix, database).invalidations());
        assert_eq!(channels, ["ghl:inv", "ghl:inv:3", "acme:inv", "acme:inv:3"]);
    }

    #[test]
    fn prefix_is_short_and_has_no_special_characters() {
        for good in ["ghl", "a", "acme-2", "0123456789abcdef"] {
            assert!(good.parse::<Prefix>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "0123456789abcdefg",
            "a:b",
            "a*",
            "{a}",
            "A",
            "a b",
            "ä",
            "a_b",
        ] {
            assert_eq!(bad.parse::<Prefix>(), Err(BadPrefix), "{bad}");
        }
    }
}
