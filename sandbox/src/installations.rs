//! Where each app is installed: the locations of a bulk consent, and what happens to them later.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::apps::app_id;
use crate::directory::Location;
use crate::token::{GrantId, Identity};

/// The installations of all apps.
#[derive(Debug, Default)]
pub(crate) struct Installations {
    companies: HashMap<Arc<str>, HashMap<Box<str>, CompanyInstallation>>,
}

/// The installations of one app on the locations of one company.
#[derive(Debug, Default)]
pub(crate) struct CompanyInstallation {
    /// The latest bulk consent. `None` if only single locations have consented.
    pub(crate) agency: Option<AgencyConsent>,
    /// When the app was installed on a location, by the position of the location in its company.
    pub(crate) installed: BTreeMap<usize, u64>,
}

/// The consent of an agency user.
#[derive(Clone, Debug)]
pub(crate) struct AgencyConsent {
    pub(crate) client: Arc<str>,
    /// The grant of this consent. It names the user.
    pub(crate) grant: GrantId,
    pub(crate) is_for_all_locations: bool,
    pub(crate) installs_to_future_locations: bool,
}

impl Installations {
    /// Installs the app on a location.
    pub(crate) fn install(&mut self, client: &str, location: &Location, now_ms: u64) {
        self.open(app_id(client), &location.company)
            .installed
            .entry(location.index)
            .or_insert(now_ms);
    }

    /// Records the consent of an agency user. Installed locations stay installed.
    pub(crate) fn consent(&mut self, company: &Arc<str>, consent: AgencyConsent) {
        let client = consent.client.clone();
        self.open(app_id(&client), company).agency = Some(consent);
    }

    pub(crate) fn of(&self, app: &str, company: &str) -> Option<&CompanyInstallation> {
        self.companies.get(company)?.get(app)
    }

    /// The latest consent of an agency user for this app.
    pub(crate) fn agency(&self, app: &str, company: &str) -> Option<&AgencyConsent> {
        self.of(app, company)?.agency.as_ref()
    }

    /// When the app was installed on this location, if it is.
    pub(crate) fn installed_ms(&self, app: &str, location: &Location) -> Option<u64> {
        let company = self.of(app, &location.company)?;
        company.installed.get(&location.index).copied()
    }

    /// Whether the location had the app.
    pub(crate) fn uninstall(&mut self, app: &str, location: &Location) -> bool {
        self.companies
            .get_mut(&location.company)
            .and_then(|apps| apps.get_mut(app))
            .is_some_and(|company| company.installed.remove(&location.index).is_some())
    }

    /// Ends the agency's consent and removes the app from all its locations.
    pub(crate) fn uninstall_company(&mut self, app: &str, company: &str) {
        if let Some(apps) = self.companies.get_mut(company) {
            apps.remove(app);
        }
    }

    /// Restores the consent that a valid token of an agency proves, because a restarted sandbox has lost it.
    /// The app then counts as installed on the first `locations` locations.
    pub(crate) fn restore(&mut self, identity: &Identity, locations: usize, now_ms: u64) {
        let company = self.open(identity.app(), identity.subject.company());
        if company.agency.is_some() {
            return;
        }
        company.agency = Some(AgencyConsent {
            client: identity.client.clone(),
            grant: identity.grant,
            is_for_all_locations: true,
            installs_to_future_locations: true,
        });
        for index in 0..locations {
            company.installed.entry(index).or_insert(now_ms);
        }
    }

    /// Installs each app on a new location whose agency consented for future locations. Returns these
    /// consents.
    pub(crate) fn add_location(&mut self, location: &Location, now_ms: u64) -> Vec<AgencyConsent> {
        let Some(apps) = self.companies.get_mut(&location.company) else {
            return Vec::new();
        };
        let mut consents = Vec::new();
        for company in apps.values_mut() {
            if let Some(agency) = &company.agency
                && agency.installs_to_future_locations
            {
                company.installed.insert(location.index, now_ms);
                consents.push(agency.clone());
            }
        }
        consents
    }

    fn open(&mut self, app: &str, company: &Arc<str>) -> &mut CompanyInstallation {
        self.companies
            .entry(company.clone())
            .or_default()
            .entry(app.into())
            .or_default()
    }
}
