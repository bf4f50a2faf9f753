use std::io;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::advance;

use super::*;

/// A store of one value. It can hold a read after the value was taken.
#[derive(Clone)]
struct Fake(Arc<State>);

struct State {
    value: Mutex<Option<u64>>,
    is_store_down: AtomicBool,
    reads: AtomicUsize,
    /// A read takes a permit between taking the value and handing it over.
    gate: Semaphore,
}

impl Source for Fake {
    type Key = String;
    type Value = u64;
    const MAX_AGE: Duration = Duration::from_secs(30);

    async fn read(&self, _: &String) -> Result<Option<u64>, Unavailable> {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        let value = *lock(&self.0.value);
        let permit = self.0.gate.acquire().await.unwrap();
        permit.forget();
        if self.0.is_store_down.load(Ordering::SeqCst) {
            return Err(Unavailable {
                is_store_down: true,
                source: Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused)),
            });
        }
        Ok(value)
    }

    fn choose(&self, new: u64, held: &u64) -> u64 {
        new.max(*held)
    }
}

impl Fake {
    fn set(&self, value: Option<u64>) {
        *lock(&self.0.value) = value;
    }

    fn set_store_down(&self, is_store_down: bool) {
        self.0.is_store_down.store(is_store_down, Ordering::SeqCst);
    }

    fn reads(&self) -> usize {
        self.0.reads.load(Ordering::SeqCst)
    }
}

const OPEN: usize = 1 << 20;

fn start(value: Option<u64>, permits: usize) -> (Fake, Arc<Cache<Fake>>) {
    let fake = Fake(Arc::new(State {
        value: Mutex::new(value),
        is_store_down: AtomicBool::new(false),
        reads: AtomicUsize::new(0),
        gate: Semaphore::new(permits),
    }));
    let cache = Cache::new(fake.clone(), Counters::none());
    cache.restored();
    (fake, Arc::new(cache))
}

fn key() -> String {
    "install_1".to_owned()
}

async fn get(cache: &Cache<Fake>) -> Option<u64> {
    cache.get(&key()).await.unwrap()
}

fn get_spawned(cache: &Arc<Cache<Fake>>) -> JoinHandle<Option<u64>> {
    let cache = Arc::clone(cache);
    tokio::spawn(async move { get(&cache).await })
}

async fn run_tasks() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn value_is_read_again_after_its_maximum_age() {
    let (fake, cache) = start(Some(1), OPEN);
    assert_eq!(cache.peek(key().as_str()), None);
    assert_eq!(get(&cache).await, Some(1));
    fake.set(Some(2));
    advance(Duration::from_millis(29_999)).await;
    assert_eq!(cache.peek(key().as_str()), Some(Some(1)));
    advance(Duration::from_millis(1)).await;
    assert_eq!(get(&cache).await, Some(2));
    assert_eq!(fake.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn concurrent_lookups_share_one_read() {
    let (fake, cache) = start(Some(1), 0);
    let asking: Vec<_> = (0..100).map(|_| get_spawned(&cache)).collect();
    run_tasks().await;
    fake.0.gate.add_permits(1);
    for asked in asking {
        assert_eq!(asked.await.unwrap(), Some(1));
    }
    assert_eq!(fake.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn read_continues_after_its_first_waiter_is_cancelled() {
    let (fake, cache) = start(Some(1), 0);
    let first = get_spawned(&cache);
    run_tasks().await;
    let second = get_spawned(&cache);
    run_tasks().await;
    first.abort();
    fake.0.gate.add_permits(1);
    assert_eq!(second.await.unwrap(), Some(1));
    assert_eq!(fake.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn read_without_waiters_is_restarted() {
    let (fake, cache) = start(Some(1), 0);
    let left = get_spawned(&cache);
    run_tasks().await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    fake.0.gate.add_permits(1);
    assert_eq!(get(&cache).await, Some(1));
    assert_eq!(fake.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn invalidation_during_a_read_starts_a_new_read() {
    let (fake, cache) = start(Some(1), 0);
    let slow = get_spawned(&cache);
    run_tasks().await;
    fake.set(Some(2));
    cache.invalidate(&key(), |held| *held <= 2);
    let after = get_spawned(&cache);
    run_tasks().await;
    fake.0.gate.add_permits(2);
    assert_eq!(slow.await.unwrap(), Some(1), "asked before the change");
    assert_eq!(after.await.unwrap(), Some(2), "asked after it");
    assert_eq!(get(&cache).await, Some(2), "the old value was not cached");
}

#[tokio::test(start_paused = true)]
async fn invalidated_read_is_not_cached() {
    let (fake, cache) = start(Some(1), 0);
    let slow = get_spawned(&cache);
    run_tasks().await;
    fake.set(Some(2));
    cache.invalidate(&key(), |held| *held <= 2);
    fake.0.gate.add_permits(1);
    assert_eq!(slow.await.unwrap(), Some(1));
    assert_eq!(cache.peek(key().as_str()), None);
}

#[tokio::test(start_paused = true)]
async fn read_from_before_a_channel_loss_is_neither_cached_nor_joined() {
    let (fake, cache) = start(Some(1), 0);
    let slow = get_spawned(&cache);
    run_tasks().await;
    cache.lost();
    fake.set(Some(2));
    cache.restored();
    let after = get_spawned(&cache);
    run_tasks().await;
    fake.0.gate.add_permits(2);
    assert_eq!(slow.await.unwrap(), Some(1));
    assert_eq!(after.await.unwrap(), Some(2));
    assert_eq!(cache.peek(key().as_str()), Some(Some(2)));
}

#[tokio::test(start_paused = true)]
async fn invalidation_for_an_older_value_is_ignored() {
    let (fake, cache) = start(Some(5), OPEN);
    get(&cache).await;
    cache.invalidate(&key(), |held| *held <= 4);
    assert_eq!(cache.peek(key().as_str()), Some(Some(5)));
    cache.invalidate(&key(), |held| *held <= 5);
    assert_eq!(cache.peek(key().as_str()), None);
    assert_eq!(fake.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn lower_generation_does_not_replace_a_higher_one() {
    let (fake, cache) = start(Some(5), OPEN);
    get(&cache).await;
    fake.set(Some(4));
    cache.invalidate(&key(), |_| true);
    assert_eq!(get(&cache).await, Some(5));
    fake.set(Some(6));
    cache.invalidate(&key(), |_| true);
    assert_eq!(get(&cache).await, Some(6));
    assert_eq!(fake.reads(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_announcements_every_lookup_reads_the_store() {
    let (fake, cache) = start(Some(1), OPEN);
    get(&cache).await;
    cache.lost();
    get(&cache).await;
    fake.set(Some(2));
    assert_eq!(get(&cache).await, Some(2));
    assert_eq!(fake.reads(), 3);
    cache.restored();
    assert_eq!(
        cache.peek(key().as_str()),
        None,
        "it missed the announcements in between"
    );
    get(&cache).await;
    cache.restored();
    assert_eq!(cache.peek(key().as_str()), Some(Some(2)));
}

#[tokio::test(start_paused = true)]
async fn cached_value_is_served_while_the_store_is_down() {
    let (fake, cache) = start(Some(1), OPEN);
    get(&cache).await;
    fake.set_store_down(true);
    cache.lost();
    for _ in 0..100 {
        assert_eq!(get(&cache).await, Some(1));
    }
    run_tasks().await;
    assert_eq!(fake.reads(), 3, "one failed read, one probe");
    assert!(cache.get(&"unknown".to_owned()).await.is_err());

    fake.set_store_down(false);
    fake.set(Some(2));
    advance(PROBE_EVERY).await;
    assert_eq!(
        get(&cache).await,
        Some(1),
        "the probe runs in the background"
    );
    run_tasks().await;
    assert_eq!(get(&cache).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn hanging_store_delays_a_cached_value_only_once() {
    let (fake, cache) = start(Some(1), 1);
    get(&cache).await;
    advance(Fake::MAX_AGE).await;
    let asked = Instant::now();
    assert_eq!(get(&cache).await, Some(1));
    assert_eq!(asked.elapsed(), READ_TIMEOUT);
    assert_eq!(get(&cache).await, Some(1));
    assert_eq!(
        asked.elapsed(),
        READ_TIMEOUT,
        "the next lookup does not wait"
    );
    assert!(fake.reads() >= 2);
}

#[tokio::test(start_paused = true)]
async fn slow_read_is_cached_after_its_waiter_timed_out() {
    let (fake, cache) = start(Some(1), 1);
    get(&cache).await;
    fake.set(Some(2));
    advance(Fake::MAX_AGE).await;
    assert_eq!(get(&cache).await, Some(1));
    fake.0.gate.add_permits(1);
    run_tasks().await;
    assert_eq!(cache.peek(key().as_str()), Some(Some(2)));
    assert_eq!(fake.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn absent_values_are_cached_for_a_second_and_bounded() {
    let (fake, cache) = start(None, OPEN);
    assert_eq!(get(&cache).await, None);
    assert_eq!(cache.peek(key().as_str()), Some(None));
    advance(Duration::from_secs(1)).await;
    assert_eq!(cache.peek(key().as_str()), None);
    fake.set(Some(1));
    assert_eq!(get(&cache).await, Some(1));

    fake.set(None);
    for invented in 0..50_000 {
        cache.get(&invented.to_string()).await.unwrap();
    }
    let shards = &cache.inner.shards;
    let kept: usize = shards.iter().map(|shard| read(shard).slots.len()).sum();
    assert!(kept <= SHARDS * MAX_ABSENT_PER_SHARD + 1, "{kept}");
    assert_eq!(cache.peek(key().as_str()), Some(Some(1)));
}

#[tokio::test(start_paused = true)]
async fn unused_entries_are_evicted() {
    let (_, cache) = start(Some(1), OPEN);
    get(&cache).await;
    advance(IDLE - Duration::from_secs(1)).await;
    cache.sweep();
    assert_eq!(cache.inner.held(&key()), Some(1));
    advance(Duration::from_secs(1)).await;
    cache.sweep();
    assert_eq!(cache.inner.held(&key()), None);
}
