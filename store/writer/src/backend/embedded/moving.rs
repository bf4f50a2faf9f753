//! Reads whole keys of the file, one after the other, and marks the file as moved.

use std::ops::Bound;

use redb::ReadOnlyTable;
use store::keys::{self, Content};

pub(crate) use super::tables::NEVER;
use super::tables::{HASHES, SORTED, STRINGS, read_hash, table};
use super::{EmbeddedBackend, now};
use crate::backend::REVISION;
use crate::group_commit_db::DbError;
use crate::identity::{CLOSED, FORMAT, StoreMark};
use crate::moving::{Moved, Part, Position, Table};

/// Above every field name and member.
const HIGHEST: &str = "\u{10ffff}";

const MOVE: &str = "move";
const PHASE: &str = "phase";
const TARGET: &str = "to";
const COMPLETE: &str = "moved";
const BEGUN: &str = "moving";

impl EmbeddedBackend {
    /// The move that the file knows of.
    pub(crate) fn moved(&self) -> Result<Option<Moved>, redb::Error> {
        let fields = self.hash(keys::STORE)?;
        let text = |name| {
            let bytes = fields.bytes(name).ok();
            bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        Ok(text(MOVE).map(|id| Moved {
            id,
            is_complete: text(PHASE).as_deref() == Some(COMPLETE),
            to: text(TARGET).unwrap_or_default(),
        }))
    }

    /// Marks the file as moved, or as the store of this process again. Earlier builds refuse a marked file, too.
    pub(crate) async fn set_moved(
        &self,
        mark: &StoreMark,
        moved: Option<&Moved>,
    ) -> Result<(), DbError> {
        let (id, moved) = (mark.id.clone(), moved.cloned());
        let write = self.file.write(move |store| {
            let mut hashes = store.open_table(HASHES)?;
            let format = moved.as_ref().map_or(FORMAT, |_| CLOSED).to_string();
            hashes.insert((keys::STORE, "id"), id.as_str().as_bytes())?;
            hashes.insert((keys::STORE, "format"), format.as_bytes())?;
            match &moved {
                Some(moved) => {
                    let phase = if moved.is_complete { COMPLETE } else { BEGUN };
                    hashes.insert((keys::STORE, MOVE), moved.id.as_bytes())?;
                    hashes.insert((keys::STORE, PHASE), phase.as_bytes())?;
                    hashes.insert((keys::STORE, TARGET), moved.to.as_bytes())?;
                }
                None => {
                    for field in [MOVE, PHASE, TARGET] {
                        hashes.remove((keys::STORE, field))?;
                    }
                }
            }
            Ok(())
        });
        write.await
    }

    /// The first key after a position, and its place; `None` at the end. The store's own id and expired strings are
    /// left out.
    pub(crate) fn part_after(
        &self,
        position: &Position,
    ) -> Result<Option<(Position, Part)>, redb::Error> {
        let file = self.file.read()?;
        let mut place = position.clone();
        if place.table == Table::Hashes {
            if let Some(hashes) = table(file.open_table(HASHES))? {
                while let Some(key) = next_hash(&hashes, &place.key)? {
                    place.key.clone_from(&key);
                    if let Some(part) = hash_part(&hashes, key)? {
                        return Ok(Some((place, part)));
                    }
                }
            }
            place = Position {
                table: Table::Sorted,
                key: String::new(),
            };
        }
        if place.table == Table::Sorted {
            if let Some(sorted) = table(file.open_table(SORTED))? {
                let first = {
                    let mut rest = sorted.range((place.key.as_str(), NEVER, HIGHEST)..)?;
                    let first = rest.next().transpose()?;
                    first.map(|(entry, _)| entry.value().0.to_owned())
                };
                if let Some(key) = first {
                    let members = self.sorted(&key, usize::MAX)?;
                    place.key.clone_from(&key);
                    return Ok(Some((place, Part::Sorted { key, members })));
                }
            }
            place = Position {
                table: Table::Strings,
                key: String::new(),
            };
        }
        let Some(strings) = table(file.open_table(STRINGS))? else {
            return Ok(None);
        };
        let after = (Bound::Excluded(place.key.as_str()), Bound::Unbounded);
        for entry in strings.range::<&str>(after)? {
            let (key, value) = entry?;
            let (value, expiry) = value.value();
            let left = (expiry != NEVER).then(|| expiry - now().as_millis());
            if left.is_some_and(|left| left <= 0) {
                continue;
            }
            let ttl = left.and_then(|left| u64::try_from(left).ok());
            let key = key.value().to_owned();
            let part = Part::Text {
                key: key.clone(),
                value: value.to_owned(),
                ttl: ttl.map(std::time::Duration::from_millis),
            };
            let table = Table::Strings;
            return Ok(Some((Position { table, key }, part)));
        }
        Ok(None)
    }
}

type Hashes = ReadOnlyTable<(&'static str, &'static str), &'static [u8]>;

fn next_hash(hashes: &Hashes, after: &str) -> Result<Option<String>, redb::Error> {
    let mut rest = hashes.range((after, HIGHEST)..)?;
    let first = rest.next().transpose()?;
    Ok(first.map(|(field, _)| field.value().0.to_owned()))
}

/// The content of a key. `None` if another key carries it, or if it is not copied.
fn hash_part(hashes: &Hashes, key: String) -> Result<Option<Part>, redb::Error> {
    // Events of Redis have the times of its servers, and numbers of the last day are not worth a move: the file has no
    // expiry of them.
    if key == keys::LAST_EVENT || keys::is_statistic(&key) {
        return Ok(None);
    }
    let fields = read_hash(hashes, &key)?;
    Ok(Some(match keys::content(&key) {
        Content::Store => return Ok(None),
        Content::Access(id) => {
            let refresh = keys::refresh(&id);
            if hashes.get((refresh.as_str(), REVISION))?.is_some() {
                return Ok(None);
            }
            Part::Hash { key, fields }
        }
        Content::Refresh(id) if fields.contains(REVISION) => Part::Record {
            access: read_hash(hashes, &keys::access(&id))?,
            refresh: fields,
            id,
        },
        // The fields of a queue are in the order of its messages, and so are `Fields`.
        Content::Queue => Part::List {
            key,
            items: fields.iter().map(|(_, value)| value.to_vec()).collect(),
        },
        Content::Callers => Part::Set {
            key,
            members: fields.iter().map(|(name, _)| name.to_owned()).collect(),
        },
        Content::Refresh(_)
        | Content::Caller
        | Content::Location
        | Content::Audit
        | Content::Events
        | Content::DeadLetters
        | Content::Other => Part::Hash { key, fields },
    }))
}
