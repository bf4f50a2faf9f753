//! Registration: the start of an installation, or its restart after a new consent.

use secrecy::ExposeSecret;
use store::{AccessRecord, Customer, InstallationId, Status, Timestamp};
use tracing::warn;

use super::{Decision, StoreWriter, WriteError, parse};
use crate::backend::Loaded;
use crate::consent::NewCustomer;
use crate::grant::{Fingerprint, Registration};
use crate::installation::{Installation, refresh_label};
use crate::protocol;

/// Where a static token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenOrigin {
    /// From the settings of a process, at each start.
    Settings,
    /// From an operator, who has a newer one than the settings.
    Operator,
}

impl StoreWriter {
    /// Creates or revives the installation of the registration's location or company.
    ///
    /// A location keeps its id, so two concurrent consents end in one installation. An unreadable record is
    /// replaced, because nothing of it is needed any more.
    ///
    /// # Errors
    /// When the store is unavailable, or too few replicas have the record.
    pub async fn register_installation(
        &self,
        registration: &Registration,
    ) -> Result<InstallationId, WriteError> {
        self.register_installation_as(InstallationId::random(), registration)
            .await
    }

    /// As [`StoreWriter::register_installation`]. A new location or company gets the id `fresh`. That id also
    /// names the consent: a consent that is stored already is left unchanged, because its token may be spent.
    ///
    /// # Errors
    /// As [`StoreWriter::register_installation`].
    pub async fn register_installation_as(
        &self,
        fresh: InstallationId,
        registration: &Registration,
    ) -> Result<InstallationId, WriteError> {
        self.register_customer(fresh, registration, &NewCustomer::default())
            .await
    }

    /// As [`StoreWriter::register_installation_as`], of a customer whom the caller knows.
    ///
    /// # Errors
    /// As [`StoreWriter::register_installation`].
    pub async fn register_customer(
        &self,
        fresh: InstallationId,
        registration: &Registration,
        customer: &NewCustomer,
    ) -> Result<InstallationId, WriteError> {
        let id = self.name(fresh.clone(), registration).await?;
        let early = self.early_details(&id).await?;
        let customer = self.claim_name(&registration.app, &id, customer).await?;
        let (written, revision) = self
            .decide_loaded(&id, |loaded| {
                let mut details = early.clone();
                let mut known = Customer::default();
                let earlier = match parse(&id, loaded) {
                    Ok(Some(current)) if current.is_from_consent(&fresh) => {
                        let stored = (current.access.generation, current.link(), None);
                        return Ok(Decision::Leave(stored));
                    }
                    Ok(current) => {
                        let held = current.as_ref().and_then(|current| current.details.clone());
                        details = held.or(details);
                        if let Some(current) = &current {
                            known.clone_from(&current.customer);
                        }
                        current.as_ref().map(protocol::PreviousRecord::of)
                    }
                    Err(error) => {
                        warn!(installation = %id, error = &error as &dyn std::error::Error,
                            "a consent replaces an unreadable record");
                        let Loaded {
                            access,
                            refresh,
                            now,
                        } = loaded;
                        Some(protocol::PreviousRecord::of_fields(access, refresh, *now))
                    }
                };
                let mut next =
                    self.registered(&id, fresh.as_str(), earlier, registration, loaded.now);
                next.details = details;
                let earlier = known.external_id.clone();
                next.customer = customer.merged_into(known);
                let replaced = earlier.filter(|it| next.customer.external_id.as_ref() != Some(it));
                let written = (next.access.generation, next.link(), replaced);
                Ok(Decision::Write(Box::new(next), written))
            })
            .await?;
        let (generation, link, replaced) = written;
        // A later generation, for example another consent's, was written after this one.
        let is_there = |current: &Installation, _| {
            current.access.generation > generation || current.link() == link
        };
        self.confirm(&id, revision, is_there).await?;
        let app = &registration.app;
        self.release_external_id(app, replaced.as_ref(), &id)
            .await?;
        if let Some(external_id) = &customer.customer.external_id {
            self.check_name(app, external_id, &id).await?;
        }
        Ok(id)
    }

    /// Registers a static token, unless the location has a live consent. Returns whether it is there. One that is there
    /// already is left unchanged, so that its age stays known. A token of the settings replaces a later one of an operator
    /// only if the setting has changed.
    ///
    /// # Errors
    /// As [`StoreWriter::register_installation`].
    pub async fn register_static_token(
        &self,
        registration: &Registration,
        origin: TokenOrigin,
    ) -> Result<(InstallationId, bool), WriteError> {
        let setting = match origin {
            TokenOrigin::Settings => Some(Fingerprint::of(&registration.access_token)),
            TokenOrigin::Operator => None,
        };
        let id = self.name(InstallationId::random(), registration).await?;
        let is_registered = self
            .decide(&id, |current, now| {
                if !protocol::may_be_static(current) {
                    return Decision::Leave(false);
                }
                let is_same = |current: &Installation| {
                    let is_setting = setting.is_some() && current.setting == setting;
                    is_setting || self.has_token(current, registration)
                };
                if current.is_some_and(is_same) {
                    return Decision::Leave(true);
                }
                let earlier = current.map(protocol::PreviousRecord::of);
                let consent = InstallationId::random();
                let mut next = self.registered(&id, consent.as_str(), earlier, registration, now);
                next.details = current.and_then(|current| current.details.clone());
                let customer = current.map(|current| current.customer.clone());
                next.customer = customer.unwrap_or_default();
                let earlier = || current.and_then(|current| current.setting.clone());
                next.setting = setting.clone().or_else(earlier);
                next.due = Some(now + protocol::STATIC_TOKEN_AGE);
                Decision::Write(Box::new(next), true)
            })
            .await?;
        Ok((id, is_registered))
    }

    /// Whether the installation has the access token of the registration.
    fn has_token(&self, current: &Installation, registration: &Registration) -> bool {
        let opened = current.access.clone().open(&current.id, &self.rings.access);
        let is_same = |access: AccessRecord| {
            access.token.expose_secret() == registration.access_token.expose_secret()
        };
        current.access.status == Status::Static && opened.is_ok_and(is_same)
    }

    /// The id of the registration's location or company. Stores `fresh` if there is none.
    pub(super) async fn name(
        &self,
        fresh: InstallationId,
        registration: &Registration,
    ) -> Result<InstallationId, WriteError> {
        let name = match (&registration.location, &registration.company) {
            (Some(location), _) => location.as_str(),
            (None, Some(company)) => company.as_str(),
            (None, None) => "static",
        };
        self.reserved_id(&registration.app, name, fresh).await
    }

    pub(super) fn registered(
        &self,
        id: &InstallationId,
        consent: &str,
        earlier: Option<protocol::PreviousRecord>,
        registration: &Registration,
        now: Timestamp,
    ) -> Installation {
        let generation = protocol::generation_for(earlier);
        let label = refresh_label(id, generation);
        let refresh = registration.refresh_token.as_ref();
        let sealed = protocol::SealedTokens {
            access: self
                .rings
                .seal_access(id, generation, &registration.access_token),
            refresh: refresh.map(|token| self.rings.seal_refresh(label, token)),
        };
        let expires_at = refresh.and(registration.expires_at);
        let lifetime = registration.lifetime;
        let due = expires_at.map(|expiry| self.lead.due(expiry, lifetime, id.jitter_seed()));
        protocol::register(id.clone(), consent, earlier, registration, sealed, due, now)
    }
}
