//! This version and the previous one side by side, over one store and under load. `tests/upgrade` builds the previous
//! version and runs these tests. Without it they are ignored, since they need `EVERGREEN_PREVIOUS_BIN`.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod calls;
mod deployment;
mod rolling;
mod up;

use std::path::PathBuf;

use tests::program::Start;

/// A version of evergreen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// `EVERGREEN_PREVIOUS_BIN`. It has no external ids, no tags and no events.
    Previous,
    /// This source tree.
    Current,
}

impl Version {
    fn program(self) -> PathBuf {
        match self {
            Self::Previous => previous("EVERGREEN_PREVIOUS_BIN"),
            Self::Current => Start::evergreen(&[]).program,
        }
    }

    fn start(self, command: &[&str]) -> Start {
        Start {
            program: self.program(),
            ..Start::evergreen(command)
        }
    }

    /// The `deploy/users.acl` of this version.
    fn users(self) -> PathBuf {
        match self {
            Self::Previous => previous("EVERGREEN_PREVIOUS_USERS"),
            Self::Current => concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/users.acl").into(),
        }
    }
}

fn previous(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.unwrap_or_else(|| panic!("{variable} is not set: run tests/upgrade"))
        .into()
}
