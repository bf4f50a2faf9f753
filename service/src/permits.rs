//! Limits of what runs at once, while they change.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Changes how many permits there are, from `before` to `now`. Permits that are in use are taken away one by one when
/// they come back. Waiting for them, it is in line behind those who wait already. It needs the runtime.
pub fn resize(permits: &Arc<Semaphore>, before: usize, now: usize) {
    if now >= before {
        permits.add_permits(now - before);
        return;
    }
    let in_use = (before - now) - permits.forget_permits(before - now);
    if in_use > 0 {
        let permits = Arc::clone(permits);
        drop(tokio::spawn(async move {
            for _ in 0..in_use {
                // Nobody closes it.
                let Ok(permit) = permits.acquire().await else {
                    return;
                };
                permit.forget();
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn permits_in_use_are_taken_away_when_they_come_back() {
        let permits = Arc::new(Semaphore::new(3));
        let take = || Arc::clone(&permits).try_acquire_owned().ok();
        let mut held: Vec<_> = std::iter::from_fn(take).collect();
        resize(&permits, 3, 1);
        yield_now().await;
        for left in [2, 1] {
            held.pop();
            yield_now().await;
            assert_eq!((held.len(), permits.available_permits()), (left, 0));
        }
        held.pop();
        assert_eq!(permits.available_permits(), 1);
        resize(&permits, 1, 4);
        assert_eq!(permits.available_permits(), 4);
        resize(&permits, 4, 2);
        assert_eq!(permits.available_permits(), 2);
    }
}
