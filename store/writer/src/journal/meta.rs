//! Facts about the journal: the store that its responses are for, and the keys that they are sealed with.

use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

const META: TableDefinition<&str, &str> = TableDefinition::new("meta");

pub(super) const STORE: &str = "store";
pub(super) const SERVERS: &str = "servers";
/// The ids of the keys that answers may be sealed with, separated by spaces.
pub(super) const SEALING_KEYS: &str = "sealing-keys";

pub(super) fn get(file: &ReadTransaction, key: &str) -> Result<Option<String>, redb::Error> {
    let meta = match file.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(meta.get(key)?.map(|value| value.value().to_owned()))
}

pub(super) fn set(file: &WriteTransaction, key: &str, value: &str) -> Result<(), redb::Error> {
    file.open_table(META)?.insert(key, value)?;
    Ok(())
}
