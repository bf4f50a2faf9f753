//! What a caller's request says: who calls, which installation is meant, and what is to be forwarded.

pub(crate) mod body;
pub(crate) mod caller;
pub(crate) mod headers;
pub(crate) mod json;
pub(crate) mod path;
pub(crate) mod query;
pub(crate) mod quota;
pub(crate) mod selector;
