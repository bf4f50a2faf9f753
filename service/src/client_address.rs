//! The address of a caller, also behind load balancers.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::config::Settings;

/// The header in which each proxy notes the address that it was called from, the nearest last.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The load balancers whose `X-Forwarded-For` is believed. Clones are cheap.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

/// The text is no list of addresses and networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a list of addresses and networks such as `10.0.0.0/8, 192.0.2.7`")]
pub struct NoNetworks;

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&networks.join(","))
    }
}

impl FromStr for TrustedProxies {
    type Err = NoNetworks;

    fn from_str(text: &str) -> Result<Self, NoNetworks> {
        let items = text.split(',').map(str::trim).filter(|it| !it.is_empty());
        let networks = items.map(|item| {
            let address = item.parse::<IpAddr>().map(IpNet::from);
            address.or_else(|_| item.parse::<IpNet>())
        });
        let networks: Result<Vec<_>, _> = networks.collect();
        networks.map(|it| Self(it.into())).map_err(|_| NoNetworks)
    }
}

impl TrustedProxies {
    /// Reads `EVERGREEN_TRUSTED_PROXIES`. The default is a proxy on this machine.
    pub fn read(settings: &mut Settings<'_>) -> Self {
        settings.parse(
            "EVERGREEN_TRUSTED_PROXIES",
            Self::loopback(),
            "addresses and networks such as 10.0.0.0/8,192.0.2.7",
        )
    }

    /// The proxies on this machine.
    #[must_use]
    pub fn loopback() -> Self {
        let networks = [
            IpNet::from(IpAddr::from([127, 0, 0, 0])),
            IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ];
        let [v4, v6] = networks;
        let v4 = IpNet::new(v4.addr(), 8).unwrap_or(v4);
        Self([v4, v6].into())
    }

    /// The address of the caller: that of the connection, or if it is of a trusted proxy, the last one in
    /// `X-Forwarded-For` that is not.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        // As bytes: a proxy appends its note to whatever the caller sent, and a note that is no text must not hide it.
        let notes = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut noted = notes.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        while self.contains(client) {
            match noted.next().and_then(address) {
                Some(next) => client = next,
                None => break,
            }
        }
        client
    }

    /// Whether the address is of a trusted proxy.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The address that the nearest proxy noted, or that of the connection. For a process that only proxies of ours reach.
#[must_use]
pub fn last_noted(peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let last = headers.get_all(FORWARDED_FOR).iter().next_back();
    let last = last.and_then(|value| value.as_bytes().rsplit(|byte| *byte == b',').next());
    last.and_then(address).unwrap_or(peer)
}

/// An address as proxies note it, some with a port.
fn address(noted: &[u8]) -> Option<IpAddr> {
    let noted = std::str::from_utf8(noted).ok()?.trim();
    let with_port = || noted.parse::<SocketAddr>().map(|it| it.ip());
    let bare = noted.trim_matches(['[', ']']).parse::<IpAddr>();
    bare.or_else(|_| with_port())
        .ok()
        .map(|it| it.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(noted: &[&str]) -> HeaderMap {
        let pairs = noted.iter().map(|it| (FORWARDED_FOR, it.parse().unwrap()));
        pairs.collect()
    }

    #[test]
    fn only_trusted_proxies_say_where_a_call_comes_from() {
        let proxies: TrustedProxies = "10.0.0.0/8, 192.0.2.7".parse().unwrap();
        for (peer, noted, expected) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("10.1.2.3", &["198.51.100.1"], "198.51.100.1"),
            (
                "10.1.2.3",
                &["1.1.1.1, 198.51.100.1, 192.0.2.7"],
                "198.51.100.1",
            ),
            ("10.1.2.3", &["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
            ("10.1.2.3", &["198.51.100.1:5678"], "198.51.100.1"),
            ("10.1.2.3", &["[2001:db8::1]:5678"], "2001:db8::1"),
            ("10.1.2.3", &["nonsense"], "10.1.2.3"),
            ("10.1.2.3", &[], "10.1.2.3"),
        ] {
            let client = proxies.client(peer.parse().unwrap(), &headers(noted));
            assert_eq!(
                client,
                expected.parse::<IpAddr>().unwrap(),
                "{peer} {noted:?}"
            );
        }
        assert_eq!(
            TrustedProxies::default().client("10.1.2.3".parse().unwrap(), &headers(&["1.1.1.1"])),
            "10.1.2.3".parse::<IpAddr>().unwrap()
        );
        assert_eq!(
            "10.0.0.0/8,x".parse::<TrustedProxies>().unwrap_err(),
            NoNetworks
        );
    }

    #[test]
    fn last_noted_address_is_the_nearest_proxys() {
        let peer = "127.0.0.1".parse().unwrap();
        let last = last_noted(peer, &headers(&["1.1.1.1, 198.51.100.1"]));
        assert_eq!(last, "198.51.100.1".parse::<IpAddr>().unwrap());
        assert_eq!(last_noted(peer, &headers(&[])), peer);
    }
}
