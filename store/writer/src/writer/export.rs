//! Export: the tokens of installations, opened. Only for an operator who moves to another system.

use secrecy::SecretString;
use store::record::Unreadable;
use store::{InstallationId, Status};

use super::{Listed, StoreWriter, WriteError};
use crate::installation::{Installation, refresh_label};
use crate::protocol;

/// An entry of an export.
#[derive(Debug)]
pub enum Exported {
    /// An installation with a refresh token that works, as far as evergreen knows.
    Tokens(Box<ExportedTokens>),
    /// An installation that is left out.
    LeftOut(InstallationId, LeftOut),
}

/// Why an installation is not exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// The row of its agency is enough: its tokens are minted.
    OfAgency {
        /// Whether it has an external id or tags, which no row holds.
        is_named: bool,
    },
    /// Its refresh token does not work, and the customer has to consent again.
    Ended,
    /// It has a token that a person made, and that is never refreshed.
    Static,
    /// Its record cannot be read, or not with the keys of this broker.
    Unreadable,
}

/// An installation and its tokens.
#[derive(Debug)]
pub struct ExportedTokens {
    /// The record.
    pub installation: Installation,
    /// The access token. It may have expired.
    pub access_token: SecretString,
    /// The refresh token.
    pub refresh_token: SecretString,
}

impl Exported {
    /// The installation.
    #[must_use]
    pub fn id(&self) -> &InstallationId {
        match self {
            Self::Tokens(tokens) => &tokens.installation.id,
            Self::LeftOut(id, _) => id,
        }
    }
}

impl StoreWriter {
    /// As [`StoreWriter::list`], with the tokens.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn export(
        &self,
        after: Option<&InstallationId>,
        limit: usize,
    ) -> Result<Vec<Exported>, WriteError> {
        let listed = self.list(after, limit).await?;
        let mut exported = Vec::with_capacity(listed.len());
        for entry in listed {
            exported.push(match entry {
                Listed::Readable(known) => self.export_one(known.installation).await?,
                Listed::Unreadable { id, .. } => Exported::LeftOut(id, LeftOut::Unreadable),
            });
        }
        Ok(exported)
    }

    async fn export_one(&self, installation: Installation) -> Result<Exported, WriteError> {
        let left_out = match installation.access.status {
            Status::Active | Status::Paused if self.has_live_agency(&installation).await? => {
                let is_named = !installation.customer.is_empty();
                Some(LeftOut::OfAgency { is_named })
            }
            Status::Active | Status::Paused => None,
            Status::Invalid | Status::Revoked => Some(LeftOut::Ended),
            Status::Static => Some(LeftOut::Static),
        };
        let id = installation.id.clone();
        if let Some(why) = left_out {
            return Ok(Exported::LeftOut(id, why));
        }
        Ok(match self.opened(installation) {
            Ok(Some(tokens)) => Exported::Tokens(Box::new(tokens)),
            Ok(None) => Exported::LeftOut(id, LeftOut::Ended),
            Err(_) => Exported::LeftOut(id, LeftOut::Unreadable),
        })
    }

    async fn has_live_agency(&self, installation: &Installation) -> Result<bool, WriteError> {
        let Some(parent) = &installation.access.parent else {
            return Ok(false);
        };
        match self.load(parent).await {
            Ok(agency) => Ok(agency.is_some_and(|agency| protocol::mints(&agency.installation))),
            Err(WriteError::Unreadable { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `None` if it has no refresh token.
    fn opened(&self, installation: Installation) -> Result<Option<ExportedTokens>, Unreadable> {
        let Some(chain) = &installation.chain else {
            return Ok(None);
        };
        let label = refresh_label(&installation.id, installation.access.generation);
        let refresh_token = self.rings.refresh.open_token(label, &chain.refresh_token)?;
        let access = installation.access.clone();
        let access = access.open(&installation.id, &self.rings.access)?;
        Ok(Some(ExportedTokens {
            access_token: access.token,
            refresh_token,
            installation,
        }))
    }
}
