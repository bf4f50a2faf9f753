//! Authentication of a gateway's refresh requests to a broker, without a further secret.
//!
//! Both sides have the access ring. The request carries a MAC over the installation and the generation. A
//! recorded request can only repeat a refresh that has already happened.

use crate::id::{Generation, InstallationId};
use crate::seal::KeyRing;

const SCHEME: &str = "Evergreen ";

/// The `Authorization` value of a request to refresh `id` unless its generation is above `generation`.
#[must_use]
pub fn sign(ring: &KeyRing, id: &InstallationId, generation: Generation) -> String {
    format!("{SCHEME}{}", ring.sign(&message(id, generation)))
}

/// Whether [`sign`] made `authorization` with a key of this ring.
#[must_use]
pub fn verify(
    ring: &KeyRing,
    authorization: &str,
    id: &InstallationId,
    generation: Generation,
) -> bool {
    authorization
        .strip_prefix(SCHEME)
        .is_some_and(|signature| ring.verify(&message(id, generation), signature))
}

fn message(id: &InstallationId, generation: Generation) -> String {
    format!("refresh {id} {generation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_is_valid_for_one_ring_installation_and_generation() {
        let ring = KeyRing::generate("a");
        let id = InstallationId::random();
        let pass = sign(&ring, &id, Generation::FIRST);
        assert!(verify(&ring, &pass, &id, Generation::FIRST));
        assert!(!verify(&ring, &pass, &id, Generation::FIRST.next()));
        let other = InstallationId::random();
        assert!(!verify(&ring, &pass, &other, Generation::FIRST));
        let stranger = KeyRing::generate("a");
        assert!(!verify(&stranger, &pass, &id, Generation::FIRST));
        assert!(!verify(&ring, "Evergreen a:zz", &id, Generation::FIRST));
        assert!(!verify(&ring, "", &id, Generation::FIRST));
    }
}
