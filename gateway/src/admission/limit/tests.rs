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

/// A rate limit whose window has just been exhausted.
fn used_up() -> Arc<RateLimit> {
    let limit = limit();
    limit.try_permit().unwrap().use_for_call().finish(answer(0));
    limit
}

fn waiting(limit: &RateLimit) -> usize {
    lock(&limit.state).queue.len()
}

#[tokio::test(start_paused = true)]
async fn queued_call_is_sent_in_the_next_window() {
    let limit = used_up();
    let started = Instant::now();
    assert!(limit.try_permit().is_none());
    let permit = limit
        .wait_for_permit(request("a", 5000), Priority::New)
        .await
        .unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    permit.use_for_call().finish(answer(99));
    assert_eq!(waiting(&limit), 0);
    assert!(limit.try_permit().is_some());
}

#[tokio::test(start_paused = true)]
async fn call_that_cannot_meet_its_deadline_is_refused_at_once() {
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
async fn queued_call_is_refused_at_its_deadline() {
    let limit = used_up();
    let started = Instant::now();
    // One call is sent, and its response never arrives.
    let first = limit.wait_for_permit(request("a", 1500), Priority::New);
    let second = limit.wait_for_permit(request("a", 1500), Priority::New);
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(second, Err(Limited::Interval { .. })));
    assert_eq!(started.elapsed(), Duration::from_millis(1500));
    assert_eq!(waiting(&limit), 0);
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn cancelled_call_leaves_the_queue_and_returns_its_permit() {
    let limit = used_up();
    let cancelled = tokio::time::timeout(
        Duration::from_millis(10),
        limit.wait_for_permit(request("a", 5000), Priority::New),
    );
    assert!(cancelled.await.is_err());
    assert_eq!(waiting(&limit), 0);
    let stays = limit.wait_for_permit(request("a", 5000), Priority::New);
    drop(stays.await.unwrap());
    assert!(
        limit.try_permit().is_some(),
        "the dropped permit was returned"
    );
}

#[tokio::test(start_paused = true)]
async fn sent_call_stays_counted_until_its_window_ends() {
    let all = |limit: &Arc<RateLimit>| {
        let permits: Vec<Permit> = std::iter::from_fn(|| limit.try_permit()).collect();
        permits
    };
    let limit = limit();
    limit
        .try_permit()
        .unwrap()
        .use_for_call()
        .finish(answer(99));
    let count = all(&limit).len();
    assert_eq!(all(&limit).len(), count, "none of them was sent");
    for permit in all(&limit) {
        permit.use_for_call().finish(Outcome::NotSent);
    }
    assert_eq!(all(&limit).len(), count, "none of them reached GHL");
    for (number, permit) in all(&limit).into_iter().enumerate() {
        match number % 2 {
            // Its caller has cancelled.
            0 => drop(permit.use_for_call()),
            _ => permit.use_for_call().finish(Outcome::Unknown),
        }
    }
    assert!(limit.try_permit().is_none());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(limit.try_permit().is_some());
}

#[tokio::test(start_paused = true)]
async fn full_queue_refuses_new_calls() {
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
