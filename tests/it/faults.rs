//! Refreshes when the token endpoint fails or misbehaves.

mod client_credentials;
mod connection;
mod ghl_failures;
mod ghl_outages;
mod undocumented_responses;

use std::time::Duration;

use tests::program::Program;

const PATIENCE: Duration = Duration::from_secs(40);

/// The log lines of a program that contain a word.
fn lines(program: &Program, word: &str) -> Vec<String> {
    let log = program.log();
    log.into_iter().filter(|line| line.contains(word)).collect()
}
