//! Limits of what runs at once, while they change.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Changes how many permits there are, from `before` to `now`. Permits that are in use are taken away when they come back,
/// once those who wait already have got one. It needs the runtime.
pub fn resize(permits: &Arc<Semaphore>, before: usize, now: usize) {
    if now >= before {
        permits.add_permits(now - before);
        return;
    }
    let in_use = (before - now) - permits.forget_permits(before - now);
    if in_use > 0 {
        let permits = Arc::clone(permits);
        drop(tokio::spawn(async move {
            // All at once: for each alone it would be in line anew, and an overload would keep the limit as it was.
            let many = u32::try_from(in_use).unwrap_or(u32::MAX);
            // Nobody closes it.
            if let Ok(taken) = permits.acquire_many(many).await {
                taken.forget();
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    #[tokio::test]
    async fn permits_are_taken_away_before_those_get_one_who_wait_later() {
        let permits = Arc::new(Semaphore::new(4));
        let take = || Arc::clone(&permits).try_acquire_owned().ok();
        let mut held: Vec<_> = std::iter::from_fn(take).collect();
        resize(&permits, 4, 1);
        yield_now().await;
        let served = Arc::new(AtomicUsize::new(0));
        for _ in 0..8 {
            let (permits, served) = (Arc::clone(&permits), Arc::clone(&served));
            drop(tokio::spawn(async move {
                if permits.acquire().await.is_ok() {
                    served.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        yield_now().await;
        held.truncate(1);
        yield_now().await;
        assert_eq!(served.load(Ordering::Relaxed), 0);
        held.clear();
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(served.load(Ordering::Relaxed), 8);
        assert_eq!(permits.available_permits(), 1);
    }
}
