//! Decides what follows an attempt. It is pure, and the only place that decides about retries.

use std::time::Duration;

use http::StatusCode;

/// How often a call is retried after a transient failure.
const MAX_RETRIES: u32 = 2;
/// The average pause before the first retry. It doubles for the second.
const PAUSE: Duration = Duration::from_millis(100);
/// If GHL's `Retry-After` asks for more, its answer is delivered, since callers should not wait that long.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Any response except a 401.
    Answered {
        status: StatusCode,
        retry_after: Option<Duration>,
    },
    Unauthorized(Unauthorized),
    /// The connection ended before the response. GHL may have handled the request.
    ConnectionLost,
    /// Any other failure.
    Failed,
}

/// The meaning of a 401 for the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unauthorized {
    /// Its body is compressed, so its meaning is not known yet.
    Compressed,
    /// A fresh token may help.
    Refreshable,
    /// A fresh token does not help.
    Final,
}

/// The state of a call after an attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Attempt {
    /// Retries after transient failures so far.
    pub(crate) retries: u32,
    /// Its body is held, so it can be sent again.
    pub(crate) is_replayable: bool,
    /// Sending it twice has the same effect as sending it once.
    pub(crate) is_idempotent: bool,
    /// This attempt asked for an uncompressed response.
    pub(crate) is_uncompressed: bool,
    /// This attempt had a token that was refreshed because of a 401.
    pub(crate) is_refreshed: bool,
    /// The time until the deadline of the caller or of the gateway.
    pub(crate) time_left: Duration,
    /// A random number from 0 to 1.
    pub(crate) jitter: f64,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Deliver the outcome to the caller.
    Deliver,
    /// Send it again after a pause, if the retry budget allows it.
    RetryAfter(Duration),
    /// GHL's rate limit was exceeded: queue the call again, ahead of new calls.
    QueueAgain,
    /// Send it again and ask for an uncompressed response.
    RetryUncompressed,
    /// Refresh the token and send it again.
    RefreshAndRetry,
    /// Refresh the token. The caller has to send the request again, since its body was not held.
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
            Unauthorized::Compressed | Unauthorized::Refreshable if attempt.is_refreshed => {
                Decision::Deliver
            }
            Unauthorized::Compressed | Unauthorized::Refreshable if attempt.is_replayable => {
                Decision::RefreshAndRetry
            }
            Unauthorized::Compressed | Unauthorized::Refreshable => Decision::RefreshAndRefuse,
            Unauthorized::Final => Decision::Deliver,
        },
        Outcome::ConnectionLost => retry(attempt, None),
        Outcome::Failed => Decision::Deliver,
    }
}

fn retry(attempt: &Attempt, asked: Option<Duration>) -> Decision {
    let may_retry = attempt.is_replayable && attempt.is_idempotent && attempt.retries < MAX_RETRIES;
    // Half to one and a half times the usual pause, or GHL's `Retry-After` if that is longer.
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
    const UNREPLAYABLE: Attempt = Attempt {
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
    fn transient_failures_are_retried_and_others_delivered() {
        for status in [502, 503, 504] {
            let decision = decide(answered(status), &ATTEMPT);
            assert_eq!(decision, Decision::RetryAfter(PAUSE), "{status}");
        }
        assert_eq!(
            decide(Outcome::ConnectionLost, &ATTEMPT),
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
    fn unreplayable_or_non_idempotent_call_is_not_retried() {
        let not_idempotent = Attempt {
            is_idempotent: false,
            ..ATTEMPT
        };
        for attempt in [UNREPLAYABLE, not_idempotent] {
            for outcome in [answered(502), Outcome::ConnectionLost] {
                assert_eq!(decide(outcome, &attempt), Decision::Deliver);
            }
        }
    }

    #[test]
    fn number_and_pause_of_retries_are_bounded() {
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
            assert_eq!(decide(Outcome::ConnectionLost, &attempt), expected);
        }
        let late = Attempt {
            time_left: PAUSE,
            ..ATTEMPT
        };
        assert_eq!(decide(Outcome::ConnectionLost, &late), Decision::Deliver);
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
    fn replayable_call_is_queued_again_after_429() {
        let refreshed = Attempt {
            is_refreshed: true,
            is_idempotent: false,
            retries: MAX_RETRIES,
            ..ATTEMPT
        };
        for attempt in [ATTEMPT, refreshed] {
            assert_eq!(decide(answered(429), &attempt), Decision::QueueAgain);
        }
        assert_eq!(decide(answered(429), &UNREPLAYABLE), Decision::Deliver);
    }

    #[test]
    fn token_is_refreshed_at_most_once_after_401() {
        use Decision::{Deliver, RefreshAndRefuse, RefreshAndRetry, RetryUncompressed};
        use Unauthorized::{Compressed, Final, Refreshable};
        let uncompressed = Attempt {
            is_uncompressed: true,
            ..ATTEMPT
        };
        let refreshed = Attempt {
            is_refreshed: true,
            ..ATTEMPT
        };
        for (attempt, meaning, expected) in [
            (ATTEMPT, Refreshable, RefreshAndRetry),
            (ATTEMPT, Compressed, RetryUncompressed),
            (ATTEMPT, Final, Deliver),
            (uncompressed, Compressed, RefreshAndRetry),
            (refreshed, Refreshable, Deliver),
            (refreshed, Final, Deliver),
            (UNREPLAYABLE, Refreshable, RefreshAndRefuse),
            (UNREPLAYABLE, Compressed, RefreshAndRefuse),
            (UNREPLAYABLE, Final, Deliver),
        ] {
            let decision = decide(Outcome::Unauthorized(meaning), &attempt);
            assert_eq!(decision, expected, "{meaning:?} {attempt:?}");
        }
    }
}
