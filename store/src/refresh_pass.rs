//! How a gateway shows a broker that it may ask for a refresh, without one more secret to hand out.
//!
//! Both hold the access ring. The pass is a MAC over the installation and the generation: whoever
//! records it can only ask once more for a refresh that has already happened.

use crate::id::{Generation, InstallationId};
use crate::seal::KeyRing;

const SCHEME: &str = "Evergreen ";

/// The `Authorization` value of a request to refresh `id` unless it is already past `generation`.
#[must_use]
pub fn sign(ring: &KeyRing, id: &InstallationId, generation: Generation) -> String {
    format!("{SCHEME}{}", ring.sign(&message(id, generation)))
}

/// Whether `authorization` was made by [`sign`] with a key of this ring.
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
    fn a_pass_opens_one_door() {
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
