//! Events: what has happened to an installation, for the caller's product.
//!
//! An event is derived from the record before and after a write ([`change`]), and is stored in the same write. So each
//! change has one event, however often its process dies.

pub mod change;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use store::{
    AppName, CompanyId, ExternalId, InstallationId, LocationId, Status, Tag, Timestamp, random,
};

use crate::installation::Installation;

/// The types of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    /// A customer has connected for the first time.
    Connected,
    /// A customer has connected again.
    Reconnected,
    /// GHL does not accept the refresh token any more. The customer must consent again.
    NeedsConsent,
    /// The refresh token works again, without a new consent.
    Recovered,
    /// GHL reports that the location is inactive.
    Paused,
    /// The location is active again.
    Resumed,
    /// The app was uninstalled, or an operator ended the installation.
    Uninstalled,
    /// The customer has another plan of the app.
    PlanChanged,
    /// Other facts have changed, such as the version of the app, tags or the external id.
    Updated,
    /// GHL refuses the client id and secret of an app.
    CredentialsRejected,
    /// A test that an operator sent.
    Test,
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 11] = [
        Self::Connected,
        Self::Reconnected,
        Self::NeedsConsent,
        Self::Recovered,
        Self::Paused,
        Self::Resumed,
        Self::Uninstalled,
        Self::PlanChanged,
        Self::Updated,
        Self::CredentialsRejected,
        Self::Test,
    ];

    /// The name in the payload.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "installation.connected",
            Self::Reconnected => "installation.reconnected",
            Self::NeedsConsent => "installation.needs_consent",
            Self::Recovered => "installation.recovered",
            Self::Paused => "installation.paused",
            Self::Resumed => "installation.resumed",
            Self::Uninstalled => "installation.uninstalled",
            Self::PlanChanged => "installation.plan_changed",
            Self::Updated => "installation.updated",
            Self::CredentialsRejected => "app.credentials_rejected",
            Self::Test => "evergreen.test",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or(())
    }
}

/// One event, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// `evt_` and 24 hex digits.
    pub id: String,
    /// The name of an [`EventType`]. An older build may read one that it does not know.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened, in the store's time, as ISO 8601.
    pub time: String,
    /// The app that it is about.
    pub app: AppName,
    /// The installation that it is about. `None` if it is about an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<EventInstallation>,
    /// The reason, if the event is about an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The installation of an event, as it was after the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventInstallation {
    /// The id.
    pub id: InstallationId,
    /// Its location; `None` for an agency.
    pub location_id: Option<LocationId>,
    /// Its company, if it is known.
    pub company_id: Option<CompanyId>,
    /// The agency's installation, for a location whose tokens are minted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<InstallationId>,
    /// The customer's id in the caller's system.
    pub external_id: Option<ExternalId>,
    /// The caller's tags.
    pub tags: BTreeSet<Tag>,
    /// As in the record.
    pub status: Status,
    /// In words, why the installation is not active. `None` if it is.
    pub reason: Option<String>,
    /// Facts from GHL's webhooks, such as `companyName` and `planId`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl Event {
    /// An event about an installation.
    #[must_use]
    pub fn about(installation: &Installation, kind: EventType, now: Timestamp) -> Self {
        let access = &installation.access;
        let customer = installation.customer.clone();
        let reason = match access.status {
            Status::Active | Status::Static => None,
            Status::Paused | Status::Invalid | Status::Revoked => {
                let last = installation.last_error.as_ref();
                last.map(|error| error.message.clone())
            }
        };
        let facts = installation.details.as_ref();
        Self {
            installation: Some(EventInstallation {
                id: installation.id.clone(),
                location_id: access.location.clone(),
                company_id: access.company.clone(),
                parent_id: access.parent.clone(),
                external_id: customer.external_id,
                tags: customer.tags,
                status: access.status,
                reason,
                details: facts.map(|told| told.facts.clone()).unwrap_or_default(),
            }),
            ..Self::about_app(access.app.clone(), kind, None, now)
        }
    }

    /// An event about an app.
    #[must_use]
    pub fn about_app(
        app: AppName,
        kind: EventType,
        reason: Option<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            id: format!("evt_{}", random::hex::<12>()),
            kind: kind.as_str().to_owned(),
            time: now.to_string(),
            app,
            installation: None,
            reason,
        }
    }

    /// The stored form.
    ///
    /// # Panics
    /// Never. Text serializes.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("text serializes")
    }
}
