use std::io;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::advance;

use super::*;

/// A store of one value that can be stopped at the moment after it was read.
#[derive(Clone)]
struct Fake(Arc<State>);

struct State {
    value: Mutex<Option<u64>>,
    is_away: AtomicBool,
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
        if self.0.is_away.load(Ordering::SeqCst) {
            return Err(Unavailable {
                is_away: true,
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

    fn set_away(&self, is_away: bool) {
        self.0.is_away.store(is_away, Ordering::SeqCst);
    }

    fn reads(&self) -> usize {
        self.0.reads.load(Ordering::SeqCst)
    }
}

const OPEN: usize = 1 << 20;

fn start(value: Option<u64>, permits: usize) -> (Fake, Arc<Cache<Fake>>) {
    let fake = Fake(Arc::new(State {
        value: Mutex::new(value),
        is_away: AtomicBool::new(false),
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

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_is_read_once_and_again_when_it_is_old() {
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
async fn all_who_ask_at_once_share_one_read() {
    let (fake, cache) = start(Some(1), 0);
    let asking: Vec<_> = (0..100).map(|_| get_spawned(&cache)).collect();
    settle().await;
    fake.0.gate.add_permits(1);
    for asked in asking {
        assert_eq!(asked.await.unwrap(), Some(1));
    }
    assert_eq!(fake.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_goes_on_when_the_one_who_began_it_leaves() {
    let (fake, cache) = start(Some(1), 0);
    let first = get_spawned(&cache);
    settle().await;
    let second = get_spawned(&cache);
    settle().await;
    first.abort();
    fake.0.gate.add_permits(1);
    assert_eq!(second.await.unwrap(), Some(1));
    assert_eq!(fake.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_everybody_left_is_begun_anew() {
    let (fake, cache) = start(Some(1), 0);
    let left = get_spawned(&cache);
    settle().await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    fake.0.gate.add_permits(1);
    assert_eq!(get(&cache).await, Some(1));
    assert_eq!(fake.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_announcement_that_overtakes_a_read_wins() {
    let (fake, cache) = start(Some(1), 0);
    let slow = get_spawned(&cache);
    settle().await;
    fake.set(Some(2));
    cache.invalidate(&key(), |held| *held <= 2);
    let after = get_spawned(&cache);
    settle().await;
    fake.0.gate.add_permits(2);
    assert_eq!(slow.await.unwrap(), Some(1), "asked before the change");
    assert_eq!(after.await.unwrap(), Some(2), "asked after it");
    assert_eq!(get(&cache).await, Some(2), "the old value was not kept");
}

#[tokio::test(start_paused = true)]
async fn what_a_read_brings_after_an_announcement_is_not_kept() {
    let (fake, cache) = start(Some(1), 0);
    let slow = get_spawned(&cache);
    settle().await;
    fake.set(Some(2));
    cache.invalidate(&key(), |held| *held <= 2);
    fake.0.gate.add_permits(1);
    assert_eq!(slow.await.unwrap(), Some(1));
    assert_eq!(cache.peek(key().as_str()), None);
}

#[tokio::test(start_paused = true)]
async fn a_read_from_before_a_loss_is_neither_kept_nor_joined() {
    let (fake, cache) = start(Some(1), 0);
    let slow = get_spawned(&cache);
    settle().await;
    cache.lost();
    fake.set(Some(2));
    cache.restored();
    let after = get_spawned(&cache);
    settle().await;
    fake.0.gate.add_permits(2);
    assert_eq!(slow.await.unwrap(), Some(1));
    assert_eq!(after.await.unwrap(), Some(2));
    assert_eq!(cache.peek(key().as_str()), Some(Some(2)));
}

#[tokio::test(start_paused = true)]
async fn an_announcement_of_what_is_already_known_changes_nothing() {
    let (fake, cache) = start(Some(5), OPEN);
    get(&cache).await;
    cache.invalidate(&key(), |held| *held <= 4);
    assert_eq!(cache.peek(key().as_str()), Some(Some(5)));
    cache.invalidate(&key(), |held| *held <= 5);
    assert_eq!(cache.peek(key().as_str()), None);
    assert_eq!(fake.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lower_generation_never_replaces_a_higher_one() {
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
async fn without_announcements_nothing_comes_from_memory() {
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
        "it missed what came between"
    );
    get(&cache).await;
    cache.restored();
    assert_eq!(cache.peek(key().as_str()), Some(Some(2)));
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_what_is_held_serves() {
    let (fake, cache) = start(Some(1), OPEN);
    get(&cache).await;
    fake.set_away(true);
    cache.lost();
    for _ in 0..100 {
        assert_eq!(get(&cache).await, Some(1));
    }
    settle().await;
    assert_eq!(fake.reads(), 3, "one that failed, one probe");
    assert!(cache.get(&"unknown".to_owned()).await.is_err());

    fake.set_away(false);
    fake.set(Some(2));
    advance(PROBE_EVERY).await;
    assert_eq!(get(&cache).await, Some(1), "the probe is behind its back");
    settle().await;
    assert_eq!(get(&cache).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_keeps_nobody_waiting_who_holds_something() {
    let (fake, cache) = start(Some(1), 1);
    get(&cache).await;
    advance(Fake::MAX_AGE).await;
    let asked = Instant::now();
    assert_eq!(get(&cache).await, Some(1));
    assert_eq!(asked.elapsed(), PATIENCE);
    assert_eq!(get(&cache).await, Some(1));
    assert_eq!(asked.elapsed(), PATIENCE, "the next one does not even try");
    assert!(fake.reads() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_took_too_long_to_be_waited_for_is_kept_all_the_same() {
    let (fake, cache) = start(Some(1), 1);
    get(&cache).await;
    fake.set(Some(2));
    advance(Fake::MAX_AGE).await;
    assert_eq!(get(&cache).await, Some(1));
    fake.0.gate.add_permits(1);
    settle().await;
    assert_eq!(cache.peek(key().as_str()), Some(Some(2)));
    assert_eq!(fake.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_absent_is_known_for_a_second_and_bounded_in_number() {
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
async fn what_nobody_uses_is_forgotten() {
    let (_, cache) = start(Some(1), OPEN);
    get(&cache).await;
    advance(IDLE - Duration::from_secs(1)).await;
    cache.sweep();
    assert_eq!(cache.inner.held(&key()), Some(1));
    advance(Duration::from_secs(1)).await;
    cache.sweep();
    assert_eq!(cache.inner.held(&key()), None);
}
