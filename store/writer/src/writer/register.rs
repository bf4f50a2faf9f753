//! Registration: the start of an installation, or its restart after a new consent.

use store::record::Unreadable;
use store::{InstallationId, Timestamp};
use tracing::warn;

use super::{Decision, StoreWriter, WriteError, parse};
use crate::backend::Loaded;
use crate::grant::Registration;
use crate::installation::{Installation, refresh_label};
use crate::protocol;

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
        let id = self.name(fresh.clone(), registration).await?;
        let (written, revision) = self
            .decide_loaded(&id, |loaded| {
                let earlier = match parse(&id, loaded) {
                    Ok(Some(current)) if current.is_from_consent(&fresh) => {
                        let stored = (current.access.generation, current.link());
                        return Ok(Decision::Leave(stored));
                    }
                    Ok(current) => current.as_ref().map(protocol::PreviousRecord::of),
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
                let next = self.registered(&id, fresh.as_str(), earlier, registration, loaded.now);
                let written = (next.access.generation, next.link());
                Ok(Decision::Write(Box::new(next), written))
            })
            .await?;
        let (generation, link) = written;
        // A later generation, for example another consent's, was written after this one.
        let is_there = |current: &Installation, _| {
            current.access.generation > generation || current.link() == link
        };
        self.confirm(&id, revision, is_there).await?;
        Ok(id)
    }

    /// Registers a static token, unless the location has a live consent. Returns whether it did.
    ///
    /// # Errors
    /// As [`StoreWriter::register_installation`].
    pub async fn register_static_token(
        &self,
        registration: &Registration,
    ) -> Result<(InstallationId, bool), WriteError> {
        let id = self.name(InstallationId::random(), registration).await?;
        let is_registered = self
            .decide(&id, |current, now| {
                if !protocol::may_be_static(current) {
                    return Decision::Leave(false);
                }
                let earlier = current.map(protocol::PreviousRecord::of);
                let consent = InstallationId::random();
                let next = self.registered(&id, consent.as_str(), earlier, registration, now);
                Decision::Write(Box::new(next), true)
            })
            .await?;
        Ok((id, is_registered))
    }

    /// The id of the registration's location or company. Stores `fresh` if there is none.
    async fn name(
        &self,
        fresh: InstallationId,
        registration: &Registration,
    ) -> Result<InstallationId, WriteError> {
        let name = match (&registration.location, &registration.company) {
            (Some(location), _) => location.as_str(),
            (None, Some(company)) => company.as_str(),
            (None, None) => "static",
        };
        let id = self.backend.get_or_insert_location(name, &fresh).await?;
        id.parse().map_err(|_| WriteError::Unreadable {
            id: fresh,
            source: Unreadable::Malformed("location index"),
        })
    }

    fn registered(
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
