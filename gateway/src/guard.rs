//! Whether a token may be used now: a pure decision.

use store::{Freshness, Status, Timestamp};

use crate::token::Token;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Use,
    /// It still works: refresh it first, and use it if that takes too long.
    RefreshFirst,
    /// It no longer works: refresh it or give up.
    RefreshOrFail,
    Refuse(Refusal),
}

/// Why no refresh would help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// GHL refused the refresh token.
    Invalid,
    /// Uninstalled, or revoked by an operator.
    Revoked,
    /// GHL holds the location for unpaid or paused; its broker tries again now and then.
    Inactive,
}

/// Whether it still works, so that a request can be sent with it once more.
pub(crate) fn is_alive(token: &Token, now: Timestamp) -> bool {
    matches!(judge(token, now), Verdict::Use | Verdict::RefreshFirst)
}

pub(crate) fn judge(token: &Token, now: Timestamp) -> Verdict {
    match (token.status, token.freshness(now)) {
        (Status::Invalid, _) => Verdict::Refuse(Refusal::Invalid),
        (Status::Revoked, _) => Verdict::Refuse(Refusal::Revoked),
        // Nobody can refresh it; what it is worth GHL will say.
        (Status::Static, _) | (Status::Active | Status::Paused, Freshness::Fresh) => Verdict::Use,
        (Status::Paused, Freshness::BelowFloor) => Verdict::Use,
        (Status::Paused, Freshness::Expired) => Verdict::Refuse(Refusal::Inactive),
        (Status::Active, Freshness::BelowFloor) => Verdict::RefreshFirst,
        (Status::Active, Freshness::Expired) => Verdict::RefreshOrFail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::token;

    #[test]
    fn every_status_and_age_has_its_verdict() {
        use Verdict::{RefreshFirst, RefreshOrFail, Refuse, Use};
        let expected = [
            (Status::Active, [Use, RefreshFirst, RefreshOrFail]),
            (Status::Paused, [Use, Use, Refuse(Refusal::Inactive)]),
            (Status::Invalid, [Refuse(Refusal::Invalid); 3]),
            (Status::Revoked, [Refuse(Refusal::Revoked); 3]),
            (Status::Static, [Use; 3]),
        ];
        // Of a token that dies at 24 h: long before, within its last 5 minutes, and after.
        let ages = [0, 86_400_000 - 3000, 86_400_000].map(Timestamp::from_millis);
        for (status, verdicts) in expected {
            let token = Token { status, ..token() };
            assert_eq!(ages.map(|now| judge(&token, now)), verdicts, "{status}");
        }
        let eternal = Token {
            expires_at: None,
            status: Status::Static,
            ..token()
        };
        assert_eq!(judge(&eternal, Timestamp::from_millis(i64::MAX)), Use);
    }
}
