//! Says what is wrong, the worst first, and what to do about it. A pure function of the facts.

mod customers;
mod deployment;
#[cfg(test)]
mod tests;
mod traffic;

use serde::Serialize;
use utoipa::ToSchema;

use super::Overview;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AdviceSeverity)]
pub(crate) enum Severity {
    /// Calls fail, or installations are lost, now or soon.
    Critical,
    /// Something does not work that should.
    Warning,
    /// It could be better.
    Note,
}

impl Severity {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }

    /// The class of the stylesheet.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Critical => "bad",
            Self::Warning => "warn",
            Self::Note => "",
        }
    }
}

/// A problem, what it means, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Advice {
    pub(crate) severity: Severity,
    /// The kind of problem in one word, the same in every version.
    #[schema(value_type = String)]
    pub(crate) kind: &'static str,
    /// The problem in one sentence.
    pub(crate) problem: String,
    /// The effect on customers.
    #[schema(value_type = String)]
    pub(crate) effect: &'static str,
    /// The steps to take.
    #[schema(value_type = String)]
    pub(crate) to_do: &'static str,
    /// The page of the manual that has more.
    #[schema(value_type = String)]
    pub(crate) page: &'static str,
}

/// Every problem that the facts show, the worst first.
pub(crate) fn advise(facts: &Overview) -> Vec<Advice> {
    let rules: [fn(&Overview) -> Vec<Advice>; 10] = [
        deployment::processes,
        customers::ghl,
        deployment::store,
        deployment::lock_nodes,
        customers::installations,
        customers::refreshes,
        traffic::calls,
        customers::connecting,
        traffic::events,
        deployment::housekeeping,
    ];
    let mut advice: Vec<Advice> = rules.iter().flat_map(|rule| rule(facts)).collect();
    // Stable, so that problems of one severity stay in the order of the rules.
    advice.sort_by_key(|it| it.severity);
    advice
}

/// Builds a list of problems.
#[derive(Default)]
struct Found(Vec<Advice>);

impl Found {
    fn add(
        &mut self,
        severity: Severity,
        kind: &'static str,
        problem: String,
        (effect, to_do, page): (&'static str, &'static str, &'static str),
    ) {
        self.0.push(Advice {
            severity,
            kind,
            problem,
            effect,
            to_do,
            page,
        });
    }
}

/// `1 installation`, `2 installations`.
fn count(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    }
}
