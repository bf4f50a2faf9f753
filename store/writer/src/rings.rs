//! The two key rings of a broker.

use std::sync::Arc;

use secrecy::SecretString;
use store::key_list::RingKind;
use store::record::access_label;
use store::seal::{KeyRing, Label, Sealed};
use store::{Generation, InstallationId};

/// The two key rings of a broker. Gateways have the access ring only.
#[derive(Debug, Clone)]
pub struct Rings {
    /// Encrypts access tokens.
    pub access: Arc<KeyRing>,
    /// Encrypts refresh tokens and GHL's responses.
    pub refresh: Arc<KeyRing>,
}

impl Rings {
    /// The ring of this kind.
    #[must_use]
    pub fn of(&self, kind: RingKind) -> &KeyRing {
        match kind {
            RingKind::Access => &self.access,
            RingKind::Refresh => &self.refresh,
        }
    }

    pub(crate) fn seal_access(
        &self,
        id: &InstallationId,
        generation: Generation,
        token: &SecretString,
    ) -> Sealed {
        self.access.seal_token(access_label(id, generation), token)
    }

    pub(crate) fn seal_refresh(&self, label: Label<'_>, token: &SecretString) -> Sealed {
        self.refresh.seal_token(label, token)
    }
}
