//! The identity of the store.

use redb::{ReadableTable, WriteTransaction};
use store::keys;
use store::record::Fields;

use super::tables::HASHES;
use crate::identity::{StoreId, StoreMark};

/// Gives the store this identity, unless it has one. Returns the one that it has then.
pub(super) fn make(store: &WriteTransaction, mark: StoreMark) -> Result<StoreMark, redb::Error> {
    let mut hashes = store.open_table(HASHES)?;
    let is_marked = hashes.get((keys::STORE, "id"))?.is_some();
    if !is_marked {
        let format = mark.format.to_string();
        hashes.insert((keys::STORE, "id"), mark.id.as_str().as_bytes())?;
        hashes.insert((keys::STORE, "format"), format.as_bytes())?;
        return Ok(mark);
    }
    let mut fields = Fields::new();
    for name in ["id", "format"] {
        if let Some(value) = hashes.get((keys::STORE, name))? {
            fields.set_bytes(name, value.value().to_vec());
        }
    }
    Ok(parse(&fields).unwrap_or(mark))
}

pub(super) fn parse(fields: &Fields) -> Option<StoreMark> {
    let text = |name| std::str::from_utf8(fields.bytes(name).ok()?).ok();
    Some(StoreMark {
        id: StoreId::from_text(text("id")?.to_owned()),
        format: text("format")?.parse().ok()?,
    })
}
