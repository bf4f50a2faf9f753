//! Counts per company: the location tokens that it minted, and its calls beyond the rate limit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

/// How often an agency asked for a token of a location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct MintCounts {
    pub(crate) location_tokens_minted: u64,
    pub(crate) location_tokens_refused: u64,
}

/// The counts of one company.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct CompanyCounts {
    #[serde(flatten)]
    pub(crate) mints: MintCounts,
    /// The number of different locations with a minted token.
    pub(crate) locations_minted: u64,
    /// The most tokens that were minted for one location.
    pub(crate) most_minted_of_a_location: u64,
    /// Calls with the company's token that got 429.
    pub(crate) rate_limited_calls: u64,
}

/// The counts of all companies.
#[derive(Debug, Default)]
pub(crate) struct Companies {
    total: MintCounts,
    companies: BTreeMap<Arc<str>, CompanyCounts>,
    locations: HashMap<Arc<str>, MintCounts>,
}

impl Companies {
    pub(crate) fn minted(&mut self, company: &Arc<str>, location: &Arc<str>) {
        let of_location = self.locations.entry(location.clone()).or_default();
        of_location.location_tokens_minted += 1;
        let minted = of_location.location_tokens_minted;
        let counts = self.companies.entry(company.clone()).or_default();
        counts.mints.location_tokens_minted += 1;
        counts.locations_minted += u64::from(minted == 1);
        counts.most_minted_of_a_location = counts.most_minted_of_a_location.max(minted);
        self.total.location_tokens_minted += 1;
    }

    /// A refused attempt. `location` may be any text that the caller sent.
    pub(crate) fn refused(&mut self, company: &Arc<str>, location: Option<&Arc<str>>) {
        if let Some(location) = location {
            let of_location = self.locations.entry(location.clone()).or_default();
            of_location.location_tokens_refused += 1;
        }
        let counts = self.companies.entry(company.clone()).or_default();
        counts.mints.location_tokens_refused += 1;
        self.total.location_tokens_refused += 1;
    }

    pub(crate) fn rate_limited(&mut self, company: &Arc<str>) {
        let counts = self.companies.entry(company.clone()).or_default();
        counts.rate_limited_calls += 1;
    }

    pub(crate) fn total(&self) -> MintCounts {
        self.total
    }

    pub(crate) fn all(&self) -> BTreeMap<String, CompanyCounts> {
        let companies = self.companies.iter();
        companies
            .map(|(id, counts)| (id.to_string(), counts.clone()))
            .collect()
    }

    pub(crate) fn company(&self, id: &str) -> Option<&CompanyCounts> {
        self.companies.get(id)
    }

    pub(crate) fn location(&self, id: &str) -> Option<MintCounts> {
        self.locations.get(id).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mints_are_counted_per_location_company_and_in_total() {
        let mut companies = Companies::default();
        let id = |text: &str| Arc::<str>::from(text);
        for location in ["a", "b", "b"] {
            companies.minted(&id("c"), &id(location));
        }
        companies.minted(&id("d"), &id("e"));
        companies.refused(&id("c"), Some(&id("b")));
        companies.refused(&id("c"), None);
        companies.rate_limited(&id("c"));
        let counts = companies.company("c").unwrap();
        assert_eq!(counts.mints.location_tokens_minted, 3);
        assert_eq!(counts.mints.location_tokens_refused, 2);
        assert_eq!(counts.locations_minted, 2);
        assert_eq!(counts.most_minted_of_a_location, 2);
        assert_eq!(counts.rate_limited_calls, 1);
        assert_eq!(companies.total().location_tokens_minted, 4);
        assert_eq!(companies.location("b").unwrap().location_tokens_refused, 1);
    }
}
