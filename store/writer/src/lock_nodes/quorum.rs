//! The majority that every operation on the lock nodes needs.

/// Fewer than a majority of the lock nodes answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{answered} of {nodes} lock nodes answered, {needed} are needed")]
pub struct NoMajority {
    /// The nodes that answered.
    pub answered: usize,
    /// All nodes.
    pub nodes: usize,
    /// The majority.
    pub needed: usize,
}

pub(crate) fn majority(nodes: usize) -> usize {
    nodes / 2 + 1
}
