//! Whether the tokens of another backend replace what the store has.
//!
//! A refresh token is valid once, so an older token must never replace a newer one. The chain of imported tokens is named
//! after their first refresh token. So a row is recognised after its token was spent, however often it is imported.

use store::{Status, Timestamp};

use super::derived::revoked_at;
use crate::grant::Fingerprint;
use crate::installation::Installation;

/// The tokens of a row, as far as the decision needs them.
#[derive(Debug, Clone, Copy)]
pub struct ImportedTokens<'a> {
    /// Of the refresh token.
    pub fingerprint: &'a Fingerprint,
    /// When the access token expires. `None` if the row does not say.
    pub expires_at: Option<Timestamp>,
    /// When the tokens were issued. `None` if the row does not say.
    pub issued_at: Option<Timestamp>,
}

/// The effect of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportDecision {
    /// It starts a new chain, named [`import_consent`].
    Write,
    /// Nothing changes.
    Unchanged(Unchanged),
    /// Nothing changes, and somebody has to act.
    Refused(ImportRefusal),
}

/// Why a row changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchanged {
    /// It was imported before.
    ImportedBefore {
        /// Whether its refresh token has been spent since, so that it is known to work.
        is_refreshed: bool,
    },
    /// Its refresh token is the current one.
    Current,
    /// The stored token is newer, or it works and the age of the row is unknown.
    StoredIsNewer,
    /// It is of a location whose tokens are minted with those of its agency.
    OfAgency,
}

impl Unchanged {
    /// In words, for the operator.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ImportedBefore { .. } => "it was imported before",
            Self::Current => "its refresh token is the stored one",
            Self::StoredIsNewer => "the stored token is newer",
            Self::OfAgency => "its agency's token makes the tokens of this location",
        }
    }
}

/// Why a row is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportRefusal {
    /// The app was uninstalled, or an operator revoked it, after the tokens were issued.
    Revoked,
    /// A refresh is in progress, and its answer would be lost.
    InProgress,
}

impl ImportRefusal {
    /// In words, for the operator.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => {
                "the installation was revoked, and the row does not have a token that was issued later: let the \
                 customer connect again at /oauth/install"
            }
            Self::InProgress => {
                "its token is being refreshed now: import the row again in a minute"
            }
        }
    }
}

/// The name of the chain that an imported refresh token begins.
#[must_use]
pub fn import_consent(fingerprint: &Fingerprint) -> String {
    format!("{IMPORT}{fingerprint}")
}

/// Whether a chain of this name began with an import.
#[must_use]
pub fn is_import(chain: &str) -> bool {
    chain.starts_with(IMPORT)
}

const IMPORT: &str = "import-";

/// Decides the effect of a row. `is_minted`: the record is of a location whose agency has a grant that works.
///
/// | stored | the row replaces it |
/// | --- | --- |
/// | nothing, or a static token | always |
/// | the row's own chain, or its refresh token | never |
/// | a revoked installation | if its tokens were issued after the revocation |
/// | a location of an agency whose grant works | never: its token is minted |
/// | an invalid installation | if the row's expiry is later, or unknown |
/// | any other | if the row's expiry is later |
#[must_use]
pub fn import(
    current: Option<&Installation>,
    is_minted: bool,
    row: ImportedTokens<'_>,
    now: Timestamp,
) -> ImportDecision {
    let Some(current) = current else {
        return ImportDecision::Write;
    };
    let unchanged = ImportDecision::Unchanged;
    if let Some(chain) = &current.chain {
        let is_current = chain.fingerprint == *row.fingerprint;
        if chain.consent == import_consent(row.fingerprint) {
            let is_refreshed = !is_current;
            return unchanged(Unchanged::ImportedBefore { is_refreshed });
        }
        if is_current || current.alternates.contains_key(row.fingerprint) {
            return unchanged(Unchanged::Current);
        }
    }
    let is_later = match (row.expires_at, current.access.expires_at) {
        (Some(of_row), Some(stored)) => of_row > stored,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let replaces = match current.access.status {
        Status::Revoked => {
            let is_after = row.issued_at.is_some_and(|at| at > revoked_at(current));
            if !is_after {
                return ImportDecision::Refused(ImportRefusal::Revoked);
            }
            true
        }
        Status::Active | Status::Paused | Status::Invalid if is_minted => {
            return unchanged(Unchanged::OfAgency);
        }
        // A location that has never had a token of its own.
        Status::Active | Status::Paused if current.chain.is_none() => true,
        Status::Active | Status::Paused => is_later,
        Status::Invalid => is_later || row.expires_at.is_none(),
        Status::Static => true,
    };
    let is_open = current.intent.as_ref().is_some_and(|open| open.until > now);
    match (replaces, is_open) {
        (true, true) => ImportDecision::Refused(ImportRefusal::InProgress),
        (true, false) => ImportDecision::Write,
        (false, _) => unchanged(Unchanged::StoredIsNewer),
    }
}

/// Whether the grant of an agency mints the tokens of its locations.
#[must_use]
pub fn mints(agency: &Installation) -> bool {
    match agency.access.status {
        Status::Active | Status::Paused => agency.chain.is_some(),
        Status::Invalid | Status::Revoked | Status::Static => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use store::InstallationId;

    use super::super::tests::{LIFETIME, NOW, installed, intent};
    use super::super::{REFUSALS_TO_INVALID, revoke};
    use super::*;

    const LATER: Duration = Duration::from_secs(1);

    fn print(token: &str) -> Fingerprint {
        Fingerprint::of(&token.into())
    }

    /// The decision about a row with this token and this expiry, counted from the stored one's.
    fn decide(
        current: &Installation,
        token: &str,
        expires_at: Option<Timestamp>,
    ) -> ImportDecision {
        let fingerprint = print(token);
        let row = ImportedTokens {
            fingerprint: &fingerprint,
            expires_at,
            issued_at: expires_at.map(|at| at - LIFETIME),
        };
        import(Some(current), false, row, NOW)
    }

    fn stored_is_newer() -> ImportDecision {
        ImportDecision::Unchanged(Unchanged::StoredIsNewer)
    }

    #[test]
    fn row_replaces_a_working_token_only_if_it_expires_later() {
        let current = installed();
        let stored = current.access.expires_at.unwrap();
        assert_eq!(
            decide(&current, "r2", Some(stored + LATER)),
            ImportDecision::Write
        );
        for older in [Some(stored), Some(stored - LATER), None] {
            assert_eq!(
                decide(&current, "r2", older),
                stored_is_newer(),
                "{older:?}"
            );
        }
    }

    #[test]
    fn row_is_recognised_after_its_token_was_spent() {
        let mut current = installed();
        let far = Some(NOW + LIFETIME * 9);
        let same = ImportDecision::Unchanged(Unchanged::Current);
        assert_eq!(decide(&current, "r1", far), same);
        let chain = current.chain.as_mut().unwrap();
        chain.consent = import_consent(&print("r0"));
        let before =
            |is_refreshed| ImportDecision::Unchanged(Unchanged::ImportedBefore { is_refreshed });
        for status in Status::ALL {
            current.access.status = status;
            assert_eq!(decide(&current, "r0", far), before(true), "{status:?}");
        }
        current.chain.as_mut().unwrap().fingerprint = print("r0");
        assert_eq!(decide(&current, "r0", far), before(false));
    }

    #[test]
    fn invalid_installation_is_replaced_unless_the_row_is_older() {
        let mut current = installed();
        current.access.status = Status::Invalid;
        current.failures = REFUSALS_TO_INVALID;
        let stored = current.access.expires_at.unwrap();
        assert_eq!(
            decide(&current, "r2", Some(stored + LATER)),
            ImportDecision::Write
        );
        assert_eq!(decide(&current, "r2", None), ImportDecision::Write);
        assert_eq!(decide(&current, "r2", Some(stored)), stored_is_newer());
    }

    #[test]
    fn revoked_installation_is_revived_only_by_tokens_that_were_issued_later() {
        let current = revoke(&installed(), "uninstalled", NOW, NOW).unwrap();
        let refused = ImportDecision::Refused(ImportRefusal::Revoked);
        for older in [None, Some(NOW + LIFETIME), Some(NOW + LIFETIME - LATER)] {
            assert_eq!(decide(&current, "r2", older), refused, "{older:?}");
        }
        let newer = Some(NOW + LIFETIME + LATER);
        assert_eq!(decide(&current, "r2", newer), ImportDecision::Write);
    }

    #[test]
    fn location_of_an_agency_keeps_its_minted_tokens() {
        let mut current = installed();
        current.access.parent = Some(InstallationId::random());
        let fingerprint = print("r2");
        let row = ImportedTokens {
            fingerprint: &fingerprint,
            expires_at: Some(NOW + LIFETIME * 9),
            issued_at: None,
        };
        let of_agency = ImportDecision::Unchanged(Unchanged::OfAgency);
        assert_eq!(import(Some(&current), true, row, NOW), of_agency);
        // The agency's grant is gone.
        assert_eq!(
            import(Some(&current), false, row, NOW),
            ImportDecision::Write
        );
        current.chain = None;
        let unknown = ImportedTokens {
            expires_at: None,
            ..row
        };
        assert_eq!(
            import(Some(&current), false, unknown, NOW),
            ImportDecision::Write
        );
    }

    #[test]
    fn row_waits_for_a_refresh_in_progress() {
        let mut current = installed();
        current.intent = Some(intent("b", NOW));
        let later = Some(NOW + LIFETIME * 2);
        let busy = ImportDecision::Refused(ImportRefusal::InProgress);
        assert_eq!(decide(&current, "r2", later), busy);
        assert_eq!(decide(&current, "r2", None), stored_is_newer());
        current.intent.as_mut().unwrap().until = NOW;
        assert_eq!(decide(&current, "r2", later), ImportDecision::Write);
    }

    #[test]
    fn static_token_is_replaced() {
        let mut current = installed();
        current.access.status = Status::Static;
        current.chain = None;
        assert_eq!(decide(&current, "r2", None), ImportDecision::Write);
        let row = print("r2");
        let row = ImportedTokens {
            fingerprint: &row,
            expires_at: None,
            issued_at: None,
        };
        assert_eq!(import(None, false, row, NOW), ImportDecision::Write);
    }
}
