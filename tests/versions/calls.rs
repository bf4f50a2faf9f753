//! Calls at a constant rate, until they are stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Client;
use tests::load::{LoadResult, steady_load};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Calls a second.
const RATE: u32 = 50;
/// How soon they stop.
const SLICE: Duration = Duration::from_secs(3);

pub(crate) struct Calls {
    is_over: Arc<AtomicBool>,
    calling: JoinHandle<LoadResult>,
}

impl Calls {
    /// Lists the products of these locations in turn.
    pub(crate) fn start(client: Client, public: String, names: Vec<String>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let calling = tokio::spawn(async move {
            let mut result = LoadResult::default();
            let started = Instant::now();
            while !over.load(Ordering::Relaxed) {
                let mut slice = steady_load(&client, &public, &names, RATE, SLICE).await;
                let from = started.elapsed();
                for failure in &mut slice.failures {
                    *failure = format!("until {from:?}, after {failure}");
                }
                result.add(slice);
            }
            result
        });
        Self { is_over, calling }
    }

    /// Stops, and expects that every call has succeeded.
    pub(crate) async fn expect_success(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let result = self.calling.await.unwrap();
        result.expect_success();
        println!("{} calls", result.total());
        assert!(result.total() > 1000, "{:?}", result.responses);
    }
}
