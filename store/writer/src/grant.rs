//! A token pair that GHL granted, before the store has it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ring::digest;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use store::record::Unreadable;
use store::seal::{KeyRing, Label, Purpose, Sealed};
use store::{
    AppName, ClientId, CompanyId, Generation, InstallationId, LocationId, Timestamp, UserType,
    random,
};

/// Names a refresh token without revealing it: the first 16 bytes of its SHA-256, as 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of a refresh token.
    #[must_use]
    pub fn of(token: &SecretString) -> Self {
        let digest = digest::digest(&digest::SHA256, token.expose_secret().as_bytes());
        Self(random::to_hex(&digest.as_ref()[..16]))
    }

    /// The hex digits.
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

/// A link of a token chain: the refresh token that was or will be spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLink {
    /// The name of the consent that started the chain. Chains of different consents are never mixed.
    pub consent: String,
    /// The position in the chain.
    pub generation: Generation,
    /// The fingerprint of the refresh token.
    pub fingerprint: Fingerprint,
}

/// A refreshed token pair, and the link that was spent for it.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The refreshed installation.
    pub installation: InstallationId,
    /// The client id that the tokens were issued to; `None` if an older build kept the response.
    pub client: Option<ClientId>,
    /// The link that was spent.
    pub spent: ChainLink,
    /// The new access token.
    pub access_token: SecretString,
    /// The new refresh token; the spent one if GHL sent none.
    pub refresh_token: SecretString,
    /// When the access token expires, in the store's time. Counted from before the request was sent.
    pub expires_at: Timestamp,
    /// The lifetime that GHL granted.
    pub lifetime: Duration,
    /// The granted scopes, separated by spaces; `None`: unchanged.
    pub scopes: Option<String>,
}

impl Grant {
    /// The fingerprint of the new refresh token.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.refresh_token)
    }

    /// When the access token expires. It was granted before `now`, so a later end than `now` plus the
    /// lifetime comes from a clock that was ahead. Such an end is capped.
    #[must_use]
    pub fn ends_at(&self, now: Timestamp) -> Timestamp {
        self.expires_at.min(now + self.lifetime)
    }

    /// Serializes and seals the whole grant. Journals and alternates hold this form.
    ///
    /// # Panics
    /// Never. Text and numbers always serialize.
    #[must_use]
    pub fn seal(&self, refresh_ring: &KeyRing) -> Sealed {
        let plaintext = PlaintextRef {
            client: self.client.as_ref(),
            spent: &self.spent,
            access_token: self.access_token.expose_secret(),
            refresh_token: self.refresh_token.expose_secret(),
            expires_at: self.expires_at,
            lifetime_ms: u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX),
            scopes: self.scopes.as_deref(),
        };
        let json = serde_json::to_vec(&plaintext).expect("text and numbers serialize");
        let json = Zeroizing::new(json);
        refresh_ring.seal(label(&self.installation, self.spent.generation), &json)
    }

    /// Decrypts a grant that [`Grant::seal`] sealed.
    ///
    /// # Errors
    /// When it was sealed with another ring, or for another installation or generation.
    pub fn open(
        installation: &InstallationId,
        spent_generation: Generation,
        sealed: &Sealed,
        refresh_ring: &KeyRing,
    ) -> Result<Self, Unreadable> {
        let json = refresh_ring.open(label(installation, spent_generation), sealed)?;
        let plaintext: Plaintext =
            serde_json::from_slice(&json).map_err(|_| Unreadable::Malformed("answer"))?;
        Ok(Self {
            installation: installation.clone(),
            client: plaintext.client,
            spent: plaintext.spent,
            access_token: plaintext.access_token,
            refresh_token: plaintext.refresh_token,
            expires_at: plaintext.expires_at,
            lifetime: Duration::from_millis(plaintext.lifetime_ms),
            scopes: plaintext.scopes,
        })
    }
}

/// The label that a grant is sealed with. `generation`: the one whose token was spent.
pub(crate) fn label(installation: &InstallationId, generation: Generation) -> Label<'_> {
    Label {
        purpose: Purpose::TokenResponse,
        installation,
        generation,
    }
}

/// The plaintext of a grant, before sealing.
#[derive(Serialize)]
struct PlaintextRef<'a> {
    client: Option<&'a ClientId>,
    spent: &'a ChainLink,
    access_token: &'a str,
    refresh_token: &'a str,
    expires_at: Timestamp,
    lifetime_ms: u64,
    scopes: Option<&'a str>,
}

/// The plaintext of a grant, after decryption.
#[derive(Deserialize)]
struct Plaintext {
    client: Option<ClientId>,
    spent: ChainLink,
    access_token: SecretString,
    refresh_token: SecretString,
    expires_at: Timestamp,
    lifetime_ms: u64,
    scopes: Option<String>,
}

/// A first token pair, from a customer's consent or from an operator's static token.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The app that the customer consented to.
    pub app: AppName,
    /// The client id that the tokens were issued to; `None`: static.
    pub client: Option<ClientId>,
    /// The access token.
    pub access_token: SecretString,
    /// The refresh token; `None`: static, never refreshed.
    pub refresh_token: Option<SecretString>,
    /// When the access token expires, in the store's time; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// The lifetime that GHL granted.
    pub lifetime: Duration,
    /// The granted scopes, separated by spaces.
    pub scopes: String,
    /// The kind of token, from GHL's `userType`.
    pub user_type: UserType,
    /// The sub-account, if GHL named one.
    pub location: Option<LocationId>,
    /// The agency, if GHL named one.
    pub company: Option<CompanyId>,
}
