//! The status of an installation's token, as people see it.

use store::{Freshness, Status, freshness};
use store_writer::writer::{KnownApps, Snapshot};

/// Every `tokenStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TokenStatus {
    Valid,
    /// It is below the freshness floor.
    Expiring,
    Expired,
    /// A location of an agency that nobody calls. It gets a token with the next call.
    Asleep,
    /// GHL refused the refresh token, and it is tried again.
    Suspect,
    Invalid,
    Revoked,
    Paused,
    Static,
    /// This broker does not know its app, and leaves it alone.
    Unclaimed,
    /// The record cannot be read.
    Unreadable,
}

impl TokenStatus {
    pub(crate) const ALL: [Self; 11] = [
        Self::Valid,
        Self::Expiring,
        Self::Expired,
        Self::Asleep,
        Self::Suspect,
        Self::Invalid,
        Self::Revoked,
        Self::Paused,
        Self::Static,
        Self::Unclaimed,
        Self::Unreadable,
    ];

    /// The name in the JSON.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Asleep => "asleep",
            Self::Suspect => "suspect",
            Self::Invalid => "invalid",
            Self::Revoked => "revoked",
            Self::Paused => "paused",
            Self::Static => "static",
            Self::Unclaimed => "unclaimed",
            Self::Unreadable => "unreadable",
        }
    }

    /// The status with this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }

    /// That of a record. `known`: the apps of this broker.
    pub(crate) fn of(snapshot: &Snapshot, known: &KnownApps) -> Self {
        let Snapshot { installation, now } = snapshot;
        let access = &installation.access;
        match access.status {
            Status::Invalid => return Self::Invalid,
            Status::Revoked => return Self::Revoked,
            Status::Paused => return Self::Paused,
            Status::Static => return Self::Static,
            Status::Active => {}
        }
        // A location of an agency needs no credentials of the app.
        if access.parent.is_none() && !known.include(installation) {
            return Self::Unclaimed;
        }
        if installation.is_suspect() {
            return Self::Suspect;
        }
        if installation.is_asleep(*now) {
            return Self::Asleep;
        }
        let Some(expires_at) = access.expires_at else {
            return Self::Valid;
        };
        match freshness::of(expires_at, access.lifetime, *now) {
            Freshness::Fresh => Self::Valid,
            Freshness::BelowFloor => Self::Expiring,
            Freshness::Expired => Self::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_found_by_its_name() {
        for status in TokenStatus::ALL {
            assert_eq!(TokenStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(TokenStatus::parse("Valid"), None);
    }
}
