//! Questions that many callers ask at a time, and a short memory of their answers. Both are bounded, since strangers may
//! choose what is asked.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::locks::lock;

/// Tasks, one at a time for each key. Callers of one key share its task.
#[derive(Debug)]
pub struct SingleFlight<K, V> {
    flights: Flights<K, V>,
    most: usize,
}

type Flights<K, V> = Arc<Mutex<HashMap<K, Flight<V>>>>;

type Flight<V> = Shared<oneshot::Receiver<V>>;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoFlight {
    /// As many keys as allowed are in flight.
    Full,
    /// The task ended without an answer. It panicked, or the process is stopping.
    Lost,
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// At most `most` keys are in flight.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            flights: Arc::default(),
            most,
        }
    }

    /// The answer of the task of this key. If there is none, `spawn` gets `work` as a new task, so that a caller that
    /// gives up does not cancel it for the others.
    ///
    /// # Errors
    /// See [`NoFlight`].
    pub async fn join<F>(
        &self,
        key: K,
        work: impl FnOnce() -> F,
        spawn: impl FnOnce(BoxFuture<'static, ()>),
    ) -> Result<V, NoFlight>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let flight = self.board(key, work, spawn).ok_or(NoFlight::Full)?;
        flight.await.map_err(|_| NoFlight::Lost)
    }

    fn board<F>(
        &self,
        key: K,
        work: impl FnOnce() -> F,
        spawn: impl FnOnce(BoxFuture<'static, ()>),
    ) -> Option<Flight<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(&key) {
            return Some(flight.clone());
        }
        if flights.len() >= self.most {
            return None;
        }
        let (answer, answered) = oneshot::channel::<V>();
        let flight = answered.shared();
        flights.insert(key.clone(), flight.clone());
        // A task that is refused lands at once, which takes the lock.
        drop(flights);
        let landing = Landing {
            key,
            flights: self.flights.clone(),
        };
        let work = work();
        let task = async move {
            let value = work.await;
            drop(landing);
            // It fails if nobody waits any more.
            let _ = answer.send(value);
        };
        spawn(task.boxed());
        Some(flight)
    }
}

/// Removes the key at the end of its task, also if the task panics or never runs.
struct Landing<K: Eq + Hash, V> {
    key: K,
    flights: Flights<K, V>,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        lock(&self.flights).remove(&self.key);
    }
}

/// Keys that are remembered for a fixed time.
#[derive(Debug)]
pub struct ShortMemory<K> {
    since: Mutex<HashMap<K, Instant>>,
    time: Duration,
    most: usize,
}

impl<K: Eq + Hash> ShortMemory<K> {
    /// Remembers at most `most` keys, each for this time.
    #[must_use]
    pub fn new(time: Duration, most: usize) -> Self {
        Self {
            since: Mutex::default(),
            time,
            most,
        }
    }

    /// Whether the key is remembered.
    pub fn has(&self, key: &K) -> bool {
        let since = lock(&self.since);
        since.get(key).is_some_and(|at| at.elapsed() < self.time)
    }

    /// Remembers the key, if there is room.
    pub fn remember(&self, key: K) {
        let mut since = lock(&self.since);
        if since.len() >= self.most {
            since.retain(|_, at| at.elapsed() < self.time);
        }
        if since.len() < self.most {
            since.insert(key, Instant::now());
        }
    }

    /// Forgets all keys.
    pub fn clear(&self) {
        lock(&self.since).clear();
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::pin;

    use futures_util::future::join;
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn spawn(task: BoxFuture<'static, ()>) {
        drop(tokio::spawn(task));
    }

    #[tokio::test]
    async fn callers_of_one_key_share_a_task() {
        let flights = SingleFlight::new(2);
        let first = flights.join("a", || ready(1), spawn);
        let second = flights.join("a", || ready(2), spawn);
        let other = flights.join("b", || ready(3), spawn);
        let answers = join(join(first, second), other).await;
        assert_eq!(answers, ((Ok(1), Ok(1)), Ok(3)));
        // The first task has ended.
        let later = flights.join("a", || ready(4), spawn).await;
        assert_eq!(later, Ok(4));
    }

    #[tokio::test]
    async fn key_beyond_the_bound_is_refused_until_another_has_ended() {
        let flights = SingleFlight::new(1);
        let (end, ended) = oneshot::channel::<()>();
        let work = || async move { ended.await.is_ok() };
        let mut first = pin!(flights.join("a", work, spawn));
        assert_eq!(first.as_mut().now_or_never(), None);
        let second = || flights.join("b", || ready(true), spawn);
        assert_eq!(second().await, Err(NoFlight::Full));
        end.send(()).unwrap();
        assert_eq!(first.await, Ok(true));
        assert_eq!(second().await, Ok(true));
    }

    #[tokio::test]
    async fn task_that_never_runs_makes_room() {
        let flights = SingleFlight::new(1);
        let lost = flights.join("a", || ready(1), drop).await;
        assert_eq!(lost, Err(NoFlight::Lost));
        assert_eq!(flights.join("a", || ready(2), spawn).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_remembered_for_a_while_as_far_as_there_is_room() {
        let memory = ShortMemory::new(SECOND, 1);
        memory.remember("a");
        memory.remember("b");
        assert!(memory.has(&"a") && !memory.has(&"b"));
        advance(SECOND).await;
        assert!(!memory.has(&"a"));
        memory.remember("b");
        assert!(memory.has(&"b"));
        memory.clear();
        assert!(!memory.has(&"b"));
    }
}
