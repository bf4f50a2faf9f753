//! Which installations are wanted. It is pure.

use store::InstallationId;
use store_writer::installation::Installation;
use store_writer::writer::{KnownApps, Listed};

use crate::api::status::TokenStatus;

/// Each filter that is there must be met.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) company: Option<String>,
    pub(crate) app: Option<String>,
    pub(crate) status: Option<TokenStatus>,
    pub(crate) tag: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) external_id: Option<String>,
}

impl Filter {
    /// Whether it is one of these. A record that cannot be read belongs to nobody. `known`: the apps of this broker.
    pub(super) fn matches(
        &self,
        listed: &Listed,
        parent: Option<&InstallationId>,
        known: &KnownApps,
    ) -> bool {
        let Listed::Readable(snapshot) = listed else {
            let texts = [
                &self.company,
                &self.app,
                &self.tag,
                &self.location,
                &self.external_id,
            ];
            let is_unfiltered = texts.iter().all(|text| text.is_none()) && parent.is_none();
            let is_status = |status| status == TokenStatus::Unreadable;
            return is_unfiltered && self.status.is_none_or(is_status);
        };
        let Installation {
            access, customer, ..
        } = &snapshot.installation;
        let is = |wanted: &Option<String>, held: Option<&str>| {
            wanted.as_deref().is_none_or(|it| held == Some(it))
        };
        let has_tag = |wanted: &String| customer.tags.iter().any(|tag| tag.as_str() == *wanted);
        parent.is_none_or(|parent| access.parent.as_ref() == Some(parent))
            && is(&self.company, access.company.as_ref().map(|it| it.as_str()))
            && is(&self.app, Some(access.app.as_str()))
            && is(
                &self.location,
                access.location.as_ref().map(|it| it.as_str()),
            )
            && is(
                &self.external_id,
                customer.external_id.as_ref().map(|it| it.as_str()),
            )
            && self.tag.as_ref().is_none_or(has_tag)
            && self
                .status
                .is_none_or(|status| TokenStatus::of(snapshot, known) == status)
    }
}

/// A text that is looked for in ids, tags and names, in any case.
pub(super) struct Needle(String);

impl Needle {
    pub(super) fn new(text: &str) -> Self {
        Self(text.trim().to_lowercase())
    }

    pub(super) fn is_in(&self, listed: &Listed) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.0);
        let Listed::Readable(snapshot) = listed else {
            return has(listed.id().as_str());
        };
        let Installation {
            id,
            access,
            customer,
            details,
            ..
        } = &snapshot.installation;
        let name = details
            .as_ref()
            .and_then(|details| details.facts.get("companyName"));
        has(id.as_str())
            || access.location.as_ref().is_some_and(|it| has(it.as_str()))
            || access.company.as_ref().is_some_and(|it| has(it.as_str()))
            || customer
                .external_id
                .as_ref()
                .is_some_and(|it| has(it.as_str()))
            || customer.tags.iter().any(|tag| has(tag.as_str()))
            || name.is_some_and(|name| has(name))
    }
}
