//! The index of names, and the end of a record.

use redb::{ReadableTable, WriteTransaction};
use store::record::Fields;
use store::{AppName, InstallationId, Invalidation, keys};

use super::tables::{HASHES, NEVER, STRINGS, set_score};
use super::{EmbeddedBackend, announce, apps, unavailable};
use crate::backend::index::{IndexBackend, Removal};
use crate::backend::{BackendFuture, REVISION, Schedule};

impl IndexBackend for EmbeddedBackend {
    fn location<'a>(&'a self, name: &'a str) -> BackendFuture<'a, Fields> {
        Box::pin(async move { apps::installations(self, name).map_err(unavailable) })
    }

    fn get_or_insert_location<'a>(
        &'a self,
        app: &'a AppName,
        name: &'a str,
        id: &'a InstallationId,
    ) -> BackendFuture<'a, String> {
        let (app, name, id) = (app.clone(), name.to_owned(), id.to_string());
        Box::pin(self.write(move |store| apps::installation(store, &app, &name, &id)))
    }

    fn replace_location<'a>(
        &'a self,
        app: &'a AppName,
        name: &'a str,
        expected: &'a InstallationId,
        next: Option<&'a InstallationId>,
    ) -> BackendFuture<'a, bool> {
        let (app, name, expected) = (app.clone(), name.to_owned(), expected.clone());
        let next = next.cloned();
        Box::pin(async move {
            let changed = name.clone();
            let is_renamed =
                self.write(move |store| rename(store, &app, &name, &expected, next.as_ref()));
            let is_renamed = is_renamed.await?;
            if is_renamed {
                announce(&self.invalidations, Invalidation::Name(changed));
            }
            Ok(is_renamed)
        })
    }

    fn remove(&self, removal: Removal) -> BackendFuture<'_, bool> {
        Box::pin(async move {
            let invalidation = removal.announce.as_deref().map(Invalidation::from_message);
            let is_removed = self.write(move |store| remove(store, &removal)).await?;
            if let (true, Some(invalidation)) = (is_removed, invalidation) {
                announce(&self.invalidations, invalidation);
            }
            Ok(is_removed)
        })
    }
}

fn rename(
    store: &WriteTransaction,
    app: &AppName,
    name: &str,
    expected: &InstallationId,
    next: Option<&InstallationId>,
) -> Result<bool, redb::Error> {
    if app.is_default() {
        let mut strings = store.open_table(STRINGS)?;
        let key = keys::location(name);
        let held = strings.get(key.as_str())?;
        if held.is_none_or(|held| held.value().0 != expected.as_str()) {
            return Ok(false);
        }
        match next {
            Some(next) => strings.insert(key.as_str(), (next.as_str(), NEVER))?,
            None => strings.remove(key.as_str())?,
        };
        return Ok(true);
    }
    let mut hashes = store.open_table(HASHES)?;
    let key = keys::location_by_app(name);
    let field = (key.as_str(), app.as_str());
    let held = hashes.get(field)?;
    if held.is_none_or(|held| held.value() != expected.as_str().as_bytes()) {
        return Ok(false);
    }
    match next {
        Some(next) => hashes.insert(field, next.as_str().as_bytes())?,
        None => hashes.remove(field)?,
    };
    Ok(true)
}

fn remove(store: &WriteTransaction, removal: &Removal) -> Result<bool, redb::Error> {
    let (id, partition) = (removal.id.as_str(), removal.id.partition());
    let halves = [keys::access(&removal.id), keys::refresh(&removal.id)];
    {
        let mut hashes = store.open_table(HASHES)?;
        let revision = hashes.get((halves[1].as_str(), REVISION))?;
        let revision = revision.map(|revision| revision.value().to_vec());
        if revision.unwrap_or_default() != removal.expected {
            return Ok(false);
        }
        for half in &halves {
            let half = half.as_str();
            hashes.retain_in((half, "")..(half, "\u{10ffff}"), |_, _| false)?;
        }
        for family in &removal.families {
            hashes.remove((keys::family(partition, family).as_str(), id))?;
        }
    }
    for schedule in Schedule::ALL {
        set_score(store, &schedule.key(partition, &removal.app), id, None)?;
    }
    set_score(store, &keys::expiry(partition), id, None)?;
    Ok(true)
}
