//! `evergreen seal status`: how many records need each key.

use serde_json::{Value, json};

use super::number;
use crate::exit::Failure;
use crate::operate::{Admin, array, text};
use crate::output::{Column, List, Output, member};
use crate::progress::Bar;

/// One key, according to all pages.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Key {
    seals: bool,
    in_ring: bool,
    lost: bool,
    state: String,
    records: u64,
    unreadable: u64,
}

/// Whether a key may be removed from its ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removable {
    /// The broker that was asked seals with it.
    Seals,
    /// Records need it.
    Needed,
    /// No record needs it, but another broker may still seal with it.
    AfterRotation,
    Yes,
    /// It is in no ring of the broker that was asked.
    Removed,
    /// It is missing in the ring.
    Missing,
}

fn removable(key: &Key) -> Removable {
    match (key.seals, key.records, key.state.as_str(), key.in_ring) {
        (true, ..) => Removable::Seals,
        (_, 1.., _, true) => Removable::Needed,
        (_, 1.., _, false) => Removable::Missing,
        (_, 0, "free", true) => Removable::Yes,
        (_, 0, "free", false) => Removable::Removed,
        (_, 0, _, _) => Removable::AfterRotation,
    }
}

impl Removable {
    fn describe(self, key: &Key) -> &'static str {
        match self {
            Self::Seals => "no: new records are sealed with it",
            Self::Needed if key.unreadable > 0 => "no: records need it, and it does not open them",
            Self::Needed => "no: `evergreen seal rotate` seals its records anew",
            Self::AfterRotation => "after `evergreen seal rotate`",
            // A key that was added a moment ago has the same state.
            Self::Yes => "yes, unless you add it just now: nothing is sealed with it",
            Self::Removed => "removed; `evergreen seal forget` forgets its id",
            Self::Missing if key.lost => "lost: its records need new consents",
            Self::Missing => "missing: put it back",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Seals => "seals",
            Self::Needed => "needed",
            Self::AfterRotation => "after_rotation",
            Self::Yes => "yes",
            Self::Removed => "removed",
            Self::Missing => "missing",
        }
    }
}

/// The sum of all pages.
#[derive(Debug, Default)]
struct Sum {
    records: u64,
    malformed: u64,
    /// In the order of the first page.
    rings: Vec<Ring>,
}

#[derive(Debug)]
struct Ring {
    name: String,
    setting: String,
    /// By id, in the order of the ring.
    keys: Vec<(String, Key)>,
}

impl Sum {
    fn add(&mut self, page: &Value) {
        self.records += number(page, "records");
        self.malformed += number(page, "malformed");
        for ring in array(page, "rings") {
            let known = self.ring(text(ring, "ring"), text(ring, "setting"));
            for one in array(ring, "keys") {
                let key = known.key(text(one, "id"));
                key.seals = one["seals"] == true;
                key.in_ring = one["inRing"] == true;
                key.lost = one["lost"] == true;
                text(one, "state").clone_into(&mut key.state);
                key.records += number(one, "records");
                key.unreadable += number(one, "unreadable");
            }
        }
    }

    fn ring(&mut self, name: &str, setting: &str) -> &mut Ring {
        let known = self.rings.iter().position(|ring| ring.name == name);
        let index = known.unwrap_or_else(|| {
            self.rings.push(Ring {
                name: name.to_owned(),
                setting: setting.to_owned(),
                keys: Vec::new(),
            });
            self.rings.len() - 1
        });
        &mut self.rings[index]
    }
}

impl Ring {
    fn key(&mut self, id: &str) -> &mut Key {
        let known = self.keys.iter().position(|(known, _)| known == id);
        let index = known.unwrap_or_else(|| {
            self.keys.push((id.to_owned(), Key::default()));
            self.keys.len() - 1
        });
        &mut self.keys[index].1
    }
}

/// Asks for one page after the other, and shows the sum.
pub(super) async fn show(admin: &Admin, output: Output) -> Result<(), Failure> {
    let (mut sum, mut from, mut bar) = (Sum::default(), 0, Bar::new(output));
    loop {
        let page = admin.get(&format!("/v1/seal?from={from}"), "rings").await?;
        sum.add(&page);
        let Some(next) = page["next"].as_u64() else {
            break;
        };
        from = next;
        bar.show("counting", from, number(&page, "partitions"));
    }
    drop(bar);
    if output.is_json() {
        return output.report(&to_json(&sum), "", String::new);
    }
    let keys = sum.rings.iter().flat_map(|ring| {
        let rows = ring.keys.iter().map(|(id, key)| row(&ring.name, id, key));
        rows.collect::<Vec<_>>()
    });
    let mut rows = output.list(&KEYS);
    rows.add(&keys.collect::<Vec<_>>())?;
    rows.end()?;
    output.note(format!("{} records", sum.records));
    if sum.malformed > 0 {
        let count = sum.malformed;
        output.note(format!("{count} of them cannot be read, whatever the keys"));
    }
    Ok(())
}

const KEYS: List = List {
    columns: &[
        Column::text("RING", |key| member(key, "ring")),
        Column::text("KEY", |key| member(key, "id")),
        Column::number("RECORDS", |key| member(key, "records")),
        Column::number("UNREADABLE", |key| member(key, "unreadable")),
        Column::text("MAY BE REMOVED", |key| member(key, "removable")),
    ],
    id: |key| format!("{} {}", member(key, "ring"), member(key, "id")),
    empty: "There are no sealing keys yet: EVERGREEN_ACCESS_KEYS and EVERGREEN_REFRESH_KEYS of a broker name them",
};

fn row(ring: &str, id: &str, key: &Key) -> Value {
    json!({
        "ring": ring,
        "id": id,
        "records": key.records,
        "unreadable": key.unreadable,
        "removable": removable(key).describe(key),
    })
}

fn to_json(sum: &Sum) -> Value {
    let rings = sum.rings.iter().map(|ring| {
        let keys = ring.keys.iter().map(|(id, key)| {
            json!({
                "id": id,
                "seals": key.seals,
                "inRing": key.in_ring,
                "lost": key.lost,
                "state": key.state,
                "records": key.records,
                "unreadable": key.unreadable,
                "removable": removable(key).as_str(),
            })
        });
        let keys: Vec<Value> = keys.collect();
        json!({ "ring": ring.name, "setting": ring.setting, "keys": keys })
    });
    json!({
        "records": sum.records,
        "malformed": sum.malformed,
        "rings": rings.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seals: bool, in_ring: bool, state: &str, records: u64) -> Key {
        Key {
            seals,
            in_ring,
            state: state.to_owned(),
            records,
            ..Key::default()
        }
    }

    #[test]
    fn key_is_removable_only_if_it_is_free_and_no_record_needs_it() {
        for state in ["needed", "retiring", "free", ""] {
            assert_eq!(removable(&key(true, true, state, 0)), Removable::Seals);
            assert_eq!(removable(&key(true, true, state, 9)), Removable::Seals);
            assert_eq!(removable(&key(false, true, state, 9)), Removable::Needed);
            assert_eq!(removable(&key(false, false, state, 9)), Removable::Missing);
            let (unused, gone) = match state {
                "free" => (Removable::Yes, Removable::Removed),
                _ => (Removable::AfterRotation, Removable::AfterRotation),
            };
            assert_eq!(removable(&key(false, true, state, 0)), unused);
            assert_eq!(removable(&key(false, false, state, 0)), gone);
        }
    }

    #[test]
    fn pages_are_summed_by_ring_and_key() {
        let page = |records| {
            let key = json!({ "id": "a", "seals": true, "inRing": true, "state": "needed",
                "records": records, "unreadable": 0 });
            json!({ "records": records, "malformed": 1,
                "rings": [{ "ring": "access", "setting": "S", "keys": [key] }] })
        };
        let mut sum = Sum::default();
        sum.add(&page(3));
        sum.add(&page(4));
        assert_eq!((sum.records, sum.malformed), (7, 2));
        let keys = [("a".to_owned(), key(true, true, "needed", 7))];
        assert_eq!(sum.rings[0].keys, keys);
    }
}
