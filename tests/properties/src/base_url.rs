//! URIs below the base URL of an upstream: `gateway/src/upstream/base_url.rs`.
//!
//! Input: a line with the base URL, one with path and query, one with the location, empty for none.

use gateway::fuzzing::{query_without_installation, upstream_uri};
use http::uri::PathAndQuery;
use store::LocationId;
use url::Url;

use crate::input;

/// A URI is the base's origin and path, the caller's path and query unchanged, and the location. Nothing of the caller
/// changes the origin, and `installation_id` stays here.
pub fn check(bytes: &[u8]) {
    let ([base, target, location], _) = input::lines(bytes);
    let (base, target, location) = (
        input::text(base),
        input::text(target),
        input::text(location),
    );
    let base = Url::parse(base.trim());
    let target = target.parse::<PathAndQuery>();
    let (Ok(base), Ok(target)) = (base, target) else {
        return;
    };
    let location = location.parse::<LocationId>().ok();
    let location = location.as_ref().map(LocationId::as_str);
    let (path, query) = (target.path(), target.query());
    if !path.starts_with('/') {
        return;
    }
    let Some((origin, uri)) = upstream_uri(&base, path, query, location) else {
        return;
    };
    assert!(base.query().is_none() && base.fragment().is_none());
    let host = base.host_str().expect("an accepted base has a host");
    assert!(origin.starts_with(base.scheme()), "{origin} of {base}");
    assert!(origin.contains(host), "{origin} of {base}");
    assert!(uri.host().is_none(), "{uri} names a host");
    let expected = [base.path().trim_end_matches('/'), path].concat();
    assert_eq!(uri.path(), expected);
    let kept = query.map(query_without_installation).unwrap_or_default();
    let kept = Some(kept).filter(|kept| !kept.is_empty());
    let added = location.map(|location| format!("locationId={location}"));
    let expected: Vec<String> = kept.into_iter().chain(added).collect();
    let found = uri.query().unwrap_or_default();
    assert_eq!(found, expected.join("&"));
}
