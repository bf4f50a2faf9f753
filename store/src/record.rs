//! Records as they are stored: maps of named fields.
//!
//! Replicas are updated one at a time over one store, so older and newer builds read the same record. Unknown
//! fields are ignored. A writer sets only the fields it knows. The field `min` names the schema that a reader
//! must understand; without it every reader does.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::app::AppName;
use crate::clock::Timestamp;
use crate::compress;
use crate::freshness::{self, Freshness};
use crate::id::{CompanyId, Generation, InstallationId, LocationId, UserType};
use crate::seal::{KeyRing, Label, OpenError, Purpose, Sealed};

/// The newest schema that this build reads. 2: API keys with rules about calls. 3: API keys for one app, and installations
/// of another app than the default one. 4: API keys with the scope `view`. An older build would not see these limits.
const SCHEMA: u32 = 4;
/// The schema of records of another app than the default one.
pub const APPS_SCHEMA: u32 = 3;

/// The record cannot be read by this build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The named field is missing.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// The named field does not parse.
    #[error("field `{0}` is malformed")]
    Malformed(&'static str),
    /// The record needs a reader of this schema.
    #[error("the record needs a reader of schema {0}: update this replica")]
    TooNew(u32),
    /// The token cannot be decrypted.
    #[error("the token cannot be decrypted")]
    Sealed(#[from] OpenError),
}

/// The fields of one record, by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, Vec<u8>>);

impl Fields {
    /// No fields: no record.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Sets the field to the value's text.
    pub fn set(&mut self, name: &str, value: impl fmt::Display) {
        self.set_bytes(name, value.to_string().into_bytes());
    }

    /// Sets the field to the value's text. `None` is stored as an empty field.
    pub fn set_optional(&mut self, name: &str, value: Option<impl fmt::Display>) {
        let text = value.map(|value| value.to_string()).unwrap_or_default();
        self.set_bytes(name, text.into_bytes());
    }

    /// Sets the field to bytes.
    pub fn set_bytes(&mut self, name: &str, value: Vec<u8>) {
        self.0.insert(name.to_owned(), value);
    }

    /// Checks that this build can read the record.
    ///
    /// # Errors
    /// When the record needs a newer reader.
    pub fn check_schema(&self) -> Result<(), Unreadable> {
        match self.parse_optional("min")? {
            Some(needed) if needed > SCHEMA => Err(Unreadable::TooNew(needed)),
            Some(_) | None => Ok(()),
        }
    }

    /// Sets the field `min`: readers of an older schema refuse the record.
    pub fn set_min_schema(&mut self, schema: u32) {
        self.set("min", schema);
    }

    /// Clears the field `min`, so that every reader accepts the record.
    pub fn clear_min_schema(&mut self) {
        self.set_bytes("min", Vec::new());
    }

    /// The value of a required field.
    ///
    /// # Errors
    /// When the field is missing, empty or does not parse.
    pub fn parse<T: FromStr>(&self, name: &'static str) -> Result<T, Unreadable> {
        self.parse_optional(name)?.ok_or(Unreadable::Missing(name))
    }

    /// The value of an optional field; `None` if the field is absent or empty.
    ///
    /// # Errors
    /// When the field is present and does not parse.
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

    /// The bytes of a required field.
    ///
    /// # Errors
    /// When the field is missing.
    pub fn bytes(&self, name: &'static str) -> Result<&[u8], Unreadable> {
        let bytes = self.0.get(name).ok_or(Unreadable::Missing(name))?;
        Ok(bytes)
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the field is present.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The fields that are absent from `earlier` or have another value there.
    #[must_use]
    pub fn changed_from(mut self, earlier: &Self) -> Self {
        self.0
            .retain(|name, value| earlier.0.get(name) != Some(value));
        self
    }

    /// Names and values, in the order of the names.
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

/// Shows names only, because a field may hold a sealed token.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The state of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its token is refreshed on schedule.
    Active,
    /// GHL reports that the location is inactive (unpaid or paused). It is retried at long intervals.
    Paused,
    /// GHL refused the refresh token. The customer must consent again.
    Invalid,
    /// The app was uninstalled, or an operator revoked it. The customer must consent again.
    Revoked,
    /// A token without a refresh token: a private integration token, or a fixed token for smoke tests.
    Static,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Active,
        Self::Paused,
        Self::Invalid,
        Self::Revoked,
        Self::Static,
    ];

    /// The name in records and in answers of the API.
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

/// The half of an installation's record that gateways read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access<Token> {
    /// The access token, sealed or decrypted. Empty while a location of an agency sleeps.
    pub token: Token,
    /// When the token expires, in the store's time; `None`: never (static tokens).
    pub expires_at: Option<Timestamp>,
    /// The lifetime that GHL granted.
    pub lifetime: Duration,
    /// The generation of the token.
    pub generation: Generation,
    /// The installation's state.
    pub status: Status,
    /// The app that it is an installation of.
    pub app: AppName,
    /// The sub-account, if GHL named one.
    pub location: Option<LocationId>,
    /// The agency, if GHL named one.
    pub company: Option<CompanyId>,
    /// The agency's installation, if the token is minted with that one's token.
    pub parent: Option<InstallationId>,
    /// The kind of token, from GHL's `userType`.
    pub user_type: UserType,
    /// The granted scopes, separated by spaces, as GHL sent them.
    pub scopes: String,
}

/// As stored: with a sealed token.
pub type StoredAccess = Access<Sealed>;

/// As used: with a decrypted token.
pub type AccessRecord = Access<SecretString>;

impl StoredAccess {
    /// The record as stored fields.
    #[must_use]
    pub fn to_fields(&self) -> Fields {
        let mut fields = Fields::new();
        fields.set_bytes("at", self.token.as_bytes().to_vec());
        fields.set_optional("exp", self.expires_at.map(Timestamp::as_millis));
        fields.set("life", self.lifetime.as_millis());
        fields.set("gen", self.generation);
        fields.set("st", self.status);
        // A record without the field is of the default app, so that the usual record stays small.
        fields.set_optional("app", (!self.app.is_default()).then_some(&self.app));
        if !self.app.is_default() {
            // An older reader would take it for one of the default app.
            fields.set_min_schema(APPS_SCHEMA);
        }
        fields.set_optional("loc", self.location.as_ref());
        fields.set_optional("com", self.company.as_ref());
        fields.set_optional("par", self.parent.as_ref());
        fields.set("ut", self.user_type);
        fields.set_bytes("sc", compress::compress_text(&self.scopes));
        fields
    }

    /// Reads the stored fields.
    ///
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
            app: fields.parse_optional("app")?.unwrap_or_default(),
            location: fields.parse_optional("loc")?,
            company: fields.parse_optional("com")?,
            parent: fields.parse_optional("par")?,
            user_type: fields.parse("ut")?,
            scopes: compress::decompress_text(fields.bytes("sc")?)
                .ok_or(Unreadable::Malformed("sc"))?,
        })
    }

    /// Decrypts the token, if there is one.
    ///
    /// # Errors
    /// When the token was sealed with another ring or for another installation.
    pub fn open(self, id: &InstallationId, ring: &KeyRing) -> Result<AccessRecord, Unreadable> {
        let label = access_label(id, self.generation);
        let is_asleep = self.parent.is_some() && self.token.is_empty();
        let token = match is_asleep {
            true => SecretString::default(),
            false => ring.open_token(label, &self.token)?,
        };
        Ok(AccessRecord {
            token,
            expires_at: self.expires_at,
            lifetime: self.lifetime,
            generation: self.generation,
            status: self.status,
            app: self.app,
            location: self.location,
            company: self.company,
            parent: self.parent,
            user_type: self.user_type,
            scopes: self.scopes,
        })
    }
}

/// The label that an access token is sealed with.
#[must_use]
pub fn access_label(installation: &InstallationId, generation: Generation) -> Label<'_> {
    Label {
        purpose: Purpose::AccessToken,
        installation,
        generation,
    }
}

impl AccessRecord {
    /// The token's freshness at `now`. A static token is always fresh.
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
            app: AppName::default(),
            location: Some("ve9EPM428h8vShlRW1KT".parse().unwrap()),
            company: None,
            parent: None,
            user_type: UserType::Location,
            scopes: "contacts.write products.readonly".to_owned(),
        }
    }

    #[test]
    fn record_round_trips_with_and_without_optional_fields() {
        let full = stored();
        assert_eq!(StoredAccess::from_fields(&full.to_fields()), Ok(full));
        let bare = StoredAccess {
            token: Sealed::from_bytes(Vec::new()),
            parent: Some(InstallationId::random()),
            expires_at: None,
            location: None,
            scopes: String::new(),
            status: Status::Static,
            app: "staging".parse().unwrap(),
            ..stored()
        };
        assert_eq!(StoredAccess::from_fields(&bare.to_fields()), Ok(bare));
    }

    #[test]
    fn old_reader_ignores_new_fields_and_rejects_a_newer_schema() {
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
    fn older_reader_refuses_a_record_of_another_app() {
        let needed = |app: &str| {
            let record = StoredAccess {
                app: app.parse().unwrap(),
                ..stored()
            };
            record.to_fields().parse_optional::<u32>("min")
        };
        assert_eq!(needed("default"), Ok(None));
        assert_eq!(needed("staging"), Ok(Some(APPS_SCHEMA)));
    }

    #[test]
    fn error_names_the_damaged_field() {
        let mut fields = stored().to_fields();
        fields.set("gen", "many");
        assert_eq!(
            StoredAccess::from_fields(&fields),
            Err(Unreadable::Malformed("gen"))
        );
    }
}
