//! Authentication of a gateway's question for the installation of a location, without a further secret.
//!
//! As in [`crate::refresh_request_mac`], both sides have the access ring. A recorded question can only be asked again, and
//! brokers limit how often they ask GHL.

use crate::app::AppName;
use crate::id::{InstallationId, LocationId};
use crate::seal::KeyRing;

const SCHEME: &str = "Evergreen ";

/// A question for the installation of a location.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The location.
    pub location: &'a LocationId,
    /// The agencies that may have it. All if there is none.
    pub agencies: &'a [InstallationId],
    /// The app whose agencies may have it. `None`: any.
    pub app: Option<&'a AppName>,
}

/// The `Authorization` value of a question.
#[must_use]
pub fn sign(ring: &KeyRing, question: &Question<'_>) -> String {
    format!("{SCHEME}{}", ring.sign(&message(question)))
}

/// Whether [`sign`] made `authorization` with a key of this ring.
#[must_use]
pub fn verify(ring: &KeyRing, authorization: &str, question: &Question<'_>) -> bool {
    authorization
        .strip_prefix(SCHEME)
        .is_some_and(|signature| ring.verify(&message(question), signature))
}

fn message(question: &Question<'_>) -> String {
    let Question {
        location,
        agencies,
        app,
    } = question;
    let question = format!("lookup {location} {}", join(agencies));
    // Older builds ask without an app.
    match app {
        Some(app) => format!("{question} {app}"),
        None => question,
    }
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
    fn mac_is_valid_for_one_ring_and_question() {
        let ring = KeyRing::generate("a");
        let (location, other): (LocationId, LocationId) =
            ("L".parse().unwrap(), "M".parse().unwrap());
        let agencies = [InstallationId::random()];
        let app = AppName::default();
        let question = Question {
            location: &location,
            agencies: &agencies,
            app: None,
        };
        let pass = sign(&ring, &question);
        assert!(verify(&ring, &pass, &question));
        for another in [
            Question {
                agencies: &[],
                ..question
            },
            Question {
                location: &other,
                ..question
            },
            Question {
                app: Some(&app),
                ..question
            },
        ] {
            assert!(!verify(&ring, &pass, &another), "{another:?}");
        }
        // A build without apps signs the same text.
        let text = format!("lookup L {}", agencies[0]);
        assert_eq!(pass, format!("{SCHEME}{}", ring.sign(&text)));
        let stranger = KeyRing::generate("a");
        assert!(!verify(&stranger, &pass, &question));
        assert!(!verify(&ring, "", &question));
    }
}
