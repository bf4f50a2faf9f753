//! GHL's moods: what refreshes do when the token endpoint misbehaves.

mod bad_hours;
mod client_pair;
mod connection;
mod moods;
mod odd_answers;
mod overload;

use std::time::Duration;

use reqwest::Client;
use tests::client::get;
use tests::program::Program;

const PATIENCE: Duration = Duration::from_secs(40);

/// What a program has said so far that contains the word.
fn lines(program: &Program, word: &str) -> Vec<String> {
    let log = program.log();
    log.into_iter().filter(|line| line.contains(word)).collect()
}

/// A metric without labels.
async fn gauge(client: &Client, internal: &str, name: &str) -> Option<String> {
    let (_, text) = get(client, &format!("{internal}/metrics")).await;
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
    text.as_str()?.lines().find_map(value)
}
