//! The index of names, and the end of a record.

use store::record::Fields;
use store::{AppName, InstallationId, Invalidation, keys};

use super::{RedisBackend, apps};
use crate::backend::index::{IndexBackend, Removal};
use crate::backend::{BackendFuture, Schedule};

impl IndexBackend for RedisBackend {
    fn location<'a>(&'a self, name: &'a str) -> BackendFuture<'a, Fields> {
        Box::pin(apps::installations(self, name))
    }

    fn get_or_insert_location<'a>(
        &'a self,
        app: &'a AppName,
        name: &'a str,
        id: &'a InstallationId,
    ) -> BackendFuture<'a, String> {
        Box::pin(apps::installation(self, app, name, id))
    }

    fn replace_location<'a>(
        &'a self,
        app: &'a AppName,
        name: &'a str,
        expected: &'a InstallationId,
        next: Option<&'a InstallationId>,
    ) -> BackendFuture<'a, bool> {
        Box::pin(async move {
            let (key, field) = match app.is_default() {
                true => (keys::location(name), ""),
                false => (keys::location_by_app(name), app.as_str()),
            };
            let mut call = self.rename.call([key]);
            call.arg(field).arg(expected.as_str());
            call.arg(next.map(InstallationId::as_str).unwrap_or_default());
            let message = Invalidation::Name(name.to_owned()).to_message();
            call.arg(self.client.names().invalidations())
                .arg(message.unwrap_or_default());
            self.run(|redis| call.run(redis)).await
        })
    }

    fn remove(&self, removal: Removal) -> BackendFuture<'_, bool> {
        Box::pin(async move {
            let partition = removal.id.partition();
            let mut removed = vec![keys::access(&removal.id), keys::refresh(&removal.id)];
            removed.extend(Schedule::ALL.map(|it| it.key(partition, &removal.app)));
            removed.push(keys::expiry(partition));
            let families = removal.families.iter();
            removed.extend(families.map(|family| keys::family(partition, family)));
            let mut call = self.remove.call(removed);
            call.arg(removal.id.as_str()).arg(&removal.expected);
            call.arg(self.client.names().invalidations());
            call.arg(removal.announce.as_deref().unwrap_or_default());
            self.run(|redis| call.run(redis)).await
        })
    }
}
