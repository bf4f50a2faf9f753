//! Waiting for conditions, never for time.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// What a condition found: done with a value, or not yet and why.
pub type Found<T> = Result<T, String>;

/// Asks until the condition holds, and returns what it found.
///
/// # Panics
/// When it does not hold within `patience`; says what was last seen.
pub async fn until<T, F>(what: &str, patience: Duration, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Found<T>>,
{
    let deadline = Instant::now() + patience;
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(seen) => assert!(
                Instant::now() < deadline,
                "waited {patience:?} for {what}; last seen: {seen}"
            ),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Turns "it is so" into a finding.
///
/// # Errors
/// With what was seen, where it is not so.
pub fn holds(is_so: bool, seen: impl Debug) -> Found<()> {
    if is_so {
        Ok(())
    } else {
        Err(format!("{seen:?}"))
    }
}
