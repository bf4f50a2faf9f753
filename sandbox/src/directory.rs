//! The agency, its locations, and what is in them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value, json};

/// The agency every location belongs to unless the installer says otherwise.
pub(crate) const COMPANY: &str = "sandboxNorthwindHQ01";

/// The locations that are there from the start: id, name, city.
pub(crate) const LOCATIONS: [(&str, &str, &str); 3] = [
    ("sandboxHarborDental1", "Harbor Dental", "Portland"),
    ("sandboxMapleYoga0002", "Maple Street Yoga", "Burlington"),
    ("sandboxOakEmberCafe3", "Oak & Ember Kitchen", "Asheville"),
];

/// How many records of a kind a location keeps; the oldest go first.
const RECORDS_KEPT: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Directory {
    locations: BTreeMap<Arc<str>, Location>,
}

#[derive(Debug)]
pub(crate) struct Location {
    pub(crate) id: Arc<str>,
    pub(crate) company: Arc<str>,
    pub(crate) name: String,
    pub(crate) city: &'static str,
    pub(crate) products: Shelf,
    pub(crate) medias: Shelf,
    pub(crate) contacts: Shelf,
    /// Email addresses and phone numbers in use, and whose.
    pub(crate) contact_ids: HashMap<String, String>,
}

/// Records in the order of their ids, which is that of their making.
#[derive(Debug, Default)]
pub(crate) struct Shelf(BTreeMap<String, Map<String, Value>>);

impl Directory {
    pub(crate) fn new() -> Self {
        let company: Arc<str> = COMPANY.into();
        let locations = LOCATIONS.into_iter().map(|(id, name, city)| {
            let mut location = Location::new(id, company.clone());
            name.clone_into(&mut location.name);
            location.city = city;
            (location.id.clone(), location)
        });
        Self {
            locations: locations.collect(),
        }
    }

    /// The location, made if it was not there.
    pub(crate) fn open(&mut self, id: &str, company: &Arc<str>) -> &mut Location {
        self.locations
            .entry(id.into())
            .or_insert_with(|| Location::new(id, company.clone()))
    }

    pub(crate) fn find(&mut self, id: &str) -> Option<&mut Location> {
        self.locations.get_mut(id)
    }

    /// The company's locations in the order of their ids.
    pub(crate) fn of_company(&self, company: &str) -> impl DoubleEndedIterator<Item = &Location> {
        self.locations
            .values()
            .filter(move |location| *location.company == *company)
    }
}

impl Location {
    fn new(id: &str, company: Arc<str>) -> Self {
        Self {
            id: id.into(),
            company,
            name: format!("Location {id}"),
            city: "Springfield",
            products: Shelf::default(),
            medias: Shelf::default(),
            contacts: Shelf::default(),
            contact_ids: HashMap::new(),
        }
    }

    /// As in `GET /locations/{id}`.
    pub(crate) fn describe(&self) -> Value {
        json!({
            "id": *self.id,
            "companyId": *self.company,
            "name": self.name,
            "address": self.address(),
            "city": self.city,
            "country": "US",
            "timezone": "America/New_York",
            "email": format!("{}@sandbox.invalid", self.id.to_lowercase()),
        })
    }

    pub(crate) fn address(&self) -> String {
        format!("1 Main Street, {}, USA", self.city)
    }
}

impl Shelf {
    /// Answers the record that had to go for it.
    pub(crate) fn put(
        &mut self,
        id: String,
        record: Map<String, Value>,
    ) -> Option<Map<String, Value>> {
        self.0.insert(id, record);
        if self.0.len() > RECORDS_KEPT {
            return self.0.pop_first().map(|(_, record)| record);
        }
        None
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Map<String, Value>> {
        self.0.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Map<String, Value>> {
        self.0.get_mut(id)
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Map<String, Value>> {
        self.0.remove(id)
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Map<String, Value>> {
        self.0.values()
    }

    /// Newest first, from before this record on.
    pub(crate) fn before(&self, id: &str) -> impl Iterator<Item = &Map<String, Value>> {
        self.0
            .range(..id.to_owned())
            .rev()
            .map(|(_, record)| record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::is_id;

    #[test]
    fn what_is_there_from_the_start_has_ids_like_ghl() {
        for id in LOCATIONS.map(|(id, ..)| id).into_iter().chain([COMPANY]) {
            assert!(is_id(id) && id.len() == 20, "{id}");
        }
        assert_eq!(Directory::new().of_company(COMPANY).count(), 3);
    }

    #[test]
    fn a_shelf_lets_the_oldest_go() {
        let mut shelf = Shelf::default();
        for number in 0..=RECORDS_KEPT {
            let mut record = Map::new();
            record.insert("n".to_owned(), number.into());
            let gone = shelf.put(format!("{number:08}"), record);
            assert_eq!(gone.is_some(), number == RECORDS_KEPT);
        }
        assert_eq!(shelf.iter().count(), RECORDS_KEPT);
        assert!(shelf.get("00000000").is_none());
    }
}
