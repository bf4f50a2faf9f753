//! Decides whether a token may be used now. It is pure.

use store::{Freshness, Status, Timestamp};

use super::sources::Token;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenDecision {
    Use,
    /// It still works. Refresh it first, and use it if that takes too long.
    RefreshFirst,
    /// It has expired. Refresh it, or fail.
    RefreshOrFail,
    Refuse(Refusal),
}

/// Why a refresh would not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// GHL refused the refresh token.
    #[error("GHL no longer accepts this installation's grant: reconnect it")]
    Invalid,
    /// Uninstalled, or revoked by an operator.
    #[error("The app was uninstalled: reconnect the installation")]
    Revoked,
    /// GHL treats the location as unpaid or paused. Its broker retries from time to time.
    #[error("The location is not active at GHL")]
    Inactive,
}

/// Whether it still works, so that a request can be sent with it.
pub(crate) fn is_alive(token: &Token, now: Timestamp) -> bool {
    matches!(
        decide(token, now),
        TokenDecision::Use | TokenDecision::RefreshFirst
    )
}

pub(crate) fn decide(token: &Token, now: Timestamp) -> TokenDecision {
    match (token.status, token.freshness(now)) {
        (Status::Invalid, _) => TokenDecision::Refuse(Refusal::Invalid),
        (Status::Revoked, _) => TokenDecision::Refuse(Refusal::Revoked),
        // A static token cannot be refreshed. GHL decides whether it is valid.
        (Status::Static, _) | (Status::Active | Status::Paused, Freshness::Fresh) => {
            TokenDecision::Use
        }
        (Status::Paused, Freshness::BelowFloor) => TokenDecision::Use,
        (Status::Paused, Freshness::Expired) => TokenDecision::Refuse(Refusal::Inactive),
        (Status::Active, Freshness::BelowFloor) => TokenDecision::RefreshFirst,
        (Status::Active, Freshness::Expired) => TokenDecision::RefreshOrFail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::sources::tests::token;

    #[test]
    fn each_status_and_age_maps_to_its_decision() {
        use TokenDecision::{RefreshFirst, RefreshOrFail, Refuse, Use};
        let expected = [
            (Status::Active, [Use, RefreshFirst, RefreshOrFail]),
            (Status::Paused, [Use, Use, Refuse(Refusal::Inactive)]),
            (Status::Invalid, [Refuse(Refusal::Invalid); 3]),
            (Status::Revoked, [Refuse(Refusal::Revoked); 3]),
            (Status::Static, [Use; 3]),
        ];
        // The token expires at 24 h: long before, within the last 5 minutes, and after.
        let ages = [0, 86_400_000 - 3000, 86_400_000].map(Timestamp::from_millis);
        for (status, decisions) in expected {
            let token = Token { status, ..token() };
            assert_eq!(ages.map(|now| decide(&token, now)), decisions, "{status}");
        }
        let eternal = Token {
            expires_at: None,
            status: Status::Static,
            ..token()
        };
        assert_eq!(decide(&eternal, Timestamp::from_millis(i64::MAX)), Use);
    }
}
