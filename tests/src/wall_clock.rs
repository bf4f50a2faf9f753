//! A wall clock that a test controls while a program uses it. The program's monotonic clocks are not affected.

use crate::scratch::Scratch;

/// The dynamic linker replaces `$LIB` with this machine's library directory.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

#[derive(Debug)]
pub struct WallClock {
    scratch: Scratch,
}

impl WallClock {
    /// A clock with this offset, such as `+1h` or `-7m`.
    ///
    /// # Panics
    /// If its file cannot be written.
    #[must_use]
    pub fn wrong_by(offset: &str) -> Self {
        let clock = Self {
            scratch: Scratch::new(),
        };
        clock.set(offset);
        clock
    }

    /// Steps the clock to this offset.
    ///
    /// # Panics
    /// If its file cannot be written.
    pub fn set(&self, offset: &str) {
        // Replace it atomically, since programs read it constantly.
        let new = self.scratch.join("new");
        std::fs::write(&new, offset).expect("a file");
        std::fs::rename(new, self.scratch.join("offset")).expect("the same directory");
    }

    /// The environment of a program that uses this clock.
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
