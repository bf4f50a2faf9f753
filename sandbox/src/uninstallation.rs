//! Uninstalling an app from a location or from a company.

use std::sync::Arc;

use crate::app::{App, World};
use crate::apps::app_id;
use crate::subject::Subject;
use crate::webhooks::{Event, Kind};

impl App {
    /// Ends the installation and its tokens, and sends the webhook. A company's end also ends all its
    /// locations. Returns the number of grants that ended.
    pub(crate) fn uninstall(self: &Arc<Self>, client: &Arc<str>, subject: Subject) -> usize {
        let app = app_id(client);
        let serial = self.ids.serial();
        let ended = {
            let mut world = self.world();
            let World {
                grants,
                directory,
                installations,
                ..
            } = &mut *world;
            grants.forget_codes(app, subject.id());
            match &subject {
                Subject::Location { location, .. } => {
                    if let Some(location) = directory.get(location) {
                        installations.uninstall(app, location);
                    }
                    grants.revoke(app, location, serial)
                }
                Subject::Company { company } => {
                    installations.uninstall_company(app, company);
                    let locations = directory.of_company(company);
                    let locations = locations.map(|location| &*location.id);
                    grants.revoke_with_locations(app, company, locations, serial)
                }
            }
        };
        self.announce(vec![Event::new(Kind::Uninstall, client.clone(), subject)]);
        ended
    }
}
