//! Explains an installation: what is the matter, what it means for calls, and what to do.
//!
//! [`diagnose`] is pure. [`facts`] collects what it decides from, and [`history`] what has happened lately.

mod error_kind;
pub(crate) mod facts;
pub(crate) mod history;
mod obstacles;
mod status;
mod step;
#[cfg(test)]
mod tests;

use store::record::Unreadable;

use crate::api::error::remedy;
use crate::api::status::TokenStatus;
pub(crate) use facts::Facts;
pub(crate) use step::{Action, Step};

/// Whether something must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Calls work, and go on to work.
    Well,
    /// Something fails. It ends by itself.
    Waiting,
    /// A person must act.
    Action,
}

impl Verdict {
    /// The name in the JSON.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Waiting => "waiting",
            Self::Action => "action",
        }
    }
}

/// The explanation of an installation. Every text is one or more whole sentences, times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    pub(crate) status: TokenStatus,
    pub(crate) verdict: Verdict,
    /// The status in words.
    pub(crate) summary: String,
    /// The causes.
    pub(crate) why: Vec<String>,
    /// The effect on calls now.
    pub(crate) calls: String,
    /// The steps to take, in this order. Empty if there is nothing to do.
    pub(crate) to_do: Vec<Step>,
}

/// A cause that keeps an installation from being refreshed, or that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cause {
    verdict: Verdict,
    why: String,
    step: Option<Step>,
}

/// The explanation of an installation whose record can be read.
pub(crate) fn diagnose(facts: &Facts<'_>) -> Diagnosis {
    let mut diagnosis = status::of(facts);
    let mut steps = Vec::new();
    for cause in obstacles::of(facts, diagnosis.status) {
        diagnosis.verdict = diagnosis.verdict.max(cause.verdict);
        diagnosis.why.push(cause.why);
        steps.extend(cause.step);
    }
    // The causes come first: what the status asks for may not help before.
    steps.append(&mut diagnosis.to_do);
    steps.dedup();
    diagnosis.to_do = steps;
    diagnosis
}

/// The explanation of a record that cannot be read.
pub(crate) fn of_unreadable(source: &Unreadable) -> Diagnosis {
    let step = match source {
        Unreadable::TooNew(_) => Step::new(
            "Update this broker: a newer version of evergreen has written the record.",
        ),
        Unreadable::Sealed(_) => step::restore_sealing_key(None, remedy(source)),
        Unreadable::Missing(_) | Unreadable::Malformed(_) => Step::new(
            "Let the customer connect again: a new consent replaces the record. If you have a backup of the store from \
             before the damage, look at it first.",
        )
        .run("evergreen installations connect-link"),
    };
    Diagnosis {
        status: TokenStatus::Unreadable,
        verdict: Verdict::Action,
        summary: "Unreadable: this broker cannot read the stored record.".to_owned(),
        why: vec![format!("The store has a record, but {source}.")],
        calls: "Calls fail.".to_owned(),
        to_do: vec![step],
    }
}
