//! The context of a consent: the facts that its link states.

use serde::{Deserialize, Serialize};
use store::{CompanyId, Customer, ExternalId, LocationId};
use store_writer::consent::{Claim, NewCustomer};
use store_writer::grant::Registration;
use url::Url;

use super::link::Link;

/// The facts that a consent's link states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Context {
    /// Where the browser goes afterwards.
    pub(crate) return_to: Option<Url>,
    /// The caller's own data about the customer.
    pub(crate) customer: NewCustomer,
    /// The location or company that must consent.
    pub(crate) owner: Option<String>,
    /// The name of the one-time link that began it.
    pub(crate) link: Option<String>,
}

/// The part of a context that a `state` carries through GHL. The customer can read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Carried {
    /// The one-time link that began the consent. The store has the rest.
    Link { link: String },
    /// The query of the public link. Anybody can have written it.
    Public {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        return_to: Option<Url>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        external_id: Option<ExternalId>,
    },
}

impl Carried {
    /// The text in the state.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None` for a text of a newer build.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl Context {
    /// Of the public link. Its external id is what a browser says: it takes no name from an installation.
    pub(crate) fn of_public(return_to: Option<Url>, external_id: Option<ExternalId>) -> Self {
        Self {
            return_to,
            customer: NewCustomer {
                customer: Customer {
                    external_id,
                    ..Customer::default()
                },
                claim: Claim::Free,
                link: None,
            },
            ..Self::default()
        }
    }

    /// Of a one-time link with this name.
    pub(crate) fn of_link(name: String, link: Link) -> Self {
        Self {
            return_to: link.return_to,
            customer: NewCustomer {
                customer: link.customer,
                claim: link.claim,
                link: Some(name.clone()),
            },
            owner: link.owner,
            link: Some(name),
        }
    }
}

impl Context {
    /// Whether the location or company that has consented is the one that the link asked for.
    pub(crate) fn is_for(&self, consented: &Registration) -> bool {
        let location = consented.location.as_ref().map(LocationId::as_str);
        let company = consented.company.as_ref().map(CompanyId::as_str);
        let owner = self.owner.as_deref();
        owner.is_none_or(|owner| location.or(company) == Some(owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_carries_a_link_or_the_query() {
        let public = Carried::Public {
            return_to: Some("https://app.example/done".parse().unwrap()),
            external_id: Some("42".parse().unwrap()),
        };
        let link = Carried::Link {
            link: "ab".to_owned(),
        };
        for carried in [public, link] {
            assert_eq!(Carried::parse(&carried.to_text()), Some(carried));
        }
    }

    #[test]
    fn link_for_a_location_is_not_for_its_company() {
        let consented = |location: Option<&str>, company: &str| Registration {
            app: store::AppName::default(),
            client: None,
            access_token: "a".into(),
            refresh_token: None,
            expires_at: None,
            lifetime: std::time::Duration::ZERO,
            scopes: String::new(),
            user_type: store::UserType::Company,
            location: location.map(|it| it.parse().unwrap()),
            company: Some(company.parse().unwrap()),
        };
        let of = |owner: Option<&str>| Context {
            owner: owner.map(str::to_owned),
            ..Context::default()
        };
        assert!(of(None).is_for(&consented(Some("L1"), "C1")));
        assert!(of(Some("L1")).is_for(&consented(Some("L1"), "C1")));
        assert!(of(Some("C1")).is_for(&consented(None, "C1")));
        assert!(!of(Some("C1")).is_for(&consented(Some("L1"), "C1")));
        assert!(!of(Some("L1")).is_for(&consented(None, "C1")));
        assert!(!of(Some("L2")).is_for(&consented(Some("L1"), "C1")));
    }
}
