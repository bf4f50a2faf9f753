//! Authentication of a gateway's question for the installation of a location, without a further secret.
//!
//! As in [`crate::refresh_request_mac`], both sides have the access ring. A recorded question can only be asked again, and
//! brokers limit how often they ask GHL.

use crate::id::{InstallationId, LocationId};
use crate::seal::KeyRing;

const SCHEME: &str = "Evergreen ";

/// The `Authorization` value of a question for the installation of `location`. `agencies`: those that may have it, or all
/// if there is none.
#[must_use]
pub fn sign(ring: &KeyRing, location: &LocationId, agencies: &[InstallationId]) -> String {
    format!("{SCHEME}{}", ring.sign(&message(location, agencies)))
}

/// Whether [`sign`] made `authorization` with a key of this ring.
#[must_use]
pub fn verify(
    ring: &KeyRing,
    authorization: &str,
    location: &LocationId,
    agencies: &[InstallationId],
) -> bool {
    authorization
        .strip_prefix(SCHEME)
        .is_some_and(|signature| ring.verify(&message(location, agencies), signature))
}

fn message(location: &LocationId, agencies: &[InstallationId]) -> String {
    format!("lookup {location} {}", join(agencies))
}

/// The agencies as they are in the request, separated by commas.
#[must_use]
pub fn join(agencies: &[InstallationId]) -> String {
    let agencies: Vec<&str> = agencies.iter().map(InstallationId::as_str).collect();
    agencies.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_is_valid_for_one_ring_location_and_choice_of_agencies() {
        let ring = KeyRing::generate("a");
        let location: LocationId = "L".parse().unwrap();
        let agencies = [InstallationId::random()];
        let pass = sign(&ring, &location, &agencies);
        assert!(verify(&ring, &pass, &location, &agencies));
        assert!(!verify(&ring, &pass, &location, &[]));
        assert!(!verify(&ring, &pass, &"M".parse().unwrap(), &agencies));
        let stranger = KeyRing::generate("a");
        assert!(!verify(&stranger, &pass, &location, &agencies));
        assert!(!verify(&ring, "", &location, &agencies));
    }
}
