//! Crash points: places in a refresh where a test kills or stops this process.
//!
//! They exist only in a build with the feature `crash-points`. `TEST_CRASH_POINT` lists them in order, each
//! with its signal: `answered stop, committed kill`. Each fires once.

/// The steps of a refresh, of a mint and of a consent. Each name says what has just happened. Crash points name them in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "crash-points"),
    expect(dead_code, reason = "only crash points distinguish the steps")
)]
pub(crate) enum Step {
    Claimed,
    Leased,
    Begun,
    IntentJournaled,
    /// The request was sent, and GHL has not responded yet.
    Sent,
    Answered,
    /// The response is in the journal and in escrow.
    AnswerJournaled,
    Committed,
    Released,
    /// GHL has given the token of an agency's location.
    Minted,
    MintStored,
    /// GHL has given the tokens of a consent.
    Exchanged,
    ConsentJournaled,
    ConsentStored,
    /// A page of an agency's locations is stored.
    PageListed,
    ListRecorded,
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

    /// The crash points that have not fired yet, the next one last.
    static ARMED: LazyLock<Mutex<Vec<String>>> = LazyLock::new(|| {
        let given = std::env::var("TEST_CRASH_POINT").unwrap_or_default();
        Mutex::new(given.rsplit(", ").map(str::to_owned).collect())
    });

    /// Long enough for a request to reach GHL. Tests make GHL respond later than this.
    const ON_ITS_WAY: Duration = Duration::from_millis(300);

    pub(crate) fn reached(step: Step) {
        if let Some(signal) = armed_for(step) {
            // SIGKILL does not return. SIGSTOP returns when the process is continued.
            let _ = raise(signal);
        }
    }

    /// Waits for GHL's response. [`Step::Sent`] fires before it arrives.
    pub(crate) async fn while_waiting<F: Future>(call: F) -> F::Output {
        let mut call = std::pin::pin!(call);
        tokio::select! {
            biased;
            answer = &mut call => return answer,
            () = tokio::time::sleep(ON_ITS_WAY) => reached(Step::Sent),
        }
        call.await
    }

    /// The signal if `step` is the next crash point. Removes it from the list.
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
                Self::Minted => "minted",
                Self::MintStored => "mint-stored",
                Self::Exchanged => "exchanged",
                Self::ConsentJournaled => "consent-journaled",
                Self::ConsentStored => "consent-stored",
                Self::PageListed => "page-listed",
                Self::ListRecorded => "list-recorded",
            }
        }
    }
}

pub(crate) use points::{reached, while_waiting};
