//! Colours. They reach a terminal alone: not a pipe, not a file, not with `NO_COLOR`.

use anstyle::{AnsiColor, Style as Colours};

/// The meaning of a text, which has a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Title,
    Good,
    Warning,
    Bad,
    Faint,
}

impl Style {
    /// The style of a state, such as `valid`.
    pub(crate) fn of_state(state: &str) -> Self {
        match state {
            "valid" | "static" | "live" | "done" | "ok" | "yes" => Self::Good,
            "expiring" | "suspect" | "unclaimed" | "paused" | "lost" => Self::Warning,
            "invalid" | "expired" | "refused" | "failed" | "unreadable" | "MISSING" | "UNSAFE" => {
                Self::Bad
            }
            "revoked" | "dead" | "asleep" | "-" => Self::Faint,
            _ => Self::Plain,
        }
    }

    fn colours(self) -> Colours {
        match self {
            Self::Plain => Colours::new(),
            Self::Title => Colours::new().bold(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Faint => Colours::new().dimmed(),
        }
    }
}

/// The text in the colour of its meaning. Printing removes the colour where it does not belong.
pub(crate) fn paint(style: Style, text: &str) -> String {
    let colours = style.colours();
    format!("{colours}{text}{colours:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_has_no_escape_sequence_and_painted_text_ends_its_colour() {
        assert_eq!(paint(Style::Plain, "x"), "x");
        let painted = paint(Style::Bad, "x");
        assert!(
            painted.starts_with('\x1b') && painted.ends_with("x\x1b[0m"),
            "{painted:?}"
        );
    }

    #[test]
    fn states_that_need_somebody_are_not_plain() {
        for state in ["invalid", "expired", "suspect", "unclaimed"] {
            assert_ne!(Style::of_state(state), Style::Plain, "{state}");
        }
        assert_eq!(Style::of_state("something new"), Style::Plain);
    }
}
