//! A request for the other side.

use http::uri::{Authority, Scheme};
use http::{Method, Uri};

use super::headers::Sent;

/// Whom a pool connects to.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

/// A request, all but its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outbound<'r> {
    pub(crate) method: &'r Method,
    /// A path and a query alone.
    pub(crate) uri: &'r Uri,
    pub(crate) headers: Sent<'r>,
}

impl Origin {
    /// The whole URI of a path and a query.
    pub(super) fn with(&self, path: &Uri) -> Uri {
        let mut parts = path.clone().into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        // Cannot be refused: a scheme, an authority and a path are all there.
        Uri::from_parts(parts).unwrap_or_default()
    }
}
