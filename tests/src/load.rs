//! Calls at a constant rate, and the results.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Client;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client;

/// The number of responses by status. 0 means no response.
#[derive(Debug, Default, Clone)]
pub struct LoadResult {
    pub responses: BTreeMap<u16, u64>,
    /// The first unsuccessful responses, with their times.
    pub failures: Vec<String>,
}

impl LoadResult {
    #[must_use]
    pub fn total(&self) -> u64 {
        self.responses.values().sum()
    }

    /// Adds those of other calls.
    pub fn add(&mut self, other: Self) {
        for (status, count) in other.responses {
            *self.responses.entry(status).or_default() += count;
        }
        self.failures.extend(other.failures);
    }

    /// # Panics
    /// If a response was unsuccessful.
    pub fn expect_success(&self) {
        let failed: u64 = self
            .responses
            .iter()
            .filter(|(s, _)| **s != 200)
            .map(|(_, n)| n)
            .sum();
        assert_eq!(
            failed,
            0,
            "{:?}\n{}",
            self.responses,
            self.failures.join("\n")
        );
    }
}

/// Lists the products of these installations in turn, `rate` times a second for `length`.
///
/// Slow calls do not delay the following ones.
///
/// # Panics
/// Never in a test that has not panicked before.
pub async fn steady_load(
    client: &Client,
    public: &str,
    installations: &[String],
    rate: u32,
    length: Duration,
) -> LoadResult {
    let result = Arc::new(Mutex::new(LoadResult::default()));
    let started = Instant::now();
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = JoinSet::new();
    let mut names = installations.iter().cycle();
    while started.elapsed() < length {
        ticks.tick().await;
        let Some(name) = names.next() else { break };
        let url = format!("{public}/api/ghl/products?installation_id={name}&limit=5&offset=0");
        let (client, result) = (client.clone(), result.clone());
        calls.spawn(async move {
            let response = client.get(&url).send().await;
            let (status, detail) = match response {
                Ok(response) => (
                    response.status().as_u16(),
                    client::body(response).await.to_string(),
                ),
                Err(error) => (0, error.to_string()),
            };
            let mut result = result.lock().expect("not poisoned");
            *result.responses.entry(status).or_default() += 1;
            if status != 200 && result.failures.len() < 20 {
                result
                    .failures
                    .push(format!("{:?}: {url} {status} {detail}", started.elapsed()));
            }
        });
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
    let result = result.lock().expect("not poisoned");
    result.clone()
}
