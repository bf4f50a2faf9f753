//! Reads a raw query without parsing and serializing it. The forwarded bytes stay unchanged.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Names the installation. It is not forwarded to GHL.
pub(crate) const INSTALLATION: &str = "installation_id";

/// The names and raw values, in order.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// A value with its percent encoding removed.
pub(crate) fn decoded(raw: &str) -> Cow<'_, str> {
    if raw.contains('+') {
        let spaced = raw.replace('+', " ");
        Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
    } else {
        percent_decode_str(raw).decode_utf8_lossy()
    }
}

/// The value of the first pair of this name, if it is not empty.
pub(crate) fn value<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, str>> {
    let (_, raw) = pairs(query?).find(|(found, raw)| *found == name && !raw.is_empty())?;
    Some(decoded(raw))
}

/// The query without [`INSTALLATION`], otherwise unchanged.
pub(crate) fn without_installation(query: &str) -> Cow<'_, str> {
    if !query.contains(INSTALLATION) {
        return Cow::Borrowed(query);
    }
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| pair.split_once('=').map_or(*pair, |(name, _)| name) != INSTALLATION)
        .collect();
    Cow::Owned(kept.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_empty_ones_count_as_absent() {
        let query = Some("a=1&b=x%20y+z&c=&c=2&d");
        assert_eq!(value(query, "a").as_deref(), Some("1"));
        assert_eq!(value(query, "b").as_deref(), Some("x y z"));
        assert_eq!(value(query, "c").as_deref(), Some("2"));
        assert_eq!(value(query, "d"), None);
        assert_eq!(value(None, "a"), None);
    }

    #[test]
    fn only_installation_id_is_removed() {
        for (query, expected) in [
            ("a=1", "a=1"),
            ("installation_id=x&a=1", "a=1"),
            ("a=1&installation_id=x&b", "a=1&b"),
            (
                "my_installation_id=x&installation_id",
                "my_installation_id=x",
            ),
            ("a=installation_id", "a=installation_id"),
        ] {
            assert_eq!(without_installation(query), expected);
        }
    }
}
