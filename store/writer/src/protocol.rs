//! The refresh protocol as pure functions: from what is stored, what happened and what time it is,
//! to what is stored next.
//!
//! Nothing here reads a clock, a store or a network, so both backends, the tests and the model
//! share exactly these decisions.
//!
//! The fence is the token chain, not the lock: a commit is accepted because it spent the link that
//! is current, whoever holds the lease by then. A paused holder may have the only valid token.

mod enrol;
mod refresh;
mod refused;
mod takeover;

pub use enrol::{Earlier, SealedTokens, enrol, generation_for, may_be_static, revoke};
pub use refresh::{
    Attempt, Begin, Commit, DEFAULT_GRACE, Give, LATE_NOTE, Refusal, Tokens, Verdict, abandon,
    adopt, begin, commit, give_back, in_doubt, read_late, withdraw,
};
pub use refused::REFUSALS_TO_INVALID;
pub use takeover::{TakenOver, take_over};

#[cfg(test)]
mod tests;
