//! Waits for conditions instead of fixed times.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The result of one check: a value, or the reason to keep waiting.
pub type Found<T> = Result<T, String>;

/// Checks repeatedly until the condition holds. Returns its value.
///
/// # Panics
/// If it does not hold within `patience`. The message has the last reason.
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

/// Converts a condition to the result of a check.
///
/// # Errors
/// The observed state, if the condition does not hold.
pub fn holds(is_so: bool, seen: impl Debug) -> Found<()> {
    if is_so {
        Ok(())
    } else {
        Err(format!("{seen:?}"))
    }
}
