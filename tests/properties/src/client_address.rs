//! The address of a caller behind proxies: `service::client_address`.
//!
//! Input: a line with the trusted proxies, one with the address of the connection, then headers.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};
use service::client_address::{FORWARDED_FOR, TrustedProxies, last_noted};

use crate::input::{self, assert_showable};

/// Nobody but a trusted proxy says where a call comes from, and nothing that a client sends itself counts.
pub fn check(bytes: &[u8]) {
    let ([proxies, peer], head) = input::lines(bytes);
    let proxies = match input::text(proxies).parse::<TrustedProxies>() {
        Ok(proxies) => proxies,
        Err(error) => {
            assert_showable(&error.to_string(), 120);
            TrustedProxies::loopback()
        }
    };
    let peer = input::text(peer).trim().parse();
    let peer: IpAddr = peer.unwrap_or_else(|_| IpAddr::from([127, 0, 0, 1]));
    let headers = input::headers(head);
    let client = proxies.client(peer, &headers);
    if !proxies.contains(peer) {
        assert_eq!(client, peer, "the peer is no proxy of ours");
    }
    assert_eq!(TrustedProxies::default().client(peer, &headers), peer);

    // A client can write what it wants in front of what the proxies add.
    let forged = forged(&headers);
    if !proxies.contains(client) {
        assert_eq!(proxies.client(peer, &forged), client, "{forged:?}");
    }
    if headers.contains_key(FORWARDED_FOR) {
        assert_eq!(last_noted(peer, &forged), last_noted(peer, &headers));
    }
    nearest_note_counts(&proxies, peer, &headers);
}

/// The headers, with an invented first note.
fn forged(headers: &HeaderMap) -> HeaderMap {
    let mut forged = HeaderMap::new();
    forged.append(FORWARDED_FOR, HeaderValue::from_static("203.0.113.66"));
    for value in headers.get_all(FORWARDED_FOR) {
        forged.append(FORWARDED_FOR, value.clone());
    }
    forged
}

/// A proxy may append to whatever bytes a client has sent. Its note counts all the same.
fn nearest_note_counts(proxies: &TrustedProxies, peer: IpAddr, headers: &HeaderMap) {
    let note = IpAddr::from([198, 51, 100, 7]);
    let mut noted = HeaderMap::new();
    let values: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    let (last, before) = values.split_last().map_or((None, &[][..]), |(last, rest)| {
        (Some(last.as_bytes()), rest)
    });
    for value in before {
        noted.append(FORWARDED_FOR, (*value).clone());
    }
    let appended = [last.unwrap_or_default(), b", ", note.to_string().as_bytes()].concat();
    let appended = HeaderValue::from_bytes(&appended).expect("a header's bytes");
    noted.append(FORWARDED_FOR, appended);
    assert_eq!(last_noted(peer, &noted), note);
    if proxies.contains(peer) && !proxies.contains(note) {
        assert_eq!(proxies.client(peer, &noted), note);
    }
}
