mod replicas;

use super::*;

/// A budget, and a clock of its own: milliseconds since the test began.
struct Trial {
    budget: RateWindow,
    start: Instant,
}

impl Trial {
    fn new() -> Self {
        Self {
            budget: RateWindow::new(),
            start: Instant::now(),
        }
    }

    /// One that knows of 100 requests a second: the window's first call was sent at 0 and
    /// answered at 10, and `remaining` is left at 20.
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
        self.budget.admit(self.at(ms))
    }

    /// A call that goes.
    fn sent(&mut self, ms: u64) -> CountedCall {
        match self.admit(ms) {
            Decision::Go(sent) => sent,
            waits => panic!("at {ms}: {waits:?}"),
        }
    }

    fn answer(&mut self, sent: CountedCall, told: RateLimitHeaders, ms: u64) {
        self.budget.learn(sent, &told, self.at(ms));
    }

    /// How many calls go at this moment.
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
fn the_first_calls_of_an_unknown_location_go() {
    let mut trial = Trial::new();
    assert_eq!(trial.burst(0), 25);
    trial.expect_wait(0, 10_000);
}

#[test]
fn where_answers_tell_of_no_limit_there_is_none() {
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
fn the_less_is_left_the_fewer_are_under_way() {
    for (remaining, burst) in [(98, 28), (80, 7), (40, 1), (1, 1), (0, 0)] {
        assert_eq!(Trial::with(remaining).burst(30), burst, "{remaining} left");
    }
}

#[test]
fn who_used_more_may_have_more_of_what_is_left() {
    let mut trial = Trial::new();
    for call in 1..=60 {
        let sent = trial.sent(call);
        trial.answer(sent, left(100 - u32::try_from(call).unwrap()), call);
    }
    assert_eq!(trial.burst(61), 30, "of 40 that are left");
}

#[test]
fn an_answer_lets_another_call_go() {
    let mut trial = Trial::with(4);
    let only = trial.sent(30);
    trial.expect_wait(31, 1010);
    trial.answer(only, left(3), 40);
    let next = trial.sent(41);
    trial.budget.forget(next);
    trial.sent(42);
}

#[test]
fn answers_that_overtake_each_other_leave_no_more_than_the_least() {
    let mut trial = Trial::with(60);
    let (slow, fast) = (trial.sent(30), trial.sent(30));
    trial.answer(fast, left(8), 40);
    trial.answer(slow, left(50), 50);
    assert_eq!(trial.burst(51), 1, "not as many as of 50");
}

#[test]
fn more_is_left_in_a_new_window() {
    let mut trial = Trial::with(8);
    // GHL's window ended before it was taken to: somebody else began it before our first call.
    let next = trial.sent(600);
    trial.answer(next, left(80), 610);
    assert_eq!(trial.burst(611), 6);
    trial.expect_wait(611, 1600);
}

#[test]
fn a_window_is_used_up_until_its_end() {
    let mut trial = Trial::with(1);
    let last = trial.sent(30);
    trial.answer(last, left(0), 40);
    // Its opener was answered at 10, so it may have begun as late as that.
    trial.expect_wait(41, 1010);
    trial.expect_wait(1009, 1010);
    trial.sent(1010);
}

#[test]
fn who_came_late_to_a_window_does_not_wait_for_the_answer_as_well() {
    let mut trial = Trial::new();
    let late = trial.sent(0);
    trial.answer(late, left(70), 300);
    let refused = trial.sent(301);
    trial.answer(refused, refusal(), 310);
    trial.expect_wait(311, 1000);
}

#[test]
fn after_a_window_that_was_used_up_one_call_goes_before_the_others() {
    let mut trial = Trial::with(1);
    let last = trial.sent(30);
    trial.answer(last, left(0), 40);
    assert_eq!(trial.burst(1010), 1);
    let mut trial = Trial::with(1);
    assert_eq!(trial.burst(1010), 25, "some was left");
    trial = Trial::with(0);
    let first = trial.sent(1010);
    trial.answer(first, left(99), 1020);
    assert_eq!(trial.burst(1021), 1, "others have had most of the last one");
}

#[test]
fn a_refusal_that_nothing_explains_is_looked_at_again_by_one_call_at_a_time() {
    let mut trial = Trial::new();
    let (one, two) = (trial.sent(0), trial.sent(0));
    trial.answer(one, refusal(), 10);
    trial.answer(two, refusal(), 11);
    trial.expect_wait(12, 10 + 125);
    let look = trial.sent(135);
    trial.expect_wait(136, 1135);
    trial.answer(look, refusal(), 140);
    let look = trial.sent(140 + 125);
    trial.answer(look, left(60), 270);
    assert_eq!(trial.burst(271), 1);
}

#[test]
fn ghl_may_say_when_to_come_again() {
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
fn ghl_is_believed_neither_that_there_is_no_pause_nor_that_it_is_long() {
    for (after, pause) in [(0, 125), (1, 1_000), (86_400, 60_000)] {
        let refused = RateLimitHeaders {
            retry_after: Some(Duration::from_secs(after)),
            ..refusal()
        };
        let mut trial = Trial::with(50);
        let next = trial.sent(30);
        trial.answer(next, refused, 40);
        trial.expect_wait(41, 40 + pause);
        let look = trial.sent(40 + pause);
        trial.expect_wait(41 + pause, 40 + pause + 1_000);
        trial.budget.forget(look);
    }
}

#[test]
fn calls_without_an_answer_hold_nobody_up_beyond_their_window() {
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
        "the old answer told of the old window"
    );
}

#[test]
fn over_the_daily_limit_a_call_a_minute_looks_for_the_next_day() {
    let today = |remaining_today| RateLimitHeaders {
        remaining_today: Some(remaining_today),
        ..left(50)
    };
    let mut trial = Trial::new();
    let (slow, last) = (trial.sent(0), trial.sent(0));
    trial.answer(last, today(0), 10);
    trial.answer(slow, today(1), 11);
    let look_at = trial.at(60_010);
    assert_eq!(trial.admit(12), Decision::DailyLimit(look_at));
    let look = trial.sent(60_010);
    assert!(matches!(trial.admit(60_011), Decision::DailyLimit(_)));
    let refused = RateLimitHeaders {
        is_refusal: true,
        ..today(0)
    };
    trial.answer(look, refused, 60_020);
    assert!(matches!(trial.admit(120_019), Decision::DailyLimit(_)));
    let look = trial.sent(120_020);
    trial.answer(look, today(200_000), 120_030);
    trial.sent(120_031);
}

#[test]
fn a_day_that_comes_to_its_end_is_shared_like_a_window() {
    let mut trial = Trial::new();
    let first = trial.sent(0);
    let told = RateLimitHeaders {
        remaining_today: Some(8),
        ..left(99)
    };
    trial.answer(first, told, 10);
    assert_eq!(trial.burst(11), 2);
}

#[test]
fn a_wait_is_foretold_by_what_is_left_and_who_is_ahead() {
    let mut trial = Trial::with(50);
    let soonest = |trial: &Trial, ahead| {
        let soonest = trial.budget.soonest(ahead, trial.at(30));
        u64::try_from((soonest - trial.start).as_millis()).unwrap()
    };
    for (ahead, expected) in [(0, 30), (49, 30), (50, 1010), (149, 1010), (150, 2010)] {
        assert_eq!(soonest(&trial, ahead), expected, "{ahead} ahead");
    }
    let last = trial.sent(25);
    trial.answer(last, left(0), 26);
    assert_eq!(soonest(&trial, 0), 1010);
    assert_eq!(trial.budget.soonest(0, trial.at(1500)), trial.at(1500));
}
