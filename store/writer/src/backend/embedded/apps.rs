//! Apps, and the installations of locations and companies under each.

use redb::{ReadableTable, WriteTransaction};
use store::record::Fields;
use store::{AppName, Timestamp, keys};

use super::EmbeddedBackend;
use super::tables::{HASHES, NEVER, STRINGS};
use crate::backend::Schedule;

/// The installations of a location or company, by the name of the app.
pub(super) fn installations(store: &EmbeddedBackend, name: &str) -> Result<Fields, redb::Error> {
    let mut found = store.hash(&keys::location_by_app(name))?;
    if let Some(id) = store.string(&keys::location(name))? {
        found.set(AppName::DEFAULT, id);
    }
    Ok(found)
}

/// The installation of a location or company under an app. Stores `id` if there is none.
pub(super) fn installation(
    store: &WriteTransaction,
    app: &AppName,
    name: &str,
    id: &str,
) -> Result<String, redb::Error> {
    if !app.is_default() {
        let key = keys::location_by_app(name);
        return get_or_insert(store, (&key, app.as_str()), id);
    }
    let key = keys::location(name);
    let mut strings = store.open_table(STRINGS)?;
    if let Some(earlier) = strings.get(key.as_str())? {
        return Ok(earlier.value().0.to_owned());
    }
    strings.insert(key.as_str(), (id, NEVER))?;
    Ok(id.to_owned())
}

/// See [`Backend::count_due`](crate::backend::Backend::count_due).
pub(super) fn count_due(
    store: &EmbeddedBackend,
    app: &AppName,
    by: Timestamp,
) -> Result<u64, redb::Error> {
    let mut due = 0;
    for (partition, schedule) in
        (0..=u8::MAX).flat_map(|partition| Schedule::ALL.map(|schedule| (partition, schedule)))
    {
        let all = store.sorted(&schedule.key(partition, app), usize::MAX)?;
        due += all.iter().filter(|(at, _)| *at <= by.as_millis()).count() as u64;
    }
    Ok(due)
}

/// The value of a field of a hash. Stores `value` if there is none.
pub(super) fn get_or_insert(
    store: &WriteTransaction,
    field: (&str, &str),
    value: &str,
) -> Result<String, redb::Error> {
    let mut hashes = store.open_table(HASHES)?;
    if let Some(held) = hashes.get(field)? {
        return Ok(String::from_utf8_lossy(held.value()).into_owned());
    }
    hashes.insert(field, value.as_bytes())?;
    Ok(value.to_owned())
}
