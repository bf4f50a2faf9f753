//! GHL's response to a code exchange, before the store has it. A code is valid once, so the response is in
//! the journal before anything else is done with it.

use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use store::record::Unreadable;
use store::seal::{KeyRing, Label, Purpose, Sealed};
use store::{
    AppName, ClientId, CompanyId, Customer, Generation, InstallationId, LocationId, Timestamp,
    UserType,
};

use crate::grant::Registration;
use crate::writer::{StoreWriter, WriteError};

/// A consent that the store may not have yet.
#[derive(Debug, Clone)]
pub struct Consent {
    /// The id of a new location or company. It also names the consent in the journal.
    pub fresh: InstallationId,
    /// When the code exchange began, in the store's time.
    pub asked_at: Timestamp,
    /// The first token pair.
    pub registration: Registration,
    /// The caller's own data about the customer.
    pub customer: NewCustomer,
}

/// The caller's own data about a customer who consents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCustomer {
    /// The external id and the tags. Tags replace earlier ones, unless there are none.
    #[serde(flatten)]
    pub customer: Customer,
    /// How far the external id may reach.
    #[serde(default)]
    pub claim: Claim,
    /// The name of the one-time link that it comes from. A link is for the first installation that it connects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// How far an external id may reach that comes with a consent or an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Claim {
    /// It names the installation only if no installation has it, and the installation has no other one.
    #[default]
    Free,
    /// It is taken from the installation that has it. It replaces no other external id, since an installation with another
    /// one belongs to another customer of the caller.
    Move,
    /// It is taken from the installation that has it, and replaces another external id.
    Replace,
}

impl Claim {
    /// Whether another installation may lose the external id.
    #[must_use]
    pub const fn may_move(self) -> bool {
        match self {
            Self::Free => false,
            Self::Move | Self::Replace => true,
        }
    }

    /// Whether the installation may lose another external id.
    #[must_use]
    pub const fn may_rename(self) -> bool {
        match self {
            Self::Free | Self::Move => false,
            Self::Replace => true,
        }
    }
}

impl NewCustomer {
    /// The customer after the consent. `known`: before it.
    #[must_use]
    pub fn merged_into(&self, known: Customer) -> Customer {
        let Self {
            customer, claim, ..
        } = self;
        let keeps_id = known.external_id.is_some() && !claim.may_rename();
        Customer {
            external_id: match &customer.external_id {
                Some(next) if !keeps_id => Some(next.clone()),
                Some(_) | None => known.external_id,
            },
            tags: match customer.tags.is_empty() {
                true => known.tags,
                false => customer.tags.clone(),
            },
        }
    }
}

impl Consent {
    /// A consent with a new random id.
    #[must_use]
    pub fn new(asked_at: Timestamp, registration: Registration, customer: NewCustomer) -> Self {
        Self {
            fresh: InstallationId::random(),
            asked_at,
            registration,
            customer,
        }
    }

    /// Serializes and seals everything except the id.
    ///
    /// # Panics
    /// Never. Text and numbers always serialize.
    #[must_use]
    pub fn seal(&self, refresh_ring: &KeyRing) -> Sealed {
        let Registration {
            app,
            client,
            access_token,
            refresh_token,
            expires_at,
            lifetime,
            scopes,
            user_type,
            location,
            company,
        } = &self.registration;
        let plaintext = PlaintextRef {
            asked_at: self.asked_at,
            app,
            client: client.as_ref(),
            access_token: access_token.expose_secret(),
            refresh_token: refresh_token.as_ref().map(ExposeSecret::expose_secret),
            expires_at: *expires_at,
            lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
            scopes,
            user_type: user_type.as_str(),
            location: location.as_ref(),
            company: company.as_ref(),
            customer: &self.customer,
        };
        let json =
            Zeroizing::new(serde_json::to_vec(&plaintext).expect("text and numbers serialize"));
        refresh_ring.seal(label(&self.fresh), &json)
    }

    /// Decrypts a consent that [`Consent::seal`] sealed.
    ///
    /// # Errors
    /// When it was sealed with another ring or under another id, or is of a newer version.
    pub fn open(
        fresh: &InstallationId,
        sealed: &Sealed,
        refresh_ring: &KeyRing,
    ) -> Result<Self, Unreadable> {
        let json = refresh_ring.open(label(fresh), sealed)?;
        let malformed = Unreadable::Malformed("consent");
        let plaintext: Plaintext = serde_json::from_slice(&json).map_err(|_| malformed.clone())?;
        let user_type: UserType = plaintext.user_type.parse().map_err(|_| malformed)?;
        Ok(Self {
            fresh: fresh.clone(),
            asked_at: plaintext.asked_at,
            registration: Registration {
                app: plaintext.app,
                client: plaintext.client,
                access_token: plaintext.access_token,
                refresh_token: plaintext.refresh_token,
                expires_at: plaintext.expires_at,
                lifetime: Duration::from_millis(plaintext.lifetime_ms),
                scopes: plaintext.scopes,
                user_type,
                location: plaintext.location,
                company: plaintext.company,
            },
            customer: plaintext.customer,
        })
    }
}

impl StoreWriter {
    /// Stores a consent that an earlier process or attempt may have stored already. Does nothing if the store
    /// has a consent of the same time or newer.
    ///
    /// # Errors
    /// As [`StoreWriter::register_installation`].
    pub async fn register_consent(&self, consent: &Consent) -> Result<InstallationId, WriteError> {
        let Registration {
            app,
            location,
            company,
            ..
        } = &consent.registration;
        let name = location.as_ref().map(LocationId::as_str);
        if let Some(name) = name.or(company.as_ref().map(CompanyId::as_str))
            && let Some(id) = self.resolve_in(app, name).await?
        {
            match self.load(&id).await {
                Ok(Some(known)) if known.installation.is_granted_since(consent.asked_at) => {
                    return Ok(id);
                }
                // A consent replaces an unreadable record.
                Ok(_) | Err(WriteError::Unreadable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let fresh = consent.fresh.clone();
        self.register_customer(fresh, &consent.registration, &consent.customer)
            .await
    }
}

/// The label that a consent is sealed with.
pub(crate) fn label(fresh: &InstallationId) -> Label<'_> {
    Label {
        purpose: Purpose::Consent,
        installation: fresh,
        generation: Generation::FIRST,
    }
}

/// The plaintext before sealing.
#[derive(Serialize)]
struct PlaintextRef<'a> {
    asked_at: Timestamp,
    app: &'a AppName,
    client: Option<&'a ClientId>,
    access_token: &'a str,
    refresh_token: Option<&'a str>,
    expires_at: Option<Timestamp>,
    lifetime_ms: u64,
    scopes: &'a str,
    user_type: &'a str,
    location: Option<&'a LocationId>,
    company: Option<&'a CompanyId>,
    customer: &'a NewCustomer,
}

/// The plaintext after decryption.
#[derive(Deserialize)]
struct Plaintext {
    asked_at: Timestamp,
    /// Older builds knew one app.
    #[serde(default)]
    app: AppName,
    client: Option<ClientId>,
    access_token: SecretString,
    refresh_token: Option<SecretString>,
    expires_at: Option<Timestamp>,
    lifetime_ms: u64,
    scopes: String,
    user_type: String,
    location: Option<LocationId>,
    company: Option<CompanyId>,
    /// Older builds knew nothing about customers.
    #[serde(default)]
    customer: NewCustomer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_opens_only_under_its_own_id() {
        let ring = KeyRing::generate("r");
        let consent = Consent::new(
            Timestamp::from_millis(5),
            Registration {
                app: "staging".parse().unwrap(),
                client: Some("id-1".parse().unwrap()),
                access_token: "a".into(),
                refresh_token: Some("r".into()),
                expires_at: Some(Timestamp::from_millis(9)),
                lifetime: Duration::from_millis(4),
                scopes: "s".to_owned(),
                user_type: UserType::Location,
                location: Some("L".parse().unwrap()),
                company: None,
            },
            NewCustomer {
                customer: Customer {
                    external_id: Some("42".parse().unwrap()),
                    tags: ["vip".parse().unwrap()].into(),
                },
                claim: Claim::Move,
                link: Some("ab".to_owned()),
            },
        );
        let sealed = consent.seal(&ring);
        let plaintext = Consent::open(&consent.fresh, &sealed, &ring).unwrap();
        assert_eq!(plaintext.asked_at, consent.asked_at);
        assert_eq!(plaintext.customer, consent.customer);
        let (left, right) = (plaintext.registration, consent.registration);
        assert_eq!(left.access_token.expose_secret(), "a");
        assert_eq!(left.refresh_token.unwrap().expose_secret(), "r");
        assert_eq!(
            (
                left.app,
                left.client,
                left.expires_at,
                left.lifetime,
                left.scopes,
                left.location
            ),
            (
                right.app,
                right.client,
                right.expires_at,
                right.lifetime,
                right.scopes,
                right.location
            )
        );
        assert!(Consent::open(&InstallationId::random(), &sealed, &ring).is_err());
    }
}
