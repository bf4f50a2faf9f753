//! A request to an upstream.

use http::uri::{Authority, Scheme};
use http::{Method, Uri};

use super::headers::OutboundHeaders;

/// The origin that a pool connects to.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

/// A request without its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outbound<'r> {
    pub(crate) method: &'r Method,
    /// Only a path and a query.
    pub(crate) uri: &'r Uri,
    pub(crate) headers: OutboundHeaders<'r>,
}

impl Origin {
    /// The whole URI of a path and a query.
    pub(super) fn with(&self, path: &Uri) -> Uri {
        let mut parts = path.clone().into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        // Cannot fail, since scheme, authority and path are all present.
        Uri::from_parts(parts).unwrap_or_default()
    }
}
