//! Places in a refresh where a test has this very process killed or stopped.
//!
//! Only a build with the feature `crash-points` has them; of any other nothing is left here.
//! `TEST_CRASH_POINT` says where and how, once each, in this order: `answered stop, committed kill`.

/// The steps of a refresh. Each name says what has just happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "crash-points"),
    expect(
        dead_code,
        reason = "the steps are only told apart where there are crash points"
    )
)]
pub(crate) enum Step {
    Claimed,
    Leased,
    Begun,
    IntentJournaled,
    /// And GHL has not answered yet.
    Sent,
    Answered,
    /// And in escrow.
    AnswerJournaled,
    Committed,
    Released,
}

#[cfg(not(feature = "crash-points"))]
mod points {
    use super::Step;

    pub(crate) fn reached(_: Step) {}

    pub(crate) async fn while_waiting<F: Future>(call: F) -> F::Output {
        call.await
    }
}

#[cfg(feature = "crash-points")]
mod points {
    use std::sync::{LazyLock, Mutex};
    use std::time::Duration;

    use nix::sys::signal::{Signal, raise};

    use super::Step;

    /// What is still to come, the next one last.
    static ARMED: LazyLock<Mutex<Vec<String>>> = LazyLock::new(|| {
        let given = std::env::var("TEST_CRASH_POINT").unwrap_or_default();
        Mutex::new(given.rsplit(", ").map(str::to_owned).collect())
    });

    /// Long enough for a request to be at GHL; a test has it answer later than this.
    const ON_ITS_WAY: Duration = Duration::from_millis(300);

    pub(crate) fn reached(step: Step) {
        if let Some(signal) = armed_for(step) {
            // Of SIGKILL nothing comes back, of SIGSTOP when the process is continued.
            let _ = raise(signal);
        }
    }

    /// Waits for GHL's answer, and is struck by [`Step::Sent`] before it comes.
    pub(crate) async fn while_waiting<F: Future>(call: F) -> F::Output {
        let mut call = std::pin::pin!(call);
        tokio::select! {
            biased;
            answer = &mut call => return answer,
            () = tokio::time::sleep(ON_ITS_WAY) => reached(Step::Sent),
        }
        call.await
    }

    /// The signal, for the first to come to the next point, once.
    fn armed_for(step: Step) -> Option<Signal> {
        let mut armed = ARMED.lock().ok()?;
        let (name, how) = armed.last()?.split_once(' ')?;
        if name != step.as_str() {
            return None;
        }
        let signal = match how {
            "kill" => Signal::SIGKILL,
            "stop" => Signal::SIGSTOP,
            other => panic!("TEST_CRASH_POINT: {other} is neither kill nor stop"),
        };
        armed.pop();
        Some(signal)
    }

    impl Step {
        fn as_str(self) -> &'static str {
            match self {
                Self::Claimed => "claimed",
                Self::Leased => "leased",
                Self::Begun => "begun",
                Self::IntentJournaled => "intent-journaled",
                Self::Sent => "sent",
                Self::Answered => "answered",
                Self::AnswerJournaled => "answer-journaled",
                Self::Committed => "committed",
                Self::Released => "released",
            }
        }
    }
}

pub(crate) use points::{reached, while_waiting};
