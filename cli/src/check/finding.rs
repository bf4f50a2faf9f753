//! The result of one check.

use std::fmt;

use serde_json::{Value, json};

use crate::output::{Style, paint};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Ok,
    /// It works, and something may not.
    Warning,
    /// It does not work.
    Problem,
}

/// One line about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The thing that was checked.
    pub(super) name: &'static str,
    pub(super) state: State,
    text: String,
    /// The repair. Empty if it is well.
    todo: String,
}

impl Finding {
    pub(super) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, State::Ok, text, "")
    }

    pub(super) fn warning(
        name: &'static str,
        text: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self::new(name, State::Warning, text, todo)
    }

    pub(super) fn problem(
        name: &'static str,
        text: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self::new(name, State::Problem, text, todo)
    }

    fn new(
        name: &'static str,
        state: State,
        text: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self {
            name,
            state,
            text: text.into(),
            todo: todo.into(),
        }
    }

    /// The line for a terminal.
    pub(super) fn coloured(&self) -> String {
        let (line, word) = (self.to_string(), self.state.word());
        let rest = line.strip_prefix(word).unwrap_or(&line).to_owned();
        format!("{}{rest}", paint(self.state.style(), word))
    }

    pub(super) fn to_json(&self) -> Value {
        let todo = (!self.todo.is_empty()).then_some(&self.todo);
        json!({ "name": self.name, "state": self.state.word(), "text": self.text, "todo": todo })
    }
}

impl State {
    fn style(self) -> Style {
        match self {
            Self::Ok => Style::Good,
            Self::Warning => Style::Warning,
            Self::Problem => Style::Bad,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// The state of the worst one.
pub(super) fn worst(findings: &[Finding]) -> State {
    let states = findings.iter().map(|finding| finding.state);
    states.max().unwrap_or(State::Ok)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, name) = (self.state.word(), self.name);
        write!(f, "{state:<8} {name}: {}", self.text)?;
        if self.todo.is_empty() {
            return Ok(());
        }
        write!(f, "\n         → {}", self.todo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_is_a_line_with_what_to_do() {
        let ok = Finding::ok("clock", "right");
        assert_eq!(ok.to_string(), "ok       clock: right");
        let problem = Finding::problem("store", "away", "start it");
        assert_eq!(
            problem.to_string(),
            "problem  store: away\n         → start it"
        );
        assert_eq!(problem.to_json()["todo"], "start it");
        assert_eq!(worst(&[ok.clone(), problem]), State::Problem);
        assert_eq!(worst(&[ok]), State::Ok);
    }
}
