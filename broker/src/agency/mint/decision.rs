//! Decides what to do for a location whose token is wanted. It is pure.

use store::{LocationId, Status};
use store_writer::protocol;
use store_writer::writer::{Snapshot, Wanted};

use crate::agency::grant::AgencyState;
use crate::refresh::outcome::Outcome;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Mint a token for this location.
    Mint(LocationId),
    /// The agency's grant is gone: use the last refresh token that there is.
    SpendOwnToken,
    /// Remove a token that has expired. Nobody has asked for a newer one.
    Rest,
    /// The agency has uninstalled the app, and with it from the location.
    End,
    Leave(Outcome),
}

pub(super) fn decide(known: &Snapshot, agency: AgencyState, wanted: Wanted) -> Decision {
    let Snapshot { installation, now } = known;
    let access = &installation.access;
    match access.status {
        Status::Revoked | Status::Static => {
            return Decision::Leave(Outcome::NotRefreshable(access.status));
        }
        Status::Active | Status::Paused | Status::Invalid => {}
    }
    match wanted {
        Wanted::Past(generation) if access.generation > generation => {
            return Decision::Leave(Outcome::Superseded);
        }
        Wanted::Past(_) => {
            // Callers do not shorten a pause.
            let end = protocol::mint_pause_ends(installation, *now).filter(|end| end > now);
            if let Some(end) = end {
                return Decision::Leave(Outcome::NotDue(end));
            }
        }
        Wanted::Due | Wanted::Now | Wanted::Forced => {}
    }
    match (agency, wanted) {
        // The app was installed there again, and the agency's consent follows.
        (AgencyState::Revoked(at), _) if at < installation.consented_at => {
            Decision::Leave(Outcome::NotRefreshable(Status::Invalid))
        }
        (AgencyState::Revoked(_), _) => Decision::End,
        (AgencyState::Gone, _) if installation.chain.is_some() => Decision::SpendOwnToken,
        (AgencyState::Works | AgencyState::Gone, Wanted::Due) => Decision::Rest,
        (AgencyState::Gone, Wanted::Past(_) | Wanted::Now | Wanted::Forced) => {
            Decision::Leave(Outcome::NotRefreshable(Status::Invalid))
        }
        (AgencyState::Works, Wanted::Past(_) | Wanted::Now | Wanted::Forced) => {
            match &access.location {
                Some(location) => Decision::Mint(location.clone()),
                None => Decision::Leave(Outcome::NotRefreshable(access.status)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use store::{AppName, Generation, InstallationId, Timestamp};
    use store_writer::installation::{Installation, LastError};
    use store_writer::protocol::{AgencyLocation, Listed, fail_mint, list_location};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const EARLIER: Timestamp = Timestamp::from_millis(999_999);

    fn asleep() -> Installation {
        let known = AgencyLocation {
            parent: InstallationId::random(),
            app: AppName::default(),
            client: None,
            company: "C".parse().unwrap(),
            location: "L".parse().unwrap(),
            at: NOW,
        };
        match list_location(&InstallationId::random(), None, &known, NOW) {
            Listed::Write(next) => *next,
            other => panic!("{other:?}"),
        }
    }

    fn decided(installation: Installation, agency: AgencyState, wanted: Wanted) -> Decision {
        let known = Snapshot {
            installation,
            now: NOW,
        };
        decide(&known, agency, wanted)
    }

    #[test]
    fn agencys_grant_decides_where_the_token_comes_from() {
        let mint = || Decision::Mint("L".parse().unwrap());
        let invalid = || Decision::Leave(Outcome::NotRefreshable(Status::Invalid));
        let past = Wanted::Past(Generation::NONE);
        for (agency, wanted, expected) in [
            (AgencyState::Works, past, mint()),
            (AgencyState::Works, Wanted::Now, mint()),
            (AgencyState::Works, Wanted::Due, Decision::Rest),
            (AgencyState::Gone, past, invalid()),
            (AgencyState::Gone, Wanted::Due, Decision::Rest),
            (AgencyState::Revoked(NOW), past, Decision::End),
            (AgencyState::Revoked(NOW), Wanted::Due, Decision::End),
            (AgencyState::Revoked(EARLIER), past, invalid()),
        ] {
            assert_eq!(
                decided(asleep(), agency, wanted),
                expected,
                "{agency:?} {wanted:?}"
            );
        }
    }

    #[test]
    fn revoked_location_gets_no_token() {
        let mut revoked = asleep();
        revoked.access.status = Status::Revoked;
        let expected = Decision::Leave(Outcome::NotRefreshable(Status::Revoked));
        for wanted in [
            Wanted::Past(Generation::NONE),
            Wanted::Now,
            Wanted::Forced,
            Wanted::Due,
        ] {
            assert_eq!(
                decided(revoked.clone(), AgencyState::Works, wanted),
                expected
            );
        }
    }

    #[test]
    fn newer_token_and_a_pause_after_failures_need_no_mint() {
        let mut newer = asleep();
        newer.access.generation = Generation::FIRST;
        let past = Wanted::Past(Generation::NONE);
        let superseded = Decision::Leave(Outcome::Superseded);
        assert_eq!(decided(newer, AgencyState::Works, past), superseded);
        let failed = fail_mint(&asleep(), LastError::new("k", "m", NOW)).unwrap();
        let until = NOW + Duration::from_secs(1);
        let paused = Decision::Leave(Outcome::NotDue(until));
        assert_eq!(decided(failed.clone(), AgencyState::Works, past), paused);
        // An operator does not wait.
        let now = decided(failed, AgencyState::Works, Wanted::Now);
        assert_eq!(now, Decision::Mint("L".parse().unwrap()));
    }
}
