//! The agency, its locations, and their records.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::subject::Subject;

/// The company of every location, unless the customer names another.
pub(crate) const COMPANY: &str = "sandboxNorthwindHQ01";

/// The initial locations: id, name, city.
pub(crate) const LOCATIONS: [(&str, &str, &str); 3] = [
    ("sandboxHarborDental1", "Harbor Dental", "Portland"),
    ("sandboxMapleYoga0002", "Maple Street Yoga", "Burlington"),
    ("sandboxOakEmberCafe3", "Oak & Ember Kitchen", "Asheville"),
];

/// How many records of a kind a location keeps. The oldest are dropped first.
const MAX_RECORDS: usize = 10_000;

const COMPANY_NAME: &str = "Northwind Sandbox Agency";

#[derive(Debug)]
pub(crate) struct Directory {
    locations: HashMap<Arc<str>, Location>,
    companies: HashMap<Arc<str>, Company>,
}

/// An agency with its locations in the order of their creation.
#[derive(Debug)]
struct Company {
    name: String,
    locations: Vec<Arc<str>>,
}

#[derive(Debug)]
pub(crate) struct Location {
    pub(crate) id: Arc<str>,
    pub(crate) company: Arc<str>,
    /// Its position among the locations of its company.
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) city: &'static str,
    pub(crate) products: RecordStore,
    pub(crate) medias: RecordStore,
    pub(crate) contacts: RecordStore,
    pub(crate) opportunities: RecordStore,
    /// The email addresses and phone numbers in use, with the ids of their contacts.
    pub(crate) contact_ids: HashMap<String, String>,
}

/// Records in the order of their ids, which is the order of their creation.
#[derive(Debug, Default)]
pub(crate) struct RecordStore(BTreeMap<String, Map<String, Value>>);

impl Directory {
    pub(crate) fn new() -> Self {
        let mut directory = Self {
            locations: HashMap::new(),
            companies: HashMap::new(),
        };
        let company: Arc<str> = COMPANY.into();
        directory.open_company(&company, Some(COMPANY_NAME));
        for (id, name, city) in LOCATIONS {
            let location = directory.open(id, &company);
            name.clone_into(&mut location.name);
            location.city = city;
        }
        directory
    }

    /// Creates the company if it is unknown, and names it if a name is given.
    pub(crate) fn open_company(&mut self, id: &Arc<str>, name: Option<&str>) {
        let company = self.companies.entry(id.clone()).or_insert_with(|| Company {
            name: format!("Agency {id}"),
            locations: Vec::new(),
        });
        if let Some(name) = name {
            name.clone_into(&mut company.name);
        }
    }

    /// The name of a company, also of an unknown one.
    pub(crate) fn company_name(&self, id: &str) -> String {
        self.companies
            .get(id)
            .map_or_else(|| format!("Agency {id}"), |company| company.name.clone())
    }

    /// The location. Creates it if it is unknown.
    pub(crate) fn open(&mut self, id: &str, company: &Arc<str>) -> &mut Location {
        if !self.locations.contains_key(id) {
            self.open_company(company, None);
        }
        let companies = &mut self.companies;
        self.locations.entry(id.into()).or_insert_with(|| {
            let mut location = Location::new(id, company.clone());
            if let Some(company) = companies.get_mut(company) {
                location.index = company.locations.len();
                company.locations.push(location.id.clone());
            }
            location
        })
    }

    pub(crate) fn find(&mut self, id: &str) -> Option<&mut Location> {
        self.locations.get_mut(id)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Location> {
        self.locations.get(id)
    }

    /// The number of a company's locations.
    pub(crate) fn count(&self, company: &str) -> usize {
        self.ids_of(company).len()
    }

    /// The company's location at this position.
    pub(crate) fn at(&self, company: &str, index: usize) -> Option<&Location> {
        self.get(self.ids_of(company).get(index)?)
    }

    /// The company's locations in the order of their creation.
    pub(crate) fn of_company(&self, company: &str) -> impl DoubleEndedIterator<Item = &Location> {
        self.ids_of(company).iter().filter_map(|id| self.get(id))
    }

    fn ids_of(&self, company: &str) -> &[Arc<str>] {
        self.companies
            .get(company)
            .map_or(&[], |company| &company.locations)
    }
}

impl Location {
    fn new(id: &str, company: Arc<str>) -> Self {
        Self {
            id: id.into(),
            company,
            index: 0,
            name: format!("Location {id}"),
            city: "Springfield",
            products: RecordStore::default(),
            medias: RecordStore::default(),
            contacts: RecordStore::default(),
            opportunities: RecordStore::default(),
            contact_ids: HashMap::new(),
        }
    }

    pub(crate) fn subject(&self) -> Subject {
        Subject::Location {
            location: self.id.clone(),
            company: self.company.clone(),
        }
    }

    /// The JSON of `GET /locations/{id}`.
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

impl RecordStore {
    /// Adds a record. Returns the record that was dropped for it.
    pub(crate) fn put(
        &mut self,
        id: String,
        record: Map<String, Value>,
    ) -> Option<Map<String, Value>> {
        self.0.insert(id, record);
        if self.0.len() > MAX_RECORDS {
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

    /// The records before this id, newest first.
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
    fn initial_ids_have_ghls_format() {
        for id in LOCATIONS.map(|(id, ..)| id).into_iter().chain([COMPANY]) {
            assert!(is_id(id) && id.len() == 20, "{id}");
        }
        assert_eq!(Directory::new().of_company(COMPANY).count(), 3);
    }

    #[test]
    fn oldest_record_is_dropped() {
        let mut records = RecordStore::default();
        for number in 0..=MAX_RECORDS {
            let mut record = Map::new();
            record.insert("n".to_owned(), number.into());
            let gone = records.put(format!("{number:08}"), record);
            assert_eq!(gone.is_some(), number == MAX_RECORDS);
        }
        assert_eq!(records.iter().count(), MAX_RECORDS);
        assert!(records.get("00000000").is_none());
    }
}
