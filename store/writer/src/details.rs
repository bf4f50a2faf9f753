//! Facts from GHL's webhooks about an installation, such as the plan and the name of the company.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use store::Timestamp;

/// Facts by their names, as texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The time of the last event that told one of them.
    pub at: Timestamp,
    /// The facts.
    pub facts: BTreeMap<String, String>,
}

impl Default for Details {
    /// No facts, from before every event.
    fn default() -> Self {
        Self {
            at: Timestamp::from_millis(0),
            facts: BTreeMap::new(),
        }
    }
}

impl Details {
    /// These with what a later event tells. `None` if an event from before them tells it, or if nothing is new.
    #[must_use]
    pub fn with(&self, told: &Self) -> Option<Self> {
        if told.at < self.at {
            return None;
        }
        let mut next = self.clone();
        next.facts.extend(
            told.facts
                .iter()
                .map(|(name, fact)| (name.clone(), fact.clone())),
        );
        if next == *self {
            return None;
        }
        next.at = told.at;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(at: i64, facts: &[(&str, &str)]) -> Details {
        let facts = facts
            .iter()
            .map(|(name, fact)| ((*name).into(), (*fact).into()));
        Details {
            at: Timestamp::from_millis(at),
            facts: facts.collect(),
        }
    }

    #[test]
    fn later_event_changes_what_it_tells_and_an_earlier_one_nothing() {
        let first = told(5, &[("planId", "p1"), ("companyName", "Northwind")]);
        let next = first.with(&told(9, &[("planId", "p2")])).unwrap();
        assert_eq!(
            next,
            told(9, &[("planId", "p2"), ("companyName", "Northwind")])
        );
        assert_eq!(
            next.with(&told(7, &[("planId", "p1")])),
            None,
            "it came late"
        );
        assert_eq!(
            next.with(&told(9, &[("planId", "p2")])),
            None,
            "a repetition"
        );
    }
}
