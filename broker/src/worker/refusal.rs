//! What becomes of an attempt that got no token.

use std::time::Duration;

use ghl::Failure;
use store_writer::installation::LastError;
use store_writer::protocol::{Refusal, Verdict};
use store_writer::writer::{Begun, GaveBack};
use tracing::warn;

use super::rescue::NotRescued;
use super::{STEP_ASIDE, Worker, unavailable};
use crate::line;
use crate::outcome::{Attempt, FailureKind, Outcome, judge};

/// How long an attempt waits that cannot be decided while the lock nodes are away.
const UNDECIDED: Duration = Duration::from_secs(5);

impl Worker {
    pub(super) async fn fail(&self, begun: &Begun, failure: &Failure) -> Outcome {
        let attempt = Attempt {
            failures: begun.failures,
            is_repeat: begun.first_spent_at.is_some(),
            grace_left: begun.grace_left(),
            at: begun.began_at,
            jitter: f64::from(store::random::bytes::<1>()[0]) / 255.0,
            refused_alone: self.breaker.refused_alone(begun.last_error.as_ref()),
        };
        let (kind, verdict) = judge(failure, attempt);
        let id = &begun.installation;
        let (kind, verdict) = match verdict.refusal {
            // Somebody may have a newer one than the one that was refused.
            Refusal::Terminal => match self.rescue(id).await {
                Ok(Some(generation)) => return Outcome::Refreshed { generation },
                Ok(None) => (kind, verdict),
                Err(unknown) => undecided(&verdict, &unknown),
            },
            Refusal::Unspent | Refusal::Unknown | Refusal::Paused => (kind, verdict),
        };
        self.breaker.failed(begun, failure, kind).await;
        let given_back = self
            .writer
            .give_back(id, &begun.link, &begun.intent, &verdict)
            .await;
        match given_back {
            Ok(GaveBack::Noted(_)) => {
                line::failed(begun, kind, &verdict);
                Outcome::Failed(kind)
            }
            Ok(GaveBack::Superseded) => Outcome::Superseded,
            Ok(GaveBack::Adopted) => {
                warn!(installation = %id, "a refused token was replaced by one that had been kept");
                Outcome::Adopted
            }
            Err(error) => {
                line::failed(begun, kind, &verdict);
                unavailable(id, &error)
            }
        }
    }

    /// Ends an attempt in which nothing was sent.
    pub(super) async fn give_up(&self, begun: &Begun, refusal: Refusal, reason: String) -> Outcome {
        let verdict = Verdict {
            refusal,
            error: LastError::new(
                FailureKind::Transient.as_str(),
                reason.clone(),
                begun.began_at,
            ),
            retry_in: STEP_ASIDE,
        };
        let id = &begun.installation;
        line::failed(begun, FailureKind::Transient, &verdict);
        match self
            .writer
            .give_back(id, &begun.link, &begun.intent, &verdict)
            .await
        {
            Ok(_) => Outcome::Unavailable(reason),
            Err(error) => unavailable(id, &error),
        }
    }
}

/// GHL refused the token for good, but somebody may have its successor: it is asked again later.
fn undecided(verdict: &Verdict, unknown: &NotRescued) -> (FailureKind, Verdict) {
    let kind = FailureKind::Ambiguous;
    let verdict = Verdict {
        refusal: Refusal::Unknown,
        error: LastError::new(
            kind.as_str(),
            format!("{}; {unknown}", verdict.error.message),
            verdict.error.at,
        ),
        retry_in: UNDECIDED,
    };
    (kind, verdict)
}
