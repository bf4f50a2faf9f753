//! A wall clock that a test sets while a program runs by it. Its other clocks run on: only the
//! time of day is wrong.

use crate::scratch::Scratch;

/// `$LIB` is the dynamic linker's: where this machine's libraries are.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

#[derive(Debug)]
pub struct WallClock {
    scratch: Scratch,
}

impl WallClock {
    /// One that is wrong by so much: `+1h`, `-7m`.
    ///
    /// # Panics
    /// When its file cannot be written.
    #[must_use]
    pub fn wrong_by(offset: &str) -> Self {
        let clock = Self {
            scratch: Scratch::new(),
        };
        clock.set(offset);
        clock
    }

    /// Jumps.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn set(&self, offset: &str) {
        // In one step: it is read all the time.
        let new = self.scratch.join("new");
        std::fs::write(&new, offset).expect("a file");
        std::fs::rename(new, self.scratch.join("offset")).expect("the same directory");
    }

    /// What a program is to be started with.
    #[must_use]
    pub fn settings(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", LIBRARY.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.scratch.join("offset")),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}
