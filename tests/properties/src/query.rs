//! The query of a call: `gateway/src/request/query.rs`.

use std::collections::BTreeSet;

use gateway::fuzzing::{query_value, query_without_installation};
use url::form_urlencoded;

use crate::input;

const INSTALLATION: &str = "installation_id";

/// Only `installation_id` is removed, everything else keeps its bytes and its order, and values are decoded as forms.
pub fn check(bytes: &[u8]) {
    let query = input::text(bytes);
    let forwarded = query_without_installation(&query);
    let is_kept =
        |pair: &&str| pair.split_once('=').map_or(*pair, |(name, _)| name) != INSTALLATION;
    let kept: Vec<&str> = query.split('&').filter(is_kept).collect();
    assert_eq!(forwarded, kept.join("&"));
    assert_eq!(query_without_installation(&forwarded), forwarded);
    assert_eq!(query_value(&forwarded, INSTALLATION), None);

    let names: BTreeSet<&str> = query
        .split('&')
        .map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
        .collect();
    for name in names {
        let found = query_value(&query, name);
        assert!(
            found.as_deref() != Some(""),
            "an empty value counts as absent"
        );
        if name != INSTALLATION {
            assert_eq!(query_value(&forwarded, name), found, "{name}");
        }
    }

    // A value is read as the client meant it.
    let encoded: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let expected = Some(query.into_owned()).filter(|value| !value.is_empty());
    assert_eq!(query_value(&format!("a=1&q={encoded}"), "q"), expected);
}
