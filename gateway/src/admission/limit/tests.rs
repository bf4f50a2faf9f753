use super::*;

fn limit() -> Arc<RateLimit> {
    Arc::new(RateLimit::new(Arc::new(Queued::new())))
}

fn request(caller: &str, patience_ms: u64) -> AdmissionRequest {
    AdmissionRequest {
        caller: Some(KeyHash::of(caller)),
        deadline: Instant::now() + Duration::from_millis(patience_ms),
        held: 0,
    }
}

fn answer(remaining: u32) -> Outcome {
    Outcome::Answered(RateLimitHeaders {
        max: Some(100),
        interval: Some(Duration::from_secs(1)),
        remaining: Some(remaining),
        ..RateLimitHeaders::default()
    })
}

/// A location whose window was used up this moment.
fn used_up() -> Arc<RateLimit> {
    let limit = limit();
    limit.try_permit().unwrap().go().over(answer(0));
    limit
}

fn waiting(limit: &RateLimit) -> usize {
    lock(&limit.state).queue.len()
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_in_the_next_window() {
    let limit = used_up();
    let started = Instant::now();
    assert!(limit.try_permit().is_none());
    let permit = limit
        .wait_for_permit(request("a", 5000), Priority::New)
        .await
        .unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    permit.go().over(answer(99));
    assert_eq!(waiting(&limit), 0);
    assert!(limit.try_permit().is_some());
}

#[tokio::test(start_paused = true)]
async fn who_would_come_too_late_is_told_at_once() {
    let limit = used_up();
    let started = Instant::now();
    let late = limit
        .wait_for_permit(request("a", 900), Priority::New)
        .await;
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
    let first = limit.wait_for_permit(request("a", 1500), Priority::New);
    let second = limit.wait_for_permit(request("a", 1500), Priority::New);
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
        limit.wait_for_permit(request("a", 5000), Priority::New),
    );
    assert!(gone.await.is_err());
    assert_eq!(waiting(&limit), 0);
    let stays = limit.wait_for_permit(request("a", 5000), Priority::New);
    drop(stays.await.unwrap());
    assert!(
        limit.try_permit().is_some(),
        "a permit that is dropped was free"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_went_stays_counted_until_its_window_ends() {
    let all = |limit: &Arc<RateLimit>| {
        let permits: Vec<Permit> = std::iter::from_fn(|| limit.try_permit()).collect();
        permits
    };
    let limit = limit();
    limit.try_permit().unwrap().go().over(answer(99));
    let count = all(&limit).len();
    assert_eq!(all(&limit).len(), count, "none of them went");
    for permit in all(&limit) {
        permit.go().over(Outcome::NotSent);
    }
    assert_eq!(all(&limit).len(), count, "none of them arrived");
    for (number, permit) in all(&limit).into_iter().enumerate() {
        match number % 2 {
            // Its caller is gone.
            0 => drop(permit.go()),
            _ => permit.go().over(Outcome::Unknown),
        }
    }
    assert!(limit.try_permit().is_none());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(limit.try_permit().is_some());
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_there_is_room_for() {
    let limit = used_up();
    let calls: Vec<_> = (0..CAPACITY)
        .map(|_| {
            let limit = limit.clone();
            tokio::spawn(async move {
                limit
                    .wait_for_permit(request("a", 60_000), Priority::New)
                    .await
                    .is_ok()
            })
        })
        .collect();
    while waiting(&limit) < CAPACITY {
        tokio::task::yield_now().await;
    }
    let full = limit
        .wait_for_permit(request("b", 60_000), Priority::New)
        .await;
    assert!(matches!(full, Err(Limited::Full { .. })));
    for call in &calls {
        call.abort();
    }
    for call in calls {
        assert!(call.await.is_err());
    }
    assert_eq!(waiting(&limit), 0);
}
