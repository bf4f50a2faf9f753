//! The log of a run: lines for people, and a hash that distinguishes two runs.

use std::fmt::{self, Write};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Log {
    hash: u64,
    line: String,
    /// Kept only on request.
    lines: Option<Vec<String>>,
}

impl Log {
    pub(super) fn new(is_kept: bool) -> Self {
        Self {
            // FNV-1a.
            hash: 0xcbf2_9ce4_8422_2325,
            line: String::new(),
            lines: is_kept.then(Vec::new),
        }
    }

    pub(super) fn add(&mut self, at: Duration, event: fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a String does not fail.
        let _ = write!(self.line, "{:>9.3} {event}", at.as_secs_f64());
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(self.line.clone());
        }
    }

    /// A line for people that is not part of the hash.
    pub(super) fn comment(&mut self, at: Duration, text: &str) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9.3}     {text}", at.as_secs_f64()));
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
