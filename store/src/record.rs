//! Records as they lie in the store: maps of named fields.
//!
//! Replicas roll one at a time over one store, so a record survives older and newer readers:
//! unknown fields are ignored, a writer sets only the fields it knows, and `min` names the schema that
//! a reader must understand to make sense of the record; without it any does.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::freshness::{self, Freshness};
use crate::id::{CompanyId, Generation, InstallationId, LocationId, UserType};
use crate::pack;
use crate::seal::{KeyRing, Label, OpenError, Purpose, Sealed};

/// The newest schema that this build reads. What it writes, every reader understands.
const SCHEMA: u32 = 1;

/// A record that this build cannot make sense of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    #[error("field `{0}` is malformed")]
    Malformed(&'static str),
    #[error("the record needs a reader of schema {0}: update this replica")]
    TooNew(u32),
    #[error("the token does not open")]
    Sealed(#[from] OpenError),
}

/// The fields of one record, by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, Vec<u8>>);

impl Fields {
    /// No record.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub fn set(&mut self, name: &str, value: impl fmt::Display) {
        self.set_bytes(name, value.to_string().into_bytes());
    }

    /// Sets the field to the value's text, or to nothing: a stored empty field means "none".
    pub fn set_optional(&mut self, name: &str, value: Option<impl fmt::Display>) {
        let text = value.map(|value| value.to_string()).unwrap_or_default();
        self.set_bytes(name, text.into_bytes());
    }

    pub fn set_bytes(&mut self, name: &str, value: Vec<u8>) {
        self.0.insert(name.to_owned(), value);
    }

    /// # Errors
    /// When the record demands a newer reader.
    pub fn check_schema(&self) -> Result<(), Unreadable> {
        match self.parse_optional("min")? {
            Some(needed) if needed > SCHEMA => Err(Unreadable::TooNew(needed)),
            Some(_) | None => Ok(()),
        }
    }

    /// Lifts a demand for a newer reader.
    pub fn any_reader(&mut self) {
        self.set_bytes("min", Vec::new());
    }

    /// # Errors
    /// When the field is missing or does not parse.
    pub fn parse<T: FromStr>(&self, name: &'static str) -> Result<T, Unreadable> {
        self.parse_optional(name)?.ok_or(Unreadable::Missing(name))
    }

    /// The value, or `None` where the field is absent or empty.
    ///
    /// # Errors
    /// When the field is there and does not parse.
    pub fn parse_optional<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Unreadable> {
        match self.0.get(name) {
            None => Ok(None),
            Some(bytes) if bytes.is_empty() => Ok(None),
            Some(bytes) => std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| text.parse().ok())
                .map(Some)
                .ok_or(Unreadable::Malformed(name)),
        }
    }

    /// # Errors
    /// When the field is missing.
    pub fn bytes(&self, name: &'static str) -> Result<&[u8], Unreadable> {
        let bytes = self.0.get(name).ok_or(Unreadable::Missing(name))?;
        Ok(bytes)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The fields that `earlier` does not have, or has with another value.
    #[must_use]
    pub fn changed_from(mut self, earlier: &Self) -> Self {
        self.0
            .retain(|name, value| earlier.0.get(name) != Some(value));
        self
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

impl FromIterator<(String, Vec<u8>)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, Vec<u8>)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

/// Names only: a field may hold a sealed token.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What an installation can be expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its token is refreshed.
    Active,
    /// GHL says that the location is not active (unpaid or paused): tried again now and then.
    Paused,
    /// GHL refused the refresh token: the customer must connect again.
    Invalid,
    /// The app was uninstalled, or an operator revoked it: the customer must connect again.
    Revoked,
    /// A token without a refresh token: a private integration token or a seed for smoke tests.
    Static,
}

impl Status {
    pub const ALL: [Self; 5] = [
        Self::Active,
        Self::Paused,
        Self::Invalid,
        Self::Revoked,
        Self::Static,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Invalid => "invalid",
            Self::Revoked => "revoked",
            Self::Static => "static",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.as_str() == text).ok_or(())
    }
}

/// The half of an installation that gateways read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access<Token> {
    pub token: Token,
    /// `None`: never, it is static.
    pub expires_at: Option<Timestamp>,
    pub lifetime: Duration,
    pub generation: Generation,
    pub status: Status,
    pub location: Option<LocationId>,
    pub company: Option<CompanyId>,
    pub user_type: UserType,
    /// Space separated, as GHL told them.
    pub scopes: String,
}

/// As it lies in the store.
pub type StoredAccess = Access<Sealed>;

/// As it is used.
pub type AccessRecord = Access<SecretString>;

impl StoredAccess {
    #[must_use]
    pub fn to_fields(&self) -> Fields {
        let mut fields = Fields::new();
        fields.set_bytes("at", self.token.as_bytes().to_vec());
        fields.set_optional("exp", self.expires_at.map(Timestamp::as_millis));
        fields.set("life", self.lifetime.as_millis());
        fields.set("gen", self.generation);
        fields.set("st", self.status);
        fields.set_optional("loc", self.location.as_ref());
        fields.set_optional("com", self.company.as_ref());
        fields.set("ut", self.user_type);
        fields.set_bytes("sc", pack::pack_text(&self.scopes));
        fields
    }

    /// # Errors
    /// When a field is missing, malformed or of a newer schema.
    pub fn from_fields(fields: &Fields) -> Result<Self, Unreadable> {
        fields.check_schema()?;
        Ok(Self {
            token: Sealed::from_bytes(fields.bytes("at")?.to_vec()),
            expires_at: fields.parse_optional("exp")?.map(Timestamp::from_millis),
            lifetime: Duration::from_millis(fields.parse("life")?),
            generation: fields.parse("gen")?,
            status: fields.parse("st")?,
            location: fields.parse_optional("loc")?,
            company: fields.parse_optional("com")?,
            user_type: fields.parse("ut")?,
            scopes: pack::unpack_text(fields.bytes("sc")?).ok_or(Unreadable::Malformed("sc"))?,
        })
    }

    /// # Errors
    /// When the token was sealed with another ring or for another installation.
    pub fn open(self, id: &InstallationId, ring: &KeyRing) -> Result<AccessRecord, Unreadable> {
        let label = access_label(id, self.generation);
        Ok(AccessRecord {
            token: ring.open_token(label, &self.token)?,
            expires_at: self.expires_at,
            lifetime: self.lifetime,
            generation: self.generation,
            status: self.status,
            location: self.location,
            company: self.company,
            user_type: self.user_type,
            scopes: self.scopes,
        })
    }
}

/// How an access token is sealed.
#[must_use]
pub fn access_label(installation: &InstallationId, generation: Generation) -> Label<'_> {
    Label {
        purpose: Purpose::AccessToken,
        installation,
        generation,
    }
}

impl AccessRecord {
    #[must_use]
    pub fn freshness(&self, now: Timestamp) -> Freshness {
        match self.expires_at {
            None => Freshness::Fresh,
            Some(expires_at) => freshness::of(expires_at, self.lifetime, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> StoredAccess {
        StoredAccess {
            token: Sealed::from_bytes(vec![0, 255, 7]),
            expires_at: Some(Timestamp::from_millis(1_700_000_000_000)),
            lifetime: Duration::from_secs(86_399),
            generation: Generation::FIRST.next(),
            status: Status::Active,
            location: Some("ve9EPM428h8vShlRW1KT".parse().unwrap()),
            company: None,
            user_type: UserType::Location,
            scopes: "contacts.write products.readonly".to_owned(),
        }
    }

    #[test]
    fn a_record_round_trips_with_all_and_with_no_optional_fields() {
        let full = stored();
        assert_eq!(StoredAccess::from_fields(&full.to_fields()), Ok(full));
        let bare = StoredAccess {
            expires_at: None,
            location: None,
            scopes: String::new(),
            status: Status::Static,
            ..stored()
        };
        assert_eq!(StoredAccess::from_fields(&bare.to_fields()), Ok(bare));
    }

    #[test]
    fn an_old_reader_survives_a_new_record_and_is_told_when_it_cannot() {
        let mut newer = stored().to_fields();
        newer.set("a_field_of_tomorrow", "x");
        assert_eq!(StoredAccess::from_fields(&newer), Ok(stored()));
        newer.set("min", SCHEMA + 1);
        assert_eq!(
            StoredAccess::from_fields(&newer),
            Err(Unreadable::TooNew(SCHEMA + 1))
        );
    }

    #[test]
    fn a_damaged_record_names_its_field() {
        let mut fields = stored().to_fields();
        fields.set("gen", "many");
        assert_eq!(
            StoredAccess::from_fields(&fields),
            Err(Unreadable::Malformed("gen"))
        );
    }
}
