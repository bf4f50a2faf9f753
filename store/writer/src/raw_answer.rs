//! An answer of GHL as it arrived, kept because it could not be used: it could not be read, or was
//! somebody else's. It may hold the only successor of a spent token, so it is sealed like one.

use secrecy::{ExposeSecret, SecretSlice};
use store::record::Unreadable;
use store::seal::{KeyRing, Label, Purpose, Sealed};
use store::{Generation, InstallationId};

/// The bytes of an answer's body.
#[derive(Debug, Clone)]
pub struct RawAnswer(SecretSlice<u8>);

impl RawAnswer {
    #[must_use]
    pub fn new(body: SecretSlice<u8>) -> Self {
        Self(body)
    }

    /// Sealed for the installation and the generation whose token was spent. What is sealed here
    /// does not open as a grant, nor a grant here.
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

    /// The body, for whoever can read it.
    #[must_use]
    pub fn body(&self) -> &SecretSlice<u8> {
        &self.0
    }
}

fn label(installation: &InstallationId, generation: Generation) -> Label<'_> {
    Label {
        purpose: Purpose::RawAnswer,
        installation,
        generation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Grant;

    #[test]
    fn a_raw_answer_opens_only_as_what_it_is_and_where_it_belongs() {
        let (ring, id) = (KeyRing::generate("r"), InstallationId::random());
        let first = Generation::FIRST;
        let raw = RawAnswer::new(b"\x1f\x8bsecret".to_vec().into());
        let sealed = raw.seal(&id, first, &ring);
        let opened = RawAnswer::open(&id, first, &sealed, &ring).unwrap();
        assert_eq!(opened.body().expose_secret(), b"\x1f\x8bsecret");
        assert!(!format!("{opened:?}").contains("secret"));
        assert!(RawAnswer::open(&id, first.next(), &sealed, &ring).is_err());
        assert!(RawAnswer::open(&InstallationId::random(), first, &sealed, &ring).is_err());
        assert!(Grant::open(&id, first, &sealed, &ring).is_err());
    }
}
