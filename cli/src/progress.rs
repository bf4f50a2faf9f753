//! The progress of long work: a bar on a terminal, and a line now and then in a log.

use std::io::{Write, stderr};
use std::time::{Duration, Instant};

use tokio::signal::ctrl_c;

use crate::exit::Failure;
use crate::output::{Output, complain, is_watched, watched_width};

/// Work that ends sooner needs no bar.
const QUIET_TIME: Duration = Duration::from_secs(1);
/// Between two changes of a bar, which nobody can read faster.
const REDRAW: Duration = Duration::from_millis(100);
/// Between two lines in a log.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
const WIDTH: usize = 30;

/// Where the progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// One line that is written over.
    Terminal,
    /// Lines, such as in the log of a job.
    Lines,
    Nowhere,
}

/// Shows progress on the standard error. Dropping it clears the line.
pub(crate) struct Bar {
    shown: Shown,
    started: Instant,
    /// When it was last written, and whether it ever was.
    last: Instant,
    is_drawn: bool,
}

impl Bar {
    /// Shows nothing with `--quiet`.
    pub(crate) fn new(output: Output) -> Self {
        Self::beside(output, false)
    }

    /// For work that prints a line for each step. If `is_on_terminal` says that a terminal shows them, they are the
    /// progress.
    pub(crate) fn beside(output: Output, is_on_terminal: bool) -> Self {
        let shown = match (output.is_quiet() || is_on_terminal, is_watched()) {
            (true, _) => Shown::Nowhere,
            (false, true) => Shown::Terminal,
            (false, false) => Shown::Lines,
        };
        let now = Instant::now();
        Self {
            shown,
            started: now,
            last: now,
            is_drawn: false,
        }
    }

    /// Shows that `done` of `total` is done.
    pub(crate) fn show(&mut self, what: &str, done: u64, total: u64) {
        if self.is_due() {
            let elapsed = self.started.elapsed();
            let text = match self.shown {
                Shown::Terminal => line(what, done, total, elapsed),
                Shown::Lines | Shown::Nowhere => plain(what, done, total, elapsed),
            };
            self.write(&text);
        }
    }

    /// Shows a number that grows to an unknown one.
    pub(crate) fn show_count(&mut self, what: &str, done: u64) {
        if self.is_due() {
            let rate = rate(done, self.started.elapsed());
            self.write(&format!("{what} {done}, {rate}"));
        }
    }

    fn is_due(&self) -> bool {
        let since = self.last.elapsed();
        match self.shown {
            Shown::Nowhere => false,
            Shown::Lines => since >= LINE_INTERVAL,
            Shown::Terminal if self.is_drawn => since >= REDRAW,
            Shown::Terminal => since >= QUIET_TIME,
        }
    }

    fn write(&mut self, text: &str) {
        self.last = Instant::now();
        if self.shown == Shown::Terminal {
            self.is_drawn = true;
            // A line that is too long would not be written over.
            let text: String = text.chars().take(watched_width() - 1).collect();
            // A terminal that is gone needs no bar.
            let _ = write!(stderr(), "\r{text}\x1b[K").and_then(|()| stderr().flush());
        } else {
            complain(text);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.is_drawn {
            let _ = write!(stderr(), "\r\x1b[K").and_then(|()| stderr().flush());
        }
    }
}

/// Does the work, and ends at Ctrl-C with what to do about the rest.
pub(crate) async fn interruptible<T>(
    work: impl Future<Output = Result<T, Failure>>,
    how_to_continue: &str,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        _ = ctrl_c() => Err(Failure::Interrupted(how_to_continue.to_owned())),
    }
}

fn line(what: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let percent = percent(done, total);
    let filled = usize::try_from(percent).unwrap_or(100) * WIDTH / 100;
    let (full, empty) = ("#".repeat(filled), ".".repeat(WIDTH - filled));
    format!(
        "{what} [{full}{empty}] {percent:>3} % {}",
        counts(done, total, elapsed)
    )
}

fn plain(what: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let percent = percent(done, total);
    format!("{what}: {percent} % {}", counts(done, total, elapsed))
}

/// There may be more by now than there were in the beginning, or nothing at all.
fn percent(done: u64, total: u64) -> u64 {
    (done.min(total) * 100).checked_div(total).unwrap_or(100)
}

fn counts(done: u64, total: u64, elapsed: Duration) -> String {
    let done = done.min(total);
    let rate = rate(done, elapsed);
    match left(done, total, elapsed) {
        Some(left) => format!("({done} of {total}, {rate}, {left} left)"),
        None => format!("({done} of {total}, {rate})"),
    }
}

fn rate(done: u64, elapsed: Duration) -> String {
    let milliseconds = u128_to_u64(elapsed.as_millis()).max(1);
    let tenths = done.saturating_mul(10_000) / milliseconds;
    match tenths {
        100.. => format!("{}/s", tenths / 10),
        _ => format!("{}.{}/s", tenths / 10, tenths % 10),
    }
}

/// How long the rest takes at the same rate. `None` before anything is known, and in the end.
fn left(done: u64, total: u64, elapsed: Duration) -> Option<String> {
    let rest = total.checked_sub(done).filter(|rest| *rest > 0)?;
    let seconds = u128_to_u64(elapsed.as_millis())
        .saturating_mul(rest)
        .checked_div(done)?
        / 1000;
    Some(match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    })
}

fn u128_to_u64(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn line_shows_the_share_that_is_done() {
        let (none, all) = (".".repeat(WIDTH), "#".repeat(WIDTH));
        assert_eq!(
            line("sealing", 0, 8, SECONDS(1)),
            format!("sealing [{none}]   0 % (0 of 8, 0.0/s)")
        );
        assert_eq!(
            line("sealing", 8, 8, SECONDS(1)),
            format!("sealing [{all}] 100 % (8 of 8, 8.0/s)")
        );
        // There may be more by now, or nothing at all.
        assert_eq!(
            line("sealing", 9, 8, SECONDS(1)),
            format!("sealing [{all}] 100 % (8 of 8, 8.0/s)")
        );
        assert_eq!(
            line("sealing", 0, 0, SECONDS(1)),
            format!("sealing [{all}] 100 % (0 of 0, 0.0/s)")
        );
    }

    #[test]
    fn rate_and_rest_follow_from_what_is_done() {
        let shown = |done, total, seconds| plain("importing", done, total, SECONDS(seconds));
        assert_eq!(
            shown(500, 1000, 10),
            "importing: 50 % (500 of 1000, 50/s, 10 s left)"
        );
        assert_eq!(
            shown(1, 91, 1),
            "importing: 1 % (1 of 91, 1.0/s, 1 min 30 s left)"
        );
        assert_eq!(
            shown(1, 7261, 1),
            "importing: 0 % (1 of 7261, 1.0/s, 2 h 01 min left)"
        );
    }

    #[tokio::test]
    async fn work_that_is_not_interrupted_ends_by_itself() {
        let done = interruptible(async { Ok(7) }, "again").await;
        assert!(matches!(done, Ok(7)), "{done:?}");
    }
}
