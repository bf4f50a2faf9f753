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
            if let Some(end) = protocol::mint_pause_ends(installation).filter(|end| end > now) {
                return Decision::Leave(Outcome::NotDue(end));
            }
        }
        Wanted::Due | Wanted::Now | Wanted::Forced => {}
    }
    match (agency, wanted) {
        (AgencyState::Revoked, _) => Decision::End,
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
