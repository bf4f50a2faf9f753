use super::*;
use crate::upstream::{Failure, Peer};

fn limit() -> Arc<Limit> {
    Arc::new(Limit::new(Arc::new(Queued::new())))
}

fn claim(caller: &str, patience_ms: u64) -> Claim {
    Claim {
        caller: Some(KeyHash::of(caller)),
        deadline: Instant::now() + Duration::from_millis(patience_ms),
        held: 0,
    }
}

fn answer(remaining: u32) -> Result<Response, Error> {
    let mut answer = Response::default();
    let headers = answer.headers_mut();
    headers.insert("x-ratelimit-max", 100.into());
    headers.insert("x-ratelimit-interval-milliseconds", 1000.into());
    headers.insert("x-ratelimit-remaining", remaining.into());
    Ok(answer)
}

/// A location whose window was used up this moment.
fn used_up() -> Arc<Limit> {
    let limit = limit();
    limit.permit().unwrap().go().over(&answer(0));
    limit
}

fn waiting(limit: &Limit) -> usize {
    locked(&limit.state).queue.len()
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_in_the_next_window() {
    let limit = used_up();
    let started = Instant::now();
    assert!(limit.permit().is_none());
    let permit = limit.turn(claim("a", 5000), Rank::New).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    permit.go().over(&answer(99));
    assert_eq!(waiting(&limit), 0);
    assert!(limit.permit().is_some());
}

#[tokio::test(start_paused = true)]
async fn who_would_come_too_late_is_told_at_once() {
    let limit = used_up();
    let started = Instant::now();
    let late = limit.turn(claim("a", 900), Rank::New).await;
    let Err(Limited::Interval { retry_after, .. }) = late else {
        panic!("{:?}", late.err());
    };
    assert!(retry_after > Duration::from_millis(900));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_at_its_deadline() {
    let limit = used_up();
    let started = Instant::now();
    // One call goes, and its answer never comes.
    let first = limit.turn(claim("a", 1500), Rank::New);
    let second = limit.turn(claim("a", 1500), Rank::New);
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(second, Err(Limited::Interval { .. })));
    assert_eq!(started.elapsed(), Duration::from_millis(1500));
    assert_eq!(waiting(&limit), 0);
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_leaves_the_queue_and_its_turn() {
    let limit = used_up();
    let gone = tokio::time::timeout(
        Duration::from_millis(10),
        limit.turn(claim("a", 5000), Rank::New),
    );
    assert!(gone.await.is_err());
    assert_eq!(waiting(&limit), 0);
    let stays = limit.turn(claim("a", 5000), Rank::New);
    drop(stays.await.unwrap());
    assert!(
        limit.permit().is_some(),
        "a permit that is dropped was free"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_went_stays_counted_until_its_window_ends() {
    let failed = |kind| {
        Err(Error::Upstream(Failure {
            peer: Peer::Ghl,
            kind,
            source: None,
        }))
    };
    let all = |limit: &Arc<Limit>| {
        let permits: Vec<Permit> = std::iter::from_fn(|| limit.permit()).collect();
        permits
    };
    let limit = limit();
    limit.permit().unwrap().go().over(&answer(99));
    let count = all(&limit).len();
    assert_eq!(all(&limit).len(), count, "none of them went");
    for permit in all(&limit) {
        permit.go().over(&failed(Kind::Unreachable));
    }
    assert_eq!(all(&limit).len(), count, "none of them arrived");
    for (number, permit) in all(&limit).into_iter().enumerate() {
        match number % 2 {
            // Its caller is gone.
            0 => drop(permit.go()),
            _ => permit.go().over(&failed(Kind::Silent)),
        }
    }
    assert!(limit.permit().is_none());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(limit.permit().is_some());
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_there_is_room_for() {
    let limit = used_up();
    let calls: Vec<_> = (0..CAPACITY)
        .map(|_| {
            let limit = limit.clone();
            tokio::spawn(async move { limit.turn(claim("a", 60_000), Rank::New).await.is_ok() })
        })
        .collect();
    while waiting(&limit) < CAPACITY {
        tokio::task::yield_now().await;
    }
    let full = limit.turn(claim("b", 60_000), Rank::New).await;
    assert!(matches!(full, Err(Limited::Full { .. })));
    for call in &calls {
        call.abort();
    }
    for call in calls {
        assert!(call.await.is_err());
    }
    assert_eq!(waiting(&limit), 0);
}
