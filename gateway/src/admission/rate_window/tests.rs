mod replicas;

use super::*;

/// A rate window with its own clock, in milliseconds since the test began.
struct Trial {
    window: RateWindow,
    start: Instant,
}

impl Trial {
    fn new() -> Self {
        Self {
            window: RateWindow::new(),
            start: Instant::now(),
        }
    }

    /// A window of 100 requests per second. Its first call was sent at 0 and answered at 10. At 20, `remaining`
    /// calls remain.
    fn with(remaining: u32) -> Self {
        let mut trial = Self::new();
        let opener = trial.sent(0);
        let last = trial.sent(0);
        trial.answer(opener, left(99), 10);
        trial.answer(last, left(remaining), 20);
        trial
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn admit(&mut self, ms: u64) -> Decision {
        self.window.admit(self.at(ms))
    }

    /// Sends a call that must be admitted.
    fn sent(&mut self, ms: u64) -> CountedCall {
        match self.admit(ms) {
            Decision::Go(sent) => sent,
            waits => panic!("at {ms}: {waits:?}"),
        }
    }

    fn answer(&mut self, sent: CountedCall, headers: RateLimitHeaders, ms: u64) {
        self.window.learn(sent, &headers, self.at(ms));
    }

    /// How many calls are admitted at this time.
    fn burst(&mut self, ms: u64) -> usize {
        let goes = |trial: &mut Self| matches!(trial.admit(ms), Decision::Go(_)).then_some(());
        std::iter::from_fn(|| goes(self)).count()
    }

    fn expect_wait(&mut self, ms: u64, until: u64) {
        let until = Decision::WaitUntil(self.at(until));
        assert_eq!(self.admit(ms), until, "at {ms}");
    }
}

fn left(remaining: u32) -> RateLimitHeaders {
    RateLimitHeaders {
        max: Some(100),
        interval: Some(Duration::from_secs(1)),
        remaining: Some(remaining),
        ..RateLimitHeaders::default()
    }
}

fn refusal() -> RateLimitHeaders {
    RateLimitHeaders {
        is_refusal: true,
        ..left(0)
    }
}

#[test]
fn unknown_location_allows_an_initial_burst() {
    let mut trial = Trial::new();
    assert_eq!(trial.burst(0), 25);
    trial.expect_wait(0, 10_000);
}

#[test]
fn responses_without_rate_limit_headers_mean_no_limit() {
    let mut trial = Trial::new();
    let first = trial.sent(0);
    trial.answer(first, RateLimitHeaders::default(), 1);
    for _ in 0..10_000 {
        trial.sent(2);
    }
    let last = trial.sent(2);
    trial.answer(last, refusal(), 3);
    trial.expect_wait(3, 3 + 125);
}

#[test]
fn calls_in_flight_shrink_with_the_remaining_calls() {
    for (remaining, burst) in [(98, 28), (80, 7), (40, 1), (1, 1), (0, 0)] {
        assert_eq!(Trial::with(remaining).burst(30), burst, "{remaining} left");
    }
}

#[test]
fn larger_share_allows_more_of_the_remaining_calls() {
    let mut trial = Trial::new();
    for call in 1..=60 {
        let sent = trial.sent(call);
        trial.answer(sent, left(100 - u32::try_from(call).unwrap()), call);
    }
    assert_eq!(trial.burst(61), 30, "of 40 remaining calls");
}

#[test]
fn response_admits_the_next_call() {
    let mut trial = Trial::with(4);
    let only = trial.sent(30);
    trial.expect_wait(31, 1010);
    trial.answer(only, left(3), 40);
    let next = trial.sent(41);
    trial.window.forget(next);
    trial.sent(42);
}

#[test]
fn reordered_responses_keep_the_lowest_remaining() {
    let mut trial = Trial::with(60);
    let (slow, fast) = (trial.sent(30), trial.sent(30));
    trial.answer(fast, left(8), 40);
    trial.answer(slow, left(50), 50);
    assert_eq!(trial.burst(51), 1, "8 remain, not 50");
}

#[test]
fn higher_remaining_starts_a_new_window() {
    let mut trial = Trial::with(8);
    // GHL's window ended earlier than assumed, since another replica began it before our first call.
    let next = trial.sent(600);
    trial.answer(next, left(80), 610);
    assert_eq!(trial.burst(611), 6);
    trial.expect_wait(611, 1600);
}

#[test]
fn exhausted_window_blocks_calls_until_it_ends() {
    let mut trial = Trial::with(1);
    let last = trial.sent(30);
    trial.answer(last, left(0), 40);
    // The first call of the window was answered at 10, so the window may have begun as late as that.
    trial.expect_wait(41, 1010);
    trial.expect_wait(1009, 1010);
    trial.sent(1010);
}

#[test]
fn window_joined_late_ends_one_interval_after_our_first_call() {
    let mut trial = Trial::new();
    let late = trial.sent(0);
    trial.answer(late, left(70), 300);
    let refused = trial.sent(301);
    trial.answer(refused, refusal(), 310);
    trial.expect_wait(311, 1000);
}

#[test]
fn one_call_probes_the_window_after_an_exhausted_one() {
    let mut trial = Trial::with(1);
    let last = trial.sent(30);
    trial.answer(last, left(0), 40);
    assert_eq!(trial.burst(1010), 1);
    let mut trial = Trial::with(1);
    assert_eq!(trial.burst(1010), 25, "calls were left");
    trial = Trial::with(0);
    let first = trial.sent(1010);
    trial.answer(first, left(99), 1020);
    assert_eq!(
        trial.burst(1021),
        1,
        "the others used most of the last window"
    );
}

#[test]
fn unexplained_429_is_probed_by_one_call_at_a_time() {
    let mut trial = Trial::new();
    let (one, two) = (trial.sent(0), trial.sent(0));
    trial.answer(one, refusal(), 10);
    trial.answer(two, refusal(), 11);
    trial.expect_wait(12, 10 + 125);
    let probe = trial.sent(135);
    trial.expect_wait(136, 1135);
    trial.answer(probe, refusal(), 140);
    let probe = trial.sent(140 + 125);
    trial.answer(probe, left(60), 270);
    assert_eq!(trial.burst(271), 1);
}

#[test]
fn retry_after_of_a_429_is_honoured() {
    let refused = RateLimitHeaders {
        retry_after: Some(Duration::from_secs(3)),
        ..refusal()
    };
    let mut trial = Trial::new();
    let first = trial.sent(0);
    trial.answer(first, refused, 10);
    trial.expect_wait(11, 3010);
    let mut trial = Trial::with(50);
    let next = trial.sent(30);
    trial.answer(next, refused, 40);
    trial.expect_wait(2000, 3040);
}

#[test]
fn retry_after_is_clamped() {
    for (after, pause) in [(0, 125), (1, 1_000), (86_400, 60_000)] {
        let refused = RateLimitHeaders {
            retry_after: Some(Duration::from_secs(after)),
            ..refusal()
        };
        let mut trial = Trial::with(50);
        let next = trial.sent(30);
        trial.answer(next, refused, 40);
        trial.expect_wait(41, 40 + pause);
        let probe = trial.sent(40 + pause);
        trial.expect_wait(41 + pause, 40 + pause + 1_000);
        trial.window.forget(probe);
    }
}

#[test]
fn unanswered_calls_count_only_in_their_window() {
    let mut trial = Trial::with(80);
    assert_eq!(trial.burst(30), 7);
    trial.expect_wait(31, 1010);
    assert_eq!(trial.burst(1010), 25);
    let mut trial = Trial::with(20);
    let slow = trial.sent(30);
    let in_the_next = trial.sent(1010);
    trial.answer(slow, left(3), 1011);
    trial.answer(in_the_next, left(99), 1020);
    assert_eq!(
        trial.burst(1021),
        26,
        "the late response was about the old window"
    );
}

#[test]
fn exhausted_daily_limit_is_probed_once_a_minute() {
    let today = |remaining_today| RateLimitHeaders {
        remaining_today: Some(remaining_today),
        ..left(50)
    };
    let mut trial = Trial::new();
    let (slow, last) = (trial.sent(0), trial.sent(0));
    trial.answer(last, today(0), 10);
    trial.answer(slow, today(1), 11);
    let probe_at = trial.at(60_010);
    assert_eq!(trial.admit(12), Decision::DailyLimit(probe_at));
    let probe = trial.sent(60_010);
    assert!(matches!(trial.admit(60_011), Decision::DailyLimit(_)));
    let refused = RateLimitHeaders {
        is_refusal: true,
        ..today(0)
    };
    trial.answer(probe, refused, 60_020);
    assert!(matches!(trial.admit(120_019), Decision::DailyLimit(_)));
    let probe = trial.sent(120_020);
    trial.answer(probe, today(200_000), 120_030);
    trial.sent(120_031);
}

#[test]
fn remaining_calls_of_the_day_are_shared_like_a_window() {
    let mut trial = Trial::new();
    let first = trial.sent(0);
    let headers = RateLimitHeaders {
        remaining_today: Some(8),
        ..left(99)
    };
    trial.answer(first, headers, 10);
    assert_eq!(trial.burst(11), 2);
}

#[test]
fn expected_wait_follows_remaining_calls_and_queue_position() {
    let mut trial = Trial::with(50);
    let soonest = |trial: &Trial, ahead| {
        let soonest = trial.window.soonest(ahead, trial.at(30));
        u64::try_from((soonest - trial.start).as_millis()).unwrap()
    };
    for (ahead, expected) in [(0, 30), (49, 30), (50, 1010), (149, 1010), (150, 2010)] {
        assert_eq!(soonest(&trial, ahead), expected, "{ahead} ahead");
    }
    let last = trial.sent(25);
    trial.answer(last, left(0), 26);
    assert_eq!(soonest(&trial, 0), 1010);
    assert_eq!(trial.window.soonest(0, trial.at(1500)), trial.at(1500));
}
