//! The caller's request: its key, the installation that it names, its path and its body.

pub(crate) mod body;
pub(crate) mod body_fields;
pub(crate) mod caller;
pub(crate) mod content_coding;
pub(crate) mod headers;
pub(crate) mod json;
pub(crate) mod multipart;
pub(crate) mod owner;
pub(crate) mod path;
pub(crate) mod query;
pub(crate) mod quota;
pub(crate) mod selector;
