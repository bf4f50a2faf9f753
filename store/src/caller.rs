//! Callers of a gateway: the owner of an API key and its permissions.

use std::fmt;
use std::str::FromStr;

use ring::digest;
use secrecy::SecretString;

use crate::allowed_call::AllowedCall;
use crate::app::AppName;
use crate::clock::Timestamp;
use crate::id::InstallationId;
use crate::quota::Quota;
use crate::random;
use crate::record::{Fields, Unreadable};

/// SHA-256 of a caller's key. The key itself is shown once and never stored.
///
/// As text: 64 lower-case hex digits. `Debug` shows the first 8 only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key as the caller presents it.
    #[must_use]
    pub fn of(presented: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, presented.as_bytes());
        Self(digest.as_ref().try_into().expect("SHA-256 is 32 bytes"))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&random::to_hex(&self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({}…)", &random::to_hex(&self.0[..4]))
    }
}

impl FromStr for KeyHash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() != 64 || !text.bytes().all(is_digit) {
            return Err(());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| ())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

/// A lower-case hex digit, as evergreen writes them: one hash has one text.
fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// How a key begins. Secret scanners search for it.
pub const KEY_PREFIX: &str = "evg_";

/// The name of the key that a process keeps in its data directory.
pub const LOCAL_ADMINISTRATOR: &str = "local administrator";

/// The hex digits of a key that are random.
const RANDOM_DIGITS: usize = 64;

/// The hex digits of the checksum.
const CHECKSUM_DIGITS: usize = 8;

/// A new key: `evg_`, 256 random bits, and a checksum of 32 bits, both in hex. With the checksum a secret scanner can
/// tell a key from other text without asking anybody.
#[must_use]
pub fn new_key() -> SecretString {
    let body = format!("{KEY_PREFIX}{}", random::hex::<32>());
    let checksum = checksum(&body);
    SecretString::from(body + &checksum)
}

/// Whether `text` is a key that [`new_key`] can have made.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    let length = KEY_PREFIX.len() + RANDOM_DIGITS;
    text.is_ascii()
        && text.len() == length + CHECKSUM_DIGITS
        && text.starts_with(KEY_PREFIX)
        && text.bytes().skip(KEY_PREFIX.len()).all(is_digit)
        && checksum(&text[..length]) == text[length..]
}

/// The first 32 bits of the SHA-256, in hex.
fn checksum(body: &str) -> String {
    let digest = digest::digest(&digest::SHA256, body.as_bytes());
    random::to_hex(&digest.as_ref()[..CHECKSUM_DIGITS / 2])
}

/// One permission of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Call GHL through a gateway.
    Proxy,
    /// Fetch access tokens.
    Tokens,
    /// Make one-time links and browser keys, and open user contexts, as the backend of an app does for its customers.
    Connect,
    /// Manage installations and keys. It includes every other scope, because its owner can create any key.
    Admin,
    /// Read metrics. Every live key has this permission.
    Metrics,
    /// See the pages of the console, without its secrets, and change nothing.
    View,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 6] = [
        Self::Proxy,
        Self::Tokens,
        Self::Connect,
        Self::Admin,
        Self::Metrics,
        Self::View,
    ];

    /// The name in records and on command lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Tokens => "tokens",
            Self::Connect => "connect",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
            Self::View => "view",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no [`Scope`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope is `proxy`, `tokens`, `connect`, `admin`, `metrics` or `view`")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let mut all = Self::ALL.into_iter();
        all.find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

/// The schema of a record with rules about calls.
const CALLS_SCHEMA: u32 = 2;
/// The schema of a record of a key for one app.
const APP_SCHEMA: u32 = 3;
/// The schema of a record with the scope `view`, which older builds cannot read.
const VIEW_SCHEMA: u32 = 4;

/// Between rules about calls, which contain commas.
const CALLS_SEPARATOR: &str = "\n";

/// The record of an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name that the operator gave the key, for people.
    pub name: String,
    /// The scopes of the key.
    pub scopes: Vec<Scope>,
    /// The app whose installations the key may use; `None`: those of all apps.
    pub app: Option<AppName>,
    /// The installations that the key may use; `None`: all of them.
    pub installations: Option<Vec<InstallationId>>,
    /// The calls to GHL that the key may make; `None`: all of them.
    pub calls: Option<Vec<AllowedCall>>,
    /// The rate limit of the key; `None`: no limit.
    pub quota: Option<Quota>,
    /// When the key was created, in the store's time.
    pub created_at: Timestamp,
    /// When the key expires; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When the key was revoked. The record stays, so that `keys list` shows it.
    pub revoked_at: Option<Timestamp>,
}

impl Caller {
    /// Whether the key grants `scope`.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        let is_granted = |granted: &Scope| *granted == scope || *granted == Scope::Admin;
        scope == Scope::Metrics || self.scopes.iter().any(is_granted)
    }

    /// Whether the key may use an installation of `app`. A key for an agency may use those of its locations, whose
    /// `parent` the agency's is.
    #[must_use]
    pub fn may_use(
        &self,
        id: &InstallationId,
        parent: Option<&InstallationId>,
        app: &AppName,
    ) -> bool {
        let is_for_app = self.app.as_ref().is_none_or(|own| own == app);
        let is_for_installation = match &self.installations {
            None => true,
            Some(allowed) => allowed.iter().any(|it| it == id || Some(it) == parent),
        };
        is_for_app && is_for_installation
    }

    /// Whether the key may connect new installations of an app.
    #[must_use]
    pub fn may_connect(&self, app: &AppName) -> bool {
        self.installations.is_none() && self.app.as_ref().is_none_or(|own| own == app)
    }

    /// Whether the key may make a call to GHL. `path` is below GHL's host.
    #[must_use]
    pub fn may_call(&self, method: &str, path: &str) -> bool {
        let includes = |allowed: &[AllowedCall]| allowed.iter().any(|it| it.includes(method, path));
        self.calls.as_deref().is_none_or(includes)
    }

    /// Whether the key may make each of these calls.
    #[must_use]
    pub fn may_make(&self, calls: &[AllowedCall]) -> bool {
        let covers =
            |allowed: &[AllowedCall], call| allowed.iter().any(|it: &AllowedCall| it.covers(call));
        let may = |call| self.calls.as_deref().is_none_or(|all| covers(all, call));
        calls.iter().all(may)
    }

    /// The installation of a request that names none: the only one that the key may use.
    #[must_use]
    pub fn only_installation(&self) -> Option<&InstallationId> {
        match self.installations.as_deref() {
            Some([only]) => Some(only),
            Some(_) | None => None,
        }
    }

    /// Whether the key is neither revoked nor expired.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expiry| now < expiry)
    }

    /// The record as stored fields.
    #[must_use]
    pub fn to_fields(&self) -> Fields {
        let mut fields = Fields::new();
        // An older gateway would not see these limits.
        match (&self.app, &self.calls) {
            _ if self.scopes.contains(&Scope::View) => fields.set_min_schema(VIEW_SCHEMA),
            (Some(_), _) => fields.set_min_schema(APP_SCHEMA),
            (None, Some(_)) => fields.set_min_schema(CALLS_SCHEMA),
            (None, None) => fields.clear_min_schema(),
        }
        fields.set("name", &self.name);
        fields.set("scopes", join(&self.scopes, ","));
        // Ends with a separator, so that an empty list is not an empty field, which would count as a missing one.
        let list = |all: &[InstallationId]| join(all, ",") + ",";
        let installations = self.installations.as_deref().map(list);
        fields.set("inst", installations.as_deref().unwrap_or("*"));
        // As above. A missing one means every call.
        let calls = self
            .calls
            .as_deref()
            .map(|all| join(all, CALLS_SEPARATOR) + CALLS_SEPARATOR);
        fields.set_optional("calls", calls);
        fields.set_optional("app", self.app.as_ref());
        fields.set_optional("quota", self.quota);
        fields.set("made", self.created_at.as_millis());
        fields.set_optional("exp", self.expires_at.map(Timestamp::as_millis));
        fields.set_optional("rev", self.revoked_at.map(Timestamp::as_millis));
        fields
    }

    /// Reads the stored fields.
    ///
    /// # Errors
    /// When a field is missing, malformed or of a newer schema.
    pub fn from_fields(fields: &Fields) -> Result<Self, Unreadable> {
        fields.check_schema()?;
        let installations: String = fields.parse("inst")?;
        Ok(Self {
            name: fields.parse("name")?,
            scopes: split(
                &fields
                    .parse_optional::<String>("scopes")?
                    .unwrap_or_default(),
                ",",
            )
            .ok_or(Unreadable::Malformed("scopes"))?,
            installations: match installations.as_str() {
                "*" => None,
                list => Some(split(list, ",").ok_or(Unreadable::Malformed("inst"))?),
            },
            calls: match fields.parse_optional::<String>("calls")? {
                None => None,
                Some(list) => {
                    let calls = split(&list, CALLS_SEPARATOR);
                    Some(calls.ok_or(Unreadable::Malformed("calls"))?)
                }
            },
            app: fields.parse_optional("app")?,
            quota: fields.parse_optional("quota")?,
            created_at: Timestamp::from_millis(fields.parse("made")?),
            expires_at: fields.parse_optional("exp")?.map(Timestamp::from_millis),
            revoked_at: fields.parse_optional("rev")?.map(Timestamp::from_millis),
        })
    }
}

fn join<T: fmt::Display>(items: &[T], separator: &str) -> String {
    let texts: Vec<String> = items.iter().map(T::to_string).collect();
    texts.join(separator)
}

fn split<T: FromStr>(list: &str, separator: &str) -> Option<Vec<T>> {
    let items = list.split(separator).filter(|item| !item.is_empty());
    items.map(|item| item.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
