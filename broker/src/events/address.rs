//! Which addresses a delivery may reach.
//!
//! The URL of an endpoint decides where evergreen connects to. A hostile URL could reach internal services (server-side
//! request forgery). So only addresses of the public internet are reached, unless the operator allows others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Ranges of IPv4 that are not of the public internet, as IANA's registry of special addresses has them.
const SPECIAL_V4: [([u8; 4], u32); 15] = [
    // This network, and the unspecified address.
    ([0, 0, 0, 0], 8),
    // Private.
    ([10, 0, 0, 0], 8),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
    // Carrier-grade NAT.
    ([100, 64, 0, 0], 10),
    // Loopback.
    ([127, 0, 0, 0], 8),
    // Link-local, and the metadata services of clouds.
    ([169, 254, 0, 0], 16),
    // Protocol assignments, and relays of 6to4.
    ([192, 0, 0, 0], 24),
    ([192, 88, 99, 0], 24),
    // Documentation.
    ([192, 0, 2, 0], 24),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Benchmarks.
    ([198, 18, 0, 0], 15),
    // Multicast.
    ([224, 0, 0, 0], 4),
    // Reserved, and broadcast.
    ([240, 0, 0, 0], 4),
];

/// Ranges within the global unicast addresses of IPv6 that are not of the public internet.
const SPECIAL_V6: [([u16; 2], u32); 3] = [
    // Protocol assignments, such as Teredo, which hides an address of IPv4.
    ([0x2001, 0], 23),
    // Documentation.
    ([0x2001, 0xdb8], 32),
    ([0x3fff, 0], 20),
];

/// Whether addresses beyond the public internet may be reached (`EVERGREEN_EVENTS_ALLOW_PRIVATE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivateAddresses {
    /// For receivers within the own network.
    Allowed,
    /// The default.
    Refused,
}

/// An address that is not of the public internet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no address of the public internet")]
pub(crate) struct RefusedAddress(pub(crate) String);

impl PrivateAddresses {
    /// Refuses an address that may not be reached.
    pub(crate) fn check(self, address: IpAddr) -> Result<(), RefusedAddress> {
        match self {
            Self::Refused if !is_public(address) => Err(RefusedAddress(address.to_string())),
            Self::Allowed | Self::Refused => Ok(()),
        }
    }

    /// Refuses a URL whose host is an address that may not be reached, or names this machine. Other names are checked when
    /// they are resolved.
    pub(crate) fn check_url(self, url: &Url) -> Result<(), RefusedAddress> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check(address.into()),
            Some(Host::Ipv6(address)) => self.check(address.into()),
            Some(Host::Domain(name)) if self == Self::Refused && is_localhost(name) => {
                Err(RefusedAddress(name.to_owned()))
            }
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }
}

/// Names of this machine (RFC 6761), with or without the dot of the root.
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether it is an address of the public internet. An address of IPv6 that stands for one of IPv4 is what that one is.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(address) => is_public_v4(address),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_in = |(network, bits): ([u8; 4], u32)| {
        let different = address.to_bits() ^ Ipv4Addr::from(network).to_bits();
        different >> (32 - bits) == 0
    };
    !SPECIAL_V4.into_iter().any(is_in)
}

/// Only 2000::/3 is assigned to the public internet.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let start = u32::from(first) << 16 | u32::from(second);
    let is_in = |([a, b], bits): ([u16; 2], u32)| {
        let network = u32::from(a) << 16 | u32::from(b);
        (start ^ network) >> (32 - bits) == 0
    };
    first >> 13 == 1 && !SPECIAL_V6.into_iter().any(is_in)
}

/// The address of IPv4 that packets to this one end at.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        // Mapped.
        [0, 0, 0, 0, 0, 0xffff] => Some(of(g, h)),
        // NAT64 with the well-known prefix.
        [0x64, 0xff9b, 0, 0, 0, 0] => Some(of(g, h)),
        // 6to4.
        [0x2002, ..] => Some(of(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(address: &str) -> bool {
        let address: IpAddr = address.parse().expect(address);
        PrivateAddresses::Refused.check(address).is_err()
    }

    #[test]
    fn addresses_beyond_the_public_internet_are_refused() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:c0a8:101::1",
            "3fff::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(refused(address), "{address}");
        }
    }

    #[test]
    fn addresses_of_the_public_internet_are_reached() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(!refused(address), "{address}");
        }
    }

    #[test]
    fn every_address_is_reached_if_private_ones_are_allowed() {
        for address in ["127.0.0.1", "10.0.0.1", "::1", "8.8.8.8"] {
            let address = address.parse().unwrap();
            assert_eq!(PrivateAddresses::Allowed.check(address), Ok(()));
        }
    }

    #[test]
    fn url_with_an_address_in_any_spelling_or_localhost_is_refused() {
        let check = |policy: PrivateAddresses, url: &str| {
            policy.check_url(&Url::parse(url).unwrap()).is_ok()
        };
        for url in [
            "https://127.0.0.1/hook",
            "https://2130706433",
            "https://0x7f.1",
            "https://0177.0.0.1",
            "https://127.1:8443",
            "https://[::1]",
            "https://[::ffff:10.0.0.1]",
            "https://localhost:9000",
            "https://LOCALHOST.",
            "https://hook.localhost",
        ] {
            assert!(!check(PrivateAddresses::Refused, url), "{url}");
            assert!(check(PrivateAddresses::Allowed, url), "{url}");
        }
        for url in [
            "https://example.com",
            "https://8.8.8.8",
            "https://localhost.example.com",
            "https://notlocalhost",
        ] {
            assert!(check(PrivateAddresses::Refused, url), "{url}");
        }
    }

    proptest! {
        /// The standard library's own properties never disagree.
        #[test]
        fn no_special_address_of_ipv4_is_public_in_any_form(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            let is_special = address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_documentation()
                || address.is_broadcast()
                || address.is_unspecified();
            let [a, b, c, d] = address.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            let forms = [
                IpAddr::V4(address),
                address.to_ipv6_mapped().into(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into(),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into(),
            ];
            for form in forms {
                prop_assert!(!(is_special && is_public(form)), "{form}");
                prop_assert_eq!(is_public(form), is_public_v4(address), "{}", form);
            }
        }

        #[test]
        fn no_special_address_of_ipv6_is_public(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            let is_special = address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local();
            prop_assert!(!(is_special && is_public(address.into())));
        }
    }
}
