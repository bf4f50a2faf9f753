//! What GHL answered to a customer's code, on its way into the store. A code is good once, so the
//! answer is in the journal before anything else is done with it.

use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use store::record::Unreadable;
use store::seal::{KeyRing, Label, Purpose, Sealed};
use store::{CompanyId, Generation, InstallationId, LocationId, Timestamp, UserType};

use crate::grant::Enrolment;
use crate::writer::{StoreWriter, WriteError};

/// A consent that the store may not have yet.
#[derive(Debug, Clone)]
pub struct Consent {
    /// The id that a new location or company gets. It also names the consent in the journal.
    pub fresh: InstallationId,
    /// Before the code was exchanged, in the store's time.
    pub asked_at: Timestamp,
    pub enrolment: Enrolment,
}

impl Consent {
    #[must_use]
    pub fn new(asked_at: Timestamp, enrolment: Enrolment) -> Self {
        Self {
            fresh: InstallationId::random(),
            asked_at,
            enrolment,
        }
    }

    /// Seals everything but the name.
    ///
    /// # Panics
    /// Never: what is serialised is text and numbers.
    #[must_use]
    pub fn seal(&self, refresh_ring: &KeyRing) -> Sealed {
        let Enrolment {
            access_token,
            refresh_token,
            expires_at,
            lifetime,
            scopes,
            user_type,
            location,
            company,
        } = &self.enrolment;
        let bare = Bare {
            asked_at: self.asked_at,
            access_token: access_token.expose_secret(),
            refresh_token: refresh_token.as_ref().map(ExposeSecret::expose_secret),
            expires_at: *expires_at,
            lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
            scopes,
            user_type: user_type.as_str(),
            location: location.as_ref(),
            company: company.as_ref(),
        };
        let json = Zeroizing::new(serde_json::to_vec(&bare).expect("text and numbers serialise"));
        refresh_ring.seal(label(&self.fresh), &json)
    }

    /// # Errors
    /// When it was sealed with another ring or under another name, or is of a newer version.
    pub fn open(
        fresh: &InstallationId,
        sealed: &Sealed,
        refresh_ring: &KeyRing,
    ) -> Result<Self, Unreadable> {
        let json = refresh_ring.open(label(fresh), sealed)?;
        let malformed = Unreadable::Malformed("consent");
        let opened: Opened = serde_json::from_slice(&json).map_err(|_| malformed.clone())?;
        let user_type: UserType = opened.user_type.parse().map_err(|_| malformed)?;
        Ok(Self {
            fresh: fresh.clone(),
            asked_at: opened.asked_at,
            enrolment: Enrolment {
                access_token: opened.access_token,
                refresh_token: opened.refresh_token,
                expires_at: opened.expires_at,
                lifetime: Duration::from_millis(opened.lifetime_ms),
                scopes: opened.scopes,
                user_type,
                location: opened.location,
                company: opened.company,
            },
        })
    }
}

impl StoreWriter {
    /// Stores a consent that an earlier process or attempt may have stored already: one that is as
    /// new or newer is left alone.
    ///
    /// # Errors
    /// As [`StoreWriter::enrol`].
    pub async fn enrol_consent(&self, consent: &Consent) -> Result<InstallationId, WriteError> {
        let Enrolment {
            location, company, ..
        } = &consent.enrolment;
        let name = location.as_ref().map(LocationId::as_str);
        if let Some(name) = name.or(company.as_ref().map(CompanyId::as_str))
            && let Some(id) = self.resolve(name).await?
        {
            match self.load(&id).await {
                Ok(Some(known)) if known.installation.consented_at >= consent.asked_at => {
                    return Ok(id);
                }
                // A consent replaces a record that cannot be read.
                Ok(_) | Err(WriteError::Unreadable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.enrol_as(consent.fresh.clone(), &consent.enrolment)
            .await
    }
}

fn label(fresh: &InstallationId) -> Label<'_> {
    Label {
        purpose: Purpose::Consent,
        installation: fresh,
        generation: Generation::FIRST,
    }
}

/// On its way into a seal.
#[derive(Serialize)]
struct Bare<'a> {
    asked_at: Timestamp,
    access_token: &'a str,
    refresh_token: Option<&'a str>,
    expires_at: Option<Timestamp>,
    lifetime_ms: u64,
    scopes: &'a str,
    user_type: &'a str,
    location: Option<&'a LocationId>,
    company: Option<&'a CompanyId>,
}

/// On its way out of a seal.
#[derive(Deserialize)]
struct Opened {
    asked_at: Timestamp,
    access_token: SecretString,
    refresh_token: Option<SecretString>,
    expires_at: Option<Timestamp>,
    lifetime_ms: u64,
    scopes: String,
    user_type: String,
    location: Option<LocationId>,
    company: Option<CompanyId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consent_survives_its_seal_and_opens_under_its_own_name_alone() {
        let ring = KeyRing::generate("r");
        let consent = Consent::new(
            Timestamp::from_millis(5),
            Enrolment {
                access_token: "a".into(),
                refresh_token: Some("r".into()),
                expires_at: Some(Timestamp::from_millis(9)),
                lifetime: Duration::from_millis(4),
                scopes: "s".to_owned(),
                user_type: UserType::Location,
                location: Some("L".parse().unwrap()),
                company: None,
            },
        );
        let sealed = consent.seal(&ring);
        let opened = Consent::open(&consent.fresh, &sealed, &ring).unwrap();
        assert_eq!(opened.asked_at, consent.asked_at);
        let (left, right) = (opened.enrolment, consent.enrolment);
        assert_eq!(left.access_token.expose_secret(), "a");
        assert_eq!(left.refresh_token.unwrap().expose_secret(), "r");
        assert_eq!(
            (left.expires_at, left.lifetime, left.scopes, left.location),
            (
                right.expires_at,
                right.lifetime,
                right.scopes,
                right.location
            )
        );
        assert!(Consent::open(&InstallationId::random(), &sealed, &ring).is_err());
    }
}
