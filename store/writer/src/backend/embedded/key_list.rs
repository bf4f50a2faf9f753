//! The lists of sealing keys.

use redb::{ReadableTable, WriteTransaction};
use store::key_list::{REVISION, RingKind};
use store::keys;
use store::record::Fields;

use super::tables::HASHES;

/// Replaces a list. False if it has another revision than expected.
pub(super) fn swap_in(
    store: &WriteTransaction,
    ring: RingKind,
    expected: &[u8],
    next: &Fields,
) -> Result<bool, redb::Error> {
    let key = keys::key_list(ring);
    let mut hashes = store.open_table(HASHES)?;
    let revision = hashes.get((key.as_str(), REVISION))?;
    let revision = revision.map(|revision| revision.value().to_vec());
    if revision.unwrap_or_default() != expected {
        return Ok(false);
    }
    hashes.retain_in((key.as_str(), "")..(key.as_str(), "\u{10ffff}"), |_, _| {
        false
    })?;
    for (name, value) in next.iter() {
        hashes.insert((key.as_str(), name), value)?;
    }
    Ok(true)
}
