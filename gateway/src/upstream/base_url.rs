//! The base URL of an upstream, and URIs below it.

use std::borrow::Cow;

use bytes::Bytes;
use http::Uri;
use http::uri::{Authority, InvalidUri, PathAndQuery, Scheme};
use url::Url;

use super::outbound::Origin;
use crate::request::query;

/// The base URL of an upstream, parsed once.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) origin: Origin,
    /// Without a trailing slash.
    path: Box<str>,
}

/// A base URL that nothing can be appended to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnusableBase {
    #[error("it has a query or a fragment")]
    Tail,
    #[error("{0}")]
    Malformed(#[from] InvalidUri),
    #[error("it has no host")]
    NoHost,
}

impl Base {
    pub(crate) fn new(url: &Url) -> Result<Self, UnusableBase> {
        if url.query().is_some() || url.fragment().is_some() {
            return Err(UnusableBase::Tail);
        }
        let parts = url.as_str().parse::<Uri>()?.into_parts();
        match (parts.scheme, parts.authority) {
            (Some(scheme), Some(authority)) => Ok(Self {
                origin: Origin { scheme, authority },
                path: url.path().trim_end_matches('/').into(),
            }),
            _ => Err(UnusableBase::NoHost),
        }
    }

    /// Replaces a rejected URL until the mistake is reported.
    pub(crate) fn placeholder() -> Self {
        let origin = Origin {
            scheme: Scheme::HTTP,
            authority: Authority::from_static("localhost"),
        };
        Self {
            origin,
            path: "".into(),
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.origin.scheme == Scheme::HTTPS
    }

    /// The path of this base, then `path`, then the caller's query without `installation_id`. If `location` is
    /// given, it is added as `locationId`.
    pub(crate) fn uri(
        &self,
        path: &str,
        query: Option<&str>,
        location: Option<&str>,
    ) -> Result<Uri, InvalidUri> {
        let query = query.map_or(Cow::Borrowed(""), query::without_installation);
        let length = self.path.len() + path.len();
        let mut target = match (query.is_empty(), location) {
            // The exact length, so that the conversion to `Bytes` does not copy.
            (true, None) => String::with_capacity(length),
            (false, None) => String::with_capacity(length + 1 + query.len()),
            (_, Some(_)) => String::new(),
        };
        target.push_str(&self.path);
        target.push_str(path);
        if !query.is_empty() {
            target.push('?');
            target.push_str(&query);
        }
        if let Some(location) = location {
            target.push(if query.is_empty() { '?' } else { '&' });
            target.push_str("locationId=");
            target.push_str(location);
        }
        Ok(PathAndQuery::from_maybe_shared(Bytes::from(target))?.into())
    }

    /// The path of this base, then path and query unchanged.
    pub(crate) fn uri_as_is(&self, uri: &Uri) -> Result<Uri, InvalidUri> {
        let path_and_query = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let target = [&self.path, path_and_query].concat();
        Ok(PathAndQuery::from_maybe_shared(Bytes::from(target))?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(url: &str) -> Base {
        Base::new(&Url::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn uri_keeps_path_and_query_and_drops_installation_id() {
        let base = base("https://services.leadconnectorhq.com");
        let uri = |path, query| base.uri(path, query, None).unwrap().to_string();
        assert_eq!(uri("/products/", None), "/products/");
        assert_eq!(
            uri("/a%20b/c%2Fd", Some("x=%20&y=a+b&y=2&z")),
            "/a%20b/c%2Fd?x=%20&y=a+b&y=2&z"
        );
        assert_eq!(
            uri(
                "/x",
                Some("installation_id=install_1&a=1&installation_id=2")
            ),
            "/x?a=1"
        );
        assert_eq!(uri("/x", Some("installation_id=install_1")), "/x");
    }

    #[test]
    fn base_path_is_kept_and_location_id_is_appended() {
        let base = base("http://127.0.0.1:8090/v1/");
        let uri = |query| base.uri("/p/", query, Some("LOC")).unwrap().to_string();
        assert_eq!(uri(None), "/v1/p/?locationId=LOC");
        assert_eq!(uri(Some("limit=1")), "/v1/p/?limit=1&locationId=LOC");
        let callback = "/oauth/callback?code=1&installation_id=2".parse().unwrap();
        assert_eq!(
            base.uri_as_is(&callback).unwrap().to_string(),
            "/v1/oauth/callback?code=1&installation_id=2"
        );
    }

    #[test]
    fn base_url_with_query_is_rejected() {
        let url = Url::parse("http://127.0.0.1/?a=1").unwrap();
        assert!(Base::new(&url).is_err());
    }
}
