//! The outcome of a consent, for the customer's browser and the caller's product.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use store::{AppName, CompanyId, ExternalId, InstallationId, KeyRing, LocationId, consent_state};
use url::Url;

use crate::api::error::{Error, ErrorKind};

/// How a consent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Connected,
    /// The customer did not allow it.
    Denied,
    Error,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Denied => "denied",
            Self::Error => "error",
        }
    }
}

/// The outcome. It has no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    pub(crate) app: AppName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) installation_id: Option<InstallationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) location_id: Option<LocationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) company_id: Option<CompanyId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) external_id: Option<ExternalId>,
    /// The code of an error of `docs/errors.md`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// Whether the customer can begin again with the public link.
    #[serde(default)]
    pub(crate) may_begin_again: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) return_to: Option<Url>,
}

impl Outcome {
    /// Of a consent that has failed.
    pub(crate) fn of_error(app: AppName, error: &Error) -> Self {
        let status = match error.kind {
            ErrorKind::ConsentDenied => Status::Denied,
            _ => Status::Error,
        };
        Self {
            status,
            app,
            installation_id: None,
            location_id: None,
            company_id: None,
            external_id: None,
            code: Some(error.code().to_owned()),
            may_begin_again: true,
            return_to: None,
        }
    }

    /// The caller's address with the outcome in its query; `None` if the caller gave none.
    pub(crate) fn return_url(&self) -> Option<Url> {
        let mut url = self.return_to.clone()?;
        let values = [
            ("status", Some(self.status.as_str().to_owned())),
            ("installation_id", text(self.installation_id.as_ref())),
            ("location_id", text(self.location_id.as_ref())),
            ("company_id", text(self.company_id.as_ref())),
            ("external_id", text(self.external_id.as_ref())),
            ("code", self.code.clone()),
        ];
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| values.iter().all(|(known, _)| known != name))
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let mut query = url.query_pairs_mut();
        query.clear().extend_pairs(kept);
        for (name, value) in values {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        }
        drop(query);
        Some(url)
    }

    /// The address of the page that shows it. It is signed, so that nobody shows another outcome under this host.
    pub(crate) fn page_path(&self, ring: &KeyRing) -> String {
        let shown = Self {
            return_to: None,
            ..self.clone()
        };
        let json = serde_json::to_vec(&shown).unwrap_or_default();
        let body = BASE64_URL_SAFE_NO_PAD.encode(json);
        let signature = consent_state::sign_outcome(ring, &body);
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        format!("/oauth/result/{body}.{signature}")
    }

    /// The outcome of [`Outcome::page_path`]'s last segment. `None` for any other text.
    pub(crate) fn of_page(ring: &KeyRing, segment: &str) -> Option<Self> {
        let (body, signature) = segment.split_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        let signature = std::str::from_utf8(&signature).ok()?;
        if !consent_state::verify_outcome(ring, body, signature) {
            return None;
        }
        let json = BASE64_URL_SAFE_NO_PAD.decode(body).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

fn text(value: Option<&impl ToString>) -> Option<String> {
    value.map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected() -> Outcome {
        Outcome {
            status: Status::Connected,
            installation_id: Some("install_000000000000000000000001".parse().unwrap()),
            location_id: Some("L1".parse().unwrap()),
            external_id: Some("org/7".parse().unwrap()),
            code: None,
            return_to: Some(
                "https://app.example/done?tab=2&status=forged#top"
                    .parse()
                    .unwrap(),
            ),
            ..Outcome::of_error(AppName::default(), &Error::invalid("x"))
        }
    }

    #[test]
    fn return_url_has_the_outcome_and_keeps_its_own_query() {
        assert_eq!(
            connected().return_url().unwrap().as_str(),
            "https://app.example/done?tab=2&status=connected\
             &installation_id=install_000000000000000000000001&location_id=L1&external_id=org%2F7#top"
        );
        let denied = Error::new(ErrorKind::ConsentDenied, "no");
        let mut denied = Outcome::of_error(AppName::default(), &denied);
        assert_eq!(denied.return_url(), None);
        denied.return_to = Some("https://app.example".parse().unwrap());
        assert_eq!(
            denied.return_url().unwrap().as_str(),
            "https://app.example/?status=denied&code=consent_denied"
        );
    }

    #[test]
    fn page_shows_only_what_was_signed_here() {
        let (ring, stranger) = (KeyRing::generate("a"), KeyRing::generate("a"));
        let path = connected().page_path(&ring);
        let segment = path.strip_prefix("/oauth/result/").unwrap();
        let shown = Outcome::of_page(&ring, segment).unwrap();
        assert_eq!(shown.status, Status::Connected);
        assert_eq!(shown.return_to, None);
        assert_eq!(Outcome::of_page(&stranger, segment), None);
        assert_eq!(Outcome::of_page(&ring, &segment[1..]), None);
        assert_eq!(Outcome::of_page(&ring, ""), None);
    }
}
