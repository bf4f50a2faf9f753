//! A progress bar on the terminal.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Work that ends sooner needs no bar.
const QUIET_TIME: Duration = Duration::from_secs(1);
const WIDTH: usize = 30;

/// A bar on the standard error, if that is a terminal. Dropping it clears the line.
pub(crate) struct Bar {
    started: Instant,
    is_terminal: bool,
    is_shown: bool,
}

impl Bar {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            is_terminal: stderr().is_terminal(),
            is_shown: false,
        }
    }

    /// Shows that `done` of `total` is done.
    pub(crate) fn show(&mut self, what: &str, done: u64, total: u64) {
        self.show_line(&line(what, done, total));
    }

    /// Shows a number that grows to an unknown one.
    pub(crate) fn show_count(&mut self, what: &str, done: u64) {
        self.show_line(&format!("{what} {done}"));
    }

    fn show_line(&mut self, line: &str) {
        if self.is_terminal && self.started.elapsed() >= QUIET_TIME {
            self.is_shown = true;
            // A terminal that is gone needs no bar.
            let _ = write!(stderr(), "\r{line}\x1b[K");
            let _ = stderr().flush();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, done: u64, total: u64) -> String {
    let done = done.min(total);
    let percent = (done * 100).checked_div(total).unwrap_or(100);
    let filled = usize::try_from(percent).unwrap_or(100) * WIDTH / 100;
    let (full, empty) = ("#".repeat(filled), ".".repeat(WIDTH - filled));
    format!("{what} [{full}{empty}] {percent:>3} % ({done} of {total})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_shows_the_share_that_is_done() {
        let (none, all) = (".".repeat(WIDTH), "#".repeat(WIDTH));
        assert_eq!(
            line("sealing", 0, 8),
            format!("sealing [{none}]   0 % (0 of 8)")
        );
        assert_eq!(
            line("sealing", 8, 8),
            format!("sealing [{all}] 100 % (8 of 8)")
        );
        // There may be more by now, or nothing at all.
        assert_eq!(
            line("sealing", 9, 8),
            format!("sealing [{all}] 100 % (8 of 8)")
        );
        assert_eq!(
            line("sealing", 0, 0),
            format!("sealing [{all}] 100 % (0 of 0)")
        );
    }
}
