//! The caller's own data about an installation, and the end of its record.

use std::collections::BTreeSet;
use std::time::Duration;

use store::{AppName, ExternalId, InstallationId, Invalidation, Tag, keys};

use super::{Decision, StoreWriter, WriteError, parse};
use crate::backend::index::Removal;
use crate::consent::NewCustomer;
use crate::error::MAX_SWAP_ATTEMPTS;
use crate::installation::Installation;

/// How long it is known which installation a one-time link has connected. Longer than the longest validity of a link.
const LINK_TAKEN_FOR: Duration = Duration::from_secs(8 * 24 * 3600);

/// The effect of a name that an installation is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// The installation has the name.
    Named,
    /// Another installation has it.
    Taken(InstallationId),
}

impl StoreWriter {
    /// Gives an external id to an installation of this app, which need not be stored yet. `may_move`: whether it is taken
    /// from the installation that has it.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn name_customer(
        &self,
        app: &AppName,
        external_id: &ExternalId,
        id: &InstallationId,
        may_move: bool,
    ) -> Result<Naming, WriteError> {
        let name = external_id.index_name();
        for _ in 0..MAX_SWAP_ATTEMPTS {
            let holder = self.reserved_id(app, &name, id.clone()).await?;
            if holder == *id {
                // Readers may know that nobody has the name.
                self.backend
                    .replace_location(app, &name, id, Some(id))
                    .await?;
                return Ok(Naming::Named);
            }
            let is_held = match self.load(&holder).await {
                Ok(Some(known)) => {
                    known.installation.customer.external_id.as_ref() == Some(external_id)
                }
                Ok(None) => false,
                Err(WriteError::Unreadable { .. }) => true,
                Err(error) => return Err(error),
            };
            if is_held && !may_move {
                return Ok(Naming::Taken(holder));
            }
            if is_held {
                self.forget_external_id(&holder, external_id).await?;
            }
            self.backend
                .replace_location(app, &name, &holder, Some(id))
                .await?;
        }
        Err(WriteError::Contended(id.clone()))
    }

    /// The data that a consent may store. Its external id is left out if [`Claim`](crate::consent::Claim) does not reach
    /// that far, and all of it if its one-time link has connected another installation.
    pub(super) async fn claim_name(
        &self,
        app: &AppName,
        id: &InstallationId,
        wanted: &NewCustomer,
    ) -> Result<NewCustomer, WriteError> {
        if let Some(link) = &wanted.link
            && !self.take_link(link, id).await?
        {
            return Ok(NewCustomer::default());
        }
        let mut claimed = wanted.clone();
        let Some(external_id) = &wanted.customer.external_id else {
            return Ok(claimed);
        };
        let claim = wanted.claim;
        if !claim.may_rename() && self.has_other_name(id, external_id).await? {
            if wanted.link.is_some() {
                // The account belongs to another customer, and so the link's tags are not for it.
                return Ok(NewCustomer::default());
            }
            claimed.customer.external_id = None;
            return Ok(claimed);
        }
        match self
            .name_customer(app, external_id, id, claim.may_move())
            .await?
        {
            Naming::Named => {}
            Naming::Taken(_) => claimed.customer.external_id = None,
        }
        Ok(claimed)
    }

    /// Stores the caller's data about an installation that is stored already, as far as [`NewCustomer`] allows.
    ///
    /// # Errors
    /// When there is no such installation, or the store is unavailable.
    pub async fn attach_customer(
        &self,
        app: &AppName,
        id: &InstallationId,
        wanted: &NewCustomer,
    ) -> Result<NewCustomer, WriteError> {
        let mut claimed = self.claim_name(app, id, wanted).await?;
        let replaced = self.decide_known(id, |current, _| {
            let mut next = current.clone();
            next.customer = claimed.merged_into(current.customer.clone());
            let earlier = current.customer.external_id.clone();
            let replaced = earlier.filter(|it| next.customer.external_id.as_ref() != Some(it));
            match next == *current {
                true => Decision::Leave(replaced),
                false => Decision::Write(Box::new(next), replaced),
            }
        });
        let replaced = replaced.await?;
        self.release_external_id(app, replaced.as_ref(), id).await?;
        self.confirm_name(app, id, &mut claimed).await?;
        Ok(claimed)
    }

    /// As [`Self::check_name`], for the external id that was written. It is `None` afterwards if another consent has it.
    pub(super) async fn confirm_name(
        &self,
        app: &AppName,
        id: &InstallationId,
        claimed: &mut NewCustomer,
    ) -> Result<(), WriteError> {
        if let Some(external_id) = &claimed.customer.external_id
            && !self.check_name(app, external_id, id).await?
        {
            claimed.customer.external_id = None;
        }
        Ok(())
    }

    /// Gives a one-time link to an installation. False if another one has it.
    async fn take_link(&self, link: &str, id: &InstallationId) -> Result<bool, WriteError> {
        let key = keys::consent(&format!("taken:{link}"));
        let is_first = self
            .backend
            .put_if_absent(&key, id.as_str(), LINK_TAKEN_FOR)
            .await?;
        Ok(is_first || self.backend.get(&key).await?.as_deref() == Some(id.as_str()))
    }

    /// Removes an external id from a record if another consent has taken it meanwhile. Index and record are two writes.
    /// Returns whether the record keeps it.
    pub(super) async fn check_name(
        &self,
        app: &AppName,
        external_id: &ExternalId,
        id: &InstallationId,
    ) -> Result<bool, WriteError> {
        let holder = self.resolve_in(app, &external_id.index_name()).await?;
        let keeps_it = holder.is_some_and(|holder| holder == *id);
        if !keeps_it {
            self.forget_external_id(id, external_id).await?;
        }
        Ok(keeps_it)
    }

    async fn has_other_name(
        &self,
        id: &InstallationId,
        external_id: &ExternalId,
    ) -> Result<bool, WriteError> {
        match self.load(id).await {
            Ok(known) => {
                let held = known.and_then(|known| known.installation.customer.external_id);
                Ok(held.is_some_and(|held| held != *external_id))
            }
            // A consent replaces an unreadable record.
            Err(WriteError::Unreadable { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn forget_external_id(
        &self,
        holder: &InstallationId,
        external_id: &ExternalId,
    ) -> Result<(), WriteError> {
        let forgotten = self.decide_known(holder, |current, _| {
            if current.customer.external_id.as_ref() != Some(external_id) {
                return Decision::Leave(());
            }
            let mut next = current.clone();
            next.customer.external_id = None;
            Decision::Write(Box::new(next), ())
        });
        match forgotten.await {
            Ok(()) | Err(WriteError::Unknown(_) | WriteError::Unreadable { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Changes what the caller knows about an installation. `None` leaves a part as it is. An external id is taken from
    /// the installation that has it.
    ///
    /// # Errors
    /// When there is no such installation, or the store is unavailable.
    pub async fn change_customer(
        &self,
        id: &InstallationId,
        external_id: Option<Option<ExternalId>>,
        tags: Option<BTreeSet<Tag>>,
    ) -> Result<(), WriteError> {
        let known = self.load(id).await?;
        let known = known.ok_or_else(|| WriteError::Unknown(id.clone()))?;
        let app = &known.installation.access.app;
        if let Some(Some(external_id)) = &external_id {
            self.name_customer(app, external_id, id, true).await?;
        }
        // First, so that a repetition after a failure does it, too.
        let earlier = &known.installation.customer.external_id;
        if external_id.as_ref().is_some_and(|next| next != earlier) {
            self.release_external_id(app, earlier.as_ref(), id).await?;
        }
        self.decide_known(id, |current, _| {
            let mut next = current.clone();
            if let Some(external_id) = &external_id {
                next.customer.external_id.clone_from(external_id);
            }
            if let Some(tags) = &tags {
                next.customer.tags.clone_from(tags);
            }
            match next == *current {
                true => Decision::Leave(()),
                false => Decision::Write(Box::new(next), ()),
            }
        })
        .await
    }

    /// Takes a name out of the index, if it is still this installation's.
    pub(super) async fn release_external_id(
        &self,
        app: &AppName,
        earlier: Option<&ExternalId>,
        id: &InstallationId,
    ) -> Result<(), WriteError> {
        if let Some(external_id) = earlier {
            let name = external_id.index_name();
            self.backend.replace_location(app, &name, id, None).await?;
        }
        Ok(())
    }

    /// Removes the record of an installation and its external id. The id stays reserved for its location or company, so
    /// a later consent gets it again. False if there is none.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn forget(&self, id: &InstallationId) -> Result<bool, WriteError> {
        for _ in 0..MAX_SWAP_ATTEMPTS {
            let loaded = self.backend.load(id).await?;
            let Some(current) = parse(id, &loaded)? else {
                return Ok(false);
            };
            let app = current.access.app.clone();
            self.release_external_id(&app, current.customer.external_id.as_ref(), id)
                .await?;
            let removal = removal(&current, loaded.revision());
            if self.backend.remove(removal).await? {
                return Ok(true);
            }
        }
        Err(WriteError::Contended(id.clone()))
    }
}

fn removal(current: &Installation, expected: Vec<u8>) -> Removal {
    let invalidation = Invalidation::Installation {
        id: current.id.clone(),
        generation: current.access.generation.next(),
    };
    Removal {
        id: current.id.clone(),
        expected,
        app: current.access.app.clone(),
        families: current.families(),
        announce: invalidation.to_message(),
    }
}
