//! Rules of the protocol that a simulation can switch off.

/// Which rules are in force. A simulation switches one off to show that it notices its absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A response that arrives after the timeout is still read.
    pub late_answers: bool,
    /// No new token is spent during an outage at GHL, and few refreshes are in flight before it.
    pub containment: bool,
    /// Responses are kept until they are superseded, and restored to a store that lost them.
    pub keep_answers: bool,
    /// A refused token is tried again before its installation becomes invalid.
    pub suspects: bool,
}

impl Rules {
    /// All rules in force, as in production.
    pub const ALL: Self = Self {
        late_answers: true,
        containment: true,
        keep_answers: true,
        suspects: true,
    };
}
