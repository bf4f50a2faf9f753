//! The choice on the consent page: one location, or locations of an agency.

use std::sync::Arc;

use crate::app::World;
use crate::directory::COMPANY;
use crate::fields::Fields;
use crate::installations::AgencyConsent;
use crate::subject::{Subject, is_id};
use crate::token::Identity;

/// The locations or the agency that the app is installed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Location {
        location: Arc<str>,
        company: Arc<str>,
    },
    Bulk {
        company: Arc<str>,
        /// The chosen locations. `None` for all locations.
        locations: Option<Vec<Arc<str>>>,
        installs_to_future_locations: bool,
    },
}

impl Choice {
    /// Reads the choice. Any valid id is accepted, and unknown ones are created.
    pub(super) fn read(fields: &Fields) -> Result<Self, &'static str> {
        let company = fields.get("companyId");
        if !company.is_none_or(is_id) {
            return Err("companyId is not an id");
        }
        match (fields.get("locationId"), company) {
            (Some(location), _) if !is_id(location) => Err("locationId is not an id"),
            (Some(location), company) => Ok(Self::Location {
                location: location.into(),
                company: company.unwrap_or(COMPANY).into(),
            }),
            (None, Some(company)) => Self::bulk(company, fields),
            (None, None) => Err("locationId or companyId is needed"),
        }
    }

    fn bulk(company: &str, fields: &Fields) -> Result<Self, &'static str> {
        let flag = |name, default| {
            let flag = fields.flag(name, default);
            flag.map_err(|_| "all and future must be true or false")
        };
        let listed = fields.list("locations");
        let locations = if flag("all", listed.is_none())? {
            None
        } else {
            let listed = listed.unwrap_or_default();
            if listed.is_empty() {
                return Err("locations must name at least one location");
            }
            if !listed.iter().all(|id| is_id(id)) {
                return Err("locations must be ids");
            }
            Some(listed.into_iter().map(Arc::from).collect())
        };
        Ok(Self::Bulk {
            company: company.into(),
            locations,
            installs_to_future_locations: flag("future", true)?,
        })
    }

    /// Creates what is unknown. Fails if a chosen location belongs to another company.
    pub(super) fn open(&mut self, world: &mut World) -> Result<(), &'static str> {
        let directory = &mut world.directory;
        match self {
            Self::Location { location, company } => {
                // An existing location stays with its company.
                *company = directory.open(location, company).company.clone();
            }
            Self::Bulk {
                company, locations, ..
            } => {
                let is_foreign = |id: &Arc<str>| {
                    let location = directory.get(id);
                    location.is_some_and(|location| location.company != *company)
                };
                if locations.iter().flatten().any(is_foreign) {
                    return Err("locations must belong to the company");
                }
                directory.open_company(company, None);
                for id in locations.iter().flatten() {
                    directory.open(id, company);
                }
            }
        }
        Ok(())
    }

    pub(super) fn subject(&self) -> Subject {
        match self {
            Self::Location { location, company } => Subject::Location {
                location: location.clone(),
                company: company.clone(),
            },
            Self::Bulk { company, .. } => Subject::Company {
                company: company.clone(),
            },
        }
    }

    /// Installs the app as chosen. Returns what it was installed on: the company, and each location.
    pub(super) fn install(
        &self,
        world: &mut World,
        identity: &Identity,
        now_ms: u64,
    ) -> Vec<Subject> {
        let World {
            directory,
            installations,
            ..
        } = world;
        let mut installed = vec![self.subject()];
        match self {
            Self::Location { location, .. } => {
                if let Some(location) = directory.get(location) {
                    installations.install(&identity.client, location, now_ms);
                }
            }
            Self::Bulk {
                company,
                locations,
                installs_to_future_locations,
            } => {
                let consent = AgencyConsent {
                    client: identity.client.clone(),
                    grant: identity.grant,
                    is_for_all_locations: locations.is_none(),
                    installs_to_future_locations: *installs_to_future_locations,
                };
                installations.consent(company, consent);
                let mut install = |location: &crate::directory::Location| {
                    installations.install(&identity.client, location, now_ms);
                    installed.push(location.subject());
                };
                match locations {
                    None => directory.of_company(company).for_each(&mut install),
                    Some(ids) => ids
                        .iter()
                        .filter_map(|id| directory.get(id))
                        .for_each(&mut install),
                }
            }
        }
        installed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &str) -> Result<Choice, &'static str> {
        Choice::read(&Fields::urlencoded(form.as_bytes()))
    }

    fn bulk(locations: Option<&[&str]>, future: bool) -> Choice {
        Choice::Bulk {
            company: "c".into(),
            locations: locations.map(|ids| ids.iter().map(|id| Arc::from(*id)).collect()),
            installs_to_future_locations: future,
        }
    }

    #[test]
    fn locations_are_repeated_or_separated_by_commas() {
        for (form, expected) in [
            ("companyId=c", bulk(None, true)),
            ("companyId=c&future=false", bulk(None, false)),
            (
                "companyId=c&locations=a&locations=b,%20d",
                bulk(Some(&["a", "b", "d"]), true),
            ),
            ("companyId=c&locations=a&all=true", bulk(None, true)),
            // The page sends "false" before each ticked box.
            (
                "companyId=c&locations=a&future=false&future=true",
                bulk(Some(&["a"]), true),
            ),
        ] {
            assert_eq!(read(form), Ok(expected), "{form}");
        }
    }

    #[test]
    fn unusable_choices_are_refused() {
        for form in [
            "companyId=c&locations=",
            "companyId=c&all=false",
            "companyId=c&locations=a%20b",
            "companyId=c&future=maybe",
        ] {
            assert!(read(form).is_err(), "{form}");
        }
    }
}
