//! The refresh protocol as pure functions. Each takes the stored record, an event and the time, and returns
//! the next record.
//!
//! Nothing here reads a clock, a store or a network. Both backends, the tests and the model share these
//! decisions.
//!
//! The fence is the token chain and not the lock. A commit is accepted if it spent the current link,
//! even if another broker holds the lease by then. A paused holder may have the only valid token.

mod derived;
mod failure;
mod import;
mod refresh;
mod refusals;
mod registration;
mod takeover;

pub use derived::{
    AgencyGrant, AgencyLocation, LIST_CLAIM, Listed, Minted, announce_location, claim_list,
    fail_mint, generation_after, is_waiting, list_location, mint, mint_pause_ends, rest,
    revoked_at,
};
pub use failure::{
    AttemptFailure, FailureClass, FailureDecision, LATE_READER_TTL, abandon, record_failure,
    record_late_reader, withdraw,
};
pub use import::{
    ImportDecision, ImportRefusal, ImportedTokens, Unchanged, import, import_consent, is_import,
    mints,
};
pub use refresh::{
    Attempt, Begin, Commit, DEFAULT_GRACE, Tokens, UNKNOWN_APP_PAUSE, adopt, begin, commit,
    lost_response, postpone,
};
pub use refusals::REFUSALS_TO_INVALID;
pub use registration::{
    PreviousRecord, STATIC_TOKEN_AGE, SealedTokens, generation_for, may_be_static, register,
    remind, revoke,
};
pub use takeover::{Takeover, take_over};

#[cfg(test)]
mod tests;
