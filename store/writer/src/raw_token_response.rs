//! The body of a token response that could not be used, because it could not be parsed or belongs to another
//! installation. It may contain the only successor of a spent token, so it is sealed like a token.

use secrecy::{ExposeSecret, SecretSlice};
use store::record::Unreadable;
use store::seal::{KeyRing, Label, Purpose, Sealed};
use store::{Generation, InstallationId};

/// The bytes of a response body.
#[derive(Debug, Clone)]
pub struct RawTokenResponse(SecretSlice<u8>);

impl RawTokenResponse {
    /// A response body as it arrived.
    #[must_use]
    pub fn new(body: SecretSlice<u8>) -> Self {
        Self(body)
    }

    /// Seals the body for the installation and the generation whose token was spent. It does not decrypt as a
    /// grant, and a grant does not decrypt as a body.
    #[must_use]
    pub fn seal(
        &self,
        installation: &InstallationId,
        spent_generation: Generation,
        refresh_ring: &KeyRing,
    ) -> Sealed {
        let label = label(installation, spent_generation);
        refresh_ring.seal(label, self.0.expose_secret())
    }

    /// Decrypts a body that [`RawTokenResponse::seal`] sealed.
    ///
    /// # Errors
    /// When it was sealed with another ring, or for another installation or generation.
    pub fn open(
        installation: &InstallationId,
        spent_generation: Generation,
        sealed: &Sealed,
        refresh_ring: &KeyRing,
    ) -> Result<Self, Unreadable> {
        let body = refresh_ring.open(label(installation, spent_generation), sealed)?;
        Ok(Self(body.to_vec().into()))
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &SecretSlice<u8> {
        &self.0
    }
}

/// The label that a body is sealed with.
pub(crate) fn label(installation: &InstallationId, generation: Generation) -> Label<'_> {
    Label {
        purpose: Purpose::RawTokenResponse,
        installation,
        generation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Grant;

    #[test]
    fn raw_response_opens_only_under_its_own_label() {
        let (ring, id) = (KeyRing::generate("r"), InstallationId::random());
        let first = Generation::FIRST;
        let raw = RawTokenResponse::new(b"\x1f\x8bsecret".to_vec().into());
        let sealed = raw.seal(&id, first, &ring);
        let plaintext = RawTokenResponse::open(&id, first, &sealed, &ring).unwrap();
        assert_eq!(plaintext.body().expose_secret(), b"\x1f\x8bsecret");
        assert!(!format!("{plaintext:?}").contains("secret"));
        assert!(RawTokenResponse::open(&id, first.next(), &sealed, &ring).is_err());
        assert!(RawTokenResponse::open(&InstallationId::random(), first, &sealed, &ring).is_err());
        assert!(Grant::open(&id, first, &sealed, &ring).is_err());
    }
}
