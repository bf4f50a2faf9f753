//! The one decision about retries. It is pure.

use std::time::Duration;

use http::StatusCode;

/// How often a call is retried after a passing failure.
const MAX_RETRIES: u32 = 2;
/// Before the first retry, on average. It doubles for the second.
const PAUSE: Duration = Duration::from_millis(100);
/// GHL may name a longer pause. Then its answer is delivered, since callers should not wait for that.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Any answer but a 401.
    Answered {
        status: StatusCode,
        retry_after: Option<Duration>,
    },
    Unauthorized(Unauthorized),
    /// The connection ended before the answer. GHL may have handled the request.
    Broken,
    /// Any other failure.
    Failed,
}

/// The meaning of a 401 for the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unauthorized {
    /// Its body is compressed, so nothing is known yet.
    Compressed,
    /// A fresh token may help.
    Curable,
    /// A fresh token does not help.
    Final,
}

/// The state of a call when an attempt has ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Attempt {
    /// Retries after passing failures so far.
    pub(crate) retries: u32,
    /// Its body is held, so it can be sent again.
    pub(crate) is_replayable: bool,
    /// Sending it twice has the same effect as sending it once.
    pub(crate) is_idempotent: bool,
    /// This attempt asked for an answer without compression.
    pub(crate) is_uncompressed: bool,
    /// This attempt had a token that was refreshed because of a 401.
    pub(crate) is_refreshed: bool,
    /// Until the caller's patience, or ours, ends.
    pub(crate) time_left: Duration,
    /// From 0 to 1, at random.
    pub(crate) jitter: f64,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Give the outcome to the caller.
    Deliver,
    /// Send it again after a pause, if the retry budget allows it.
    RetryAfter(Duration),
    /// GHL's rate limit was exceeded: wait for a turn again, before new calls.
    QueueAgain,
    /// Ask for an answer that can be read.
    RetryUncompressed,
    /// Refresh the token and send it again.
    RefreshAndRetry,
    /// Refresh the token. The caller has to send the request again, since its body is gone.
    RefreshAndRefuse,
}

/// Decides what happens after an attempt.
pub(crate) fn decide(outcome: Outcome, attempt: &Attempt) -> Decision {
    match outcome {
        Outcome::Answered {
            status,
            retry_after,
        } => match status {
            StatusCode::TOO_MANY_REQUESTS if attempt.is_replayable => Decision::QueueAgain,
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => retry(attempt, retry_after),
            _ => Decision::Deliver,
        },
        Outcome::Unauthorized(meaning) => match meaning {
            Unauthorized::Compressed if attempt.is_replayable && !attempt.is_uncompressed => {
                Decision::RetryUncompressed
            }
            Unauthorized::Compressed | Unauthorized::Curable if attempt.is_refreshed => {
                Decision::Deliver
            }
            Unauthorized::Compressed | Unauthorized::Curable if attempt.is_replayable => {
                Decision::RefreshAndRetry
            }
            Unauthorized::Compressed | Unauthorized::Curable => Decision::RefreshAndRefuse,
            Unauthorized::Final => Decision::Deliver,
        },
        Outcome::Broken => retry(attempt, None),
        Outcome::Failed => Decision::Deliver,
    }
}

fn retry(attempt: &Attempt, asked: Option<Duration>) -> Decision {
    let may_retry = attempt.is_replayable && attempt.is_idempotent && attempt.retries < MAX_RETRIES;
    // Between half of and one and a half times the usual pause, or what GHL asks for.
    let usual = (PAUSE * 2_u32.pow(attempt.retries)).mul_f64(0.5 + attempt.jitter);
    let pause = asked.map_or(usual, |asked| asked.max(usual));
    if may_retry && pause <= LONGEST_PAUSE && pause < attempt.time_left {
        Decision::RetryAfter(pause)
    } else {
        Decision::Deliver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTEMPT: Attempt = Attempt {
        retries: 0,
        is_replayable: true,
        is_idempotent: true,
        is_uncompressed: false,
        is_refreshed: false,
        time_left: Duration::from_secs(30),
        jitter: 0.5,
    };
    const GONE: Attempt = Attempt {
        is_replayable: false,
        ..ATTEMPT
    };

    fn answered(status: u16) -> Outcome {
        Outcome::Answered {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
        }
    }

    #[test]
    fn passing_failures_are_retried_and_decided_ones_are_not() {
        for status in [502, 503, 504] {
            let decision = decide(answered(status), &ATTEMPT);
            assert_eq!(decision, Decision::RetryAfter(PAUSE), "{status}");
        }
        assert_eq!(
            decide(Outcome::Broken, &ATTEMPT),
            Decision::RetryAfter(PAUSE)
        );
        for status in [200, 400, 403, 404, 408, 409, 500, 501] {
            assert_eq!(
                decide(answered(status), &ATTEMPT),
                Decision::Deliver,
                "{status}"
            );
        }
        assert_eq!(decide(Outcome::Failed, &ATTEMPT), Decision::Deliver);
    }

    #[test]
    fn a_call_that_may_have_an_effect_twice_is_not_retried() {
        let not_idempotent = Attempt {
            is_idempotent: false,
            ..ATTEMPT
        };
        for attempt in [GONE, not_idempotent] {
            for outcome in [answered(502), Outcome::Broken] {
                assert_eq!(decide(outcome, &attempt), Decision::Deliver);
            }
        }
    }

    #[test]
    fn retries_are_few_spread_and_short() {
        for (retries, jitter, expected) in [
            (0, 0.0, Some(PAUSE / 2)),
            (0, 1.0, Some(PAUSE * 3 / 2)),
            (1, 0.5, Some(PAUSE * 2)),
            (2, 0.5, None),
        ] {
            let attempt = Attempt {
                retries,
                jitter,
                ..ATTEMPT
            };
            let expected = expected.map_or(Decision::Deliver, Decision::RetryAfter);
            assert_eq!(decide(Outcome::Broken, &attempt), expected);
        }
        let late = Attempt {
            time_left: PAUSE,
            ..ATTEMPT
        };
        assert_eq!(decide(Outcome::Broken, &late), Decision::Deliver);
        for (asked, expected) in [
            (1, Decision::RetryAfter(Duration::from_secs(1))),
            (60, Decision::Deliver),
        ] {
            let outcome = Outcome::Answered {
                status: StatusCode::SERVICE_UNAVAILABLE,
                retry_after: Some(Duration::from_secs(asked)),
            };
            assert_eq!(decide(outcome, &ATTEMPT), expected);
        }
    }

    #[test]
    fn a_429_waits_for_its_turn_again_where_the_call_can_be_sent_again() {
        let refreshed = Attempt {
            is_refreshed: true,
            is_idempotent: false,
            retries: MAX_RETRIES,
            ..ATTEMPT
        };
        for attempt in [ATTEMPT, refreshed] {
            assert_eq!(decide(answered(429), &attempt), Decision::QueueAgain);
        }
        assert_eq!(decide(answered(429), &GONE), Decision::Deliver);
    }

    #[test]
    fn a_401_is_cured_once() {
        use Decision::{Deliver, RefreshAndRefuse, RefreshAndRetry, RetryUncompressed};
        use Unauthorized::{Compressed, Curable, Final};
        let uncompressed = Attempt {
            is_uncompressed: true,
            ..ATTEMPT
        };
        let refreshed = Attempt {
            is_refreshed: true,
            ..ATTEMPT
        };
        for (attempt, meaning, expected) in [
            (ATTEMPT, Curable, RefreshAndRetry),
            (ATTEMPT, Compressed, RetryUncompressed),
            (ATTEMPT, Final, Deliver),
            (uncompressed, Compressed, RefreshAndRetry),
            (refreshed, Curable, Deliver),
            (refreshed, Final, Deliver),
            (GONE, Curable, RefreshAndRefuse),
            (GONE, Compressed, RefreshAndRefuse),
            (GONE, Final, Deliver),
        ] {
            let decision = decide(Outcome::Unauthorized(meaning), &attempt);
            assert_eq!(decision, expected, "{meaning:?} {attempt:?}");
        }
    }
}
