//! A token pair that GHL granted, on its way into the store.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ring::digest;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use store::record::Unreadable;
use store::seal::{KeyRing, Label, Purpose, Sealed};
use store::{CompanyId, Generation, InstallationId, LocationId, Timestamp, UserType, random};

/// The first half of a refresh token's SHA-256: names the token without telling it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(String);

impl Fingerprint {
    #[must_use]
    pub fn of(token: &SecretString) -> Self {
        let digest = digest::digest(&digest::SHA256, token.expose_secret().as_bytes());
        Self(random::to_hex(&digest.as_ref()[..16]))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// The place in a token chain: which link was, or is to be, spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Which consent the chain began with. Chains of different consents are never mixed.
    pub consent: String,
    pub generation: Generation,
    pub fingerprint: Fingerprint,
}

/// A refreshed token pair, and the link that was spent for it.
#[derive(Debug, Clone)]
pub struct Grant {
    pub installation: InstallationId,
    pub spent: Link,
    pub access_token: SecretString,
    /// The successor; the spent token itself where GHL sent none.
    pub refresh_token: SecretString,
    /// Counted from before the request was sent.
    pub expires_at: Timestamp,
    pub lifetime: Duration,
    /// Space separated; `None`: unchanged.
    pub scopes: Option<String>,
}

impl Grant {
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.refresh_token)
    }

    /// When the access token ends. It was granted before `now`: a later end was computed while the store's
    /// clock was ahead.
    #[must_use]
    pub fn ends_at(&self, now: Timestamp) -> Timestamp {
        self.expires_at.min(now + self.lifetime)
    }

    /// The whole grant, sealed: what journals and alternates hold.
    ///
    /// # Panics
    /// Never: a grant is text and numbers, which always serialise.
    #[must_use]
    pub fn seal(&self, refresh_ring: &KeyRing) -> Sealed {
        let bare = Bare {
            spent: &self.spent,
            access_token: self.access_token.expose_secret(),
            refresh_token: self.refresh_token.expose_secret(),
            expires_at: self.expires_at,
            lifetime_ms: u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX),
            scopes: self.scopes.as_deref(),
        };
        let json = serde_json::to_vec(&bare).expect("text and numbers serialise");
        let json = Zeroizing::new(json);
        refresh_ring.seal(label(&self.installation, self.spent.generation), &json)
    }

    /// # Errors
    /// When it was sealed with another ring, or for another installation or generation.
    pub fn open(
        installation: &InstallationId,
        spent_generation: Generation,
        sealed: &Sealed,
        refresh_ring: &KeyRing,
    ) -> Result<Self, Unreadable> {
        let json = refresh_ring.open(label(installation, spent_generation), sealed)?;
        let opened: Opened =
            serde_json::from_slice(&json).map_err(|_| Unreadable::Malformed("answer"))?;
        Ok(Self {
            installation: installation.clone(),
            spent: opened.spent,
            access_token: opened.access_token,
            refresh_token: opened.refresh_token,
            expires_at: opened.expires_at,
            lifetime: Duration::from_millis(opened.lifetime_ms),
            scopes: opened.scopes,
        })
    }
}

fn label(installation: &InstallationId, generation: Generation) -> Label<'_> {
    Label {
        purpose: Purpose::Answer,
        installation,
        generation,
    }
}

/// A grant on its way into a seal.
#[derive(Serialize)]
struct Bare<'a> {
    spent: &'a Link,
    access_token: &'a str,
    refresh_token: &'a str,
    expires_at: Timestamp,
    lifetime_ms: u64,
    scopes: Option<&'a str>,
}

/// A grant on its way out of a seal.
#[derive(Deserialize)]
struct Opened {
    spent: Link,
    access_token: SecretString,
    refresh_token: SecretString,
    expires_at: Timestamp,
    lifetime_ms: u64,
    scopes: Option<String>,
}

/// A first token pair: a customer has just consented, or an operator set a static token.
#[derive(Debug, Clone)]
pub struct Enrolment {
    pub access_token: SecretString,
    /// `None`: static, never refreshed.
    pub refresh_token: Option<SecretString>,
    /// `None`: never.
    pub expires_at: Option<Timestamp>,
    pub lifetime: Duration,
    pub scopes: String,
    pub user_type: UserType,
    pub location: Option<LocationId>,
    pub company: Option<CompanyId>,
}
