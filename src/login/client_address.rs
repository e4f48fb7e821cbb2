//! The client's address behind proxies: the rightmost hop that is not a proxy of ours.
//!
//! Each proxy appends the address from which it got the request. So what is to the right of the client was written by
//! our proxies, and what is to the left by the client, which can write anything there. Nothing to the left is read.

use crate::account::AllowedIp;
use std::net::IpAddr;
use thiserror::Error;

/// The networks of our own proxies. None is listed by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedProxies(Vec<AllowedIp>);

/// Why the client's address is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum UnknownAddress {
    /// No hop is there.
    #[error("no address of a client was sent")]
    Missing,
    /// The hop that should be the client's is not an IP address.
    #[error("the hop of the client is not an IP address")]
    Unreadable,
}

impl TrustedProxies {
    /// Takes these networks as those of our own proxies. List them as narrowly as you can: a client inside of them can
    /// claim any address.
    pub fn new(networks: impl IntoIterator<Item = AllowedIp>) -> Self {
        Self(networks.into_iter().collect())
    }

    fn include(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// Returns the client's address, without an IPv4 address that is mapped into IPv6.
///
/// `forwarded` has the hops that proxies wrote, the last one to the right, as in `X-Forwarded-For`. `peer` is the
/// address of the connection if the client may have made it itself, and then counts as the rightmost hop. If every hop
/// is a listed proxy, the leftmost one is the client.
///
/// # Errors
/// There is no hop, or a hop that must be read is not an IP address.
pub fn client_address(
    forwarded: Option<&str>,
    peer: Option<IpAddr>,
    proxies: &TrustedProxies,
) -> Result<IpAddr, UnknownAddress> {
    let written = forwarded.into_iter().flat_map(|hops| hops.rsplit(',')).map(parse_hop);
    let mut client = Err(UnknownAddress::Missing);
    for hop in peer.map(|peer| Ok(peer.to_canonical())).into_iter().chain(written) {
        client = hop;
        if !hop.is_ok_and(|address| proxies.include(address)) {
            break;
        }
    }
    client
}

/// Reads an address without a port, a zone or brackets: our proxies write none.
fn parse_hop(hop: &str) -> Result<IpAddr, UnknownAddress> {
    let address: IpAddr = hop.trim_matches([' ', '\t']).parse().map_err(|_| UnknownAddress::Unreadable)?;
    Ok(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxies() -> TrustedProxies {
        TrustedProxies::new(["10.0.0.0/8", "2001:db8:1::/48"].map(|text| AllowedIp::parse(text).unwrap()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_rightmost_hop_that_is_no_proxy_is_the_client() {
        for (forwarded, peer, client) in [
            (None, Some("192.0.2.1"), "192.0.2.1"),
            (Some("192.0.2.1"), None, "192.0.2.1"),
            (Some("192.0.2.1"), Some("10.0.0.1"), "192.0.2.1"),
            (Some("1.1.1.1, 192.0.2.1"), Some("10.0.0.1"), "192.0.2.1"),
            (Some("1.1.1.1,192.0.2.1 ,\t10.9.9.9"), Some("10.0.0.1"), "192.0.2.1"),
            (Some("10.0.0.7, 192.0.2.1"), None, "192.0.2.1"),
            (Some("unknown, ?, 192.0.2.1"), None, "192.0.2.1"),
            (Some("2001:db8:2::1, 2001:db8:1::5"), None, "2001:db8:2::1"),
            (Some("::ffff:192.0.2.1, ::ffff:10.0.0.1"), None, "192.0.2.1"),
            (Some("192.0.2.1"), Some("::ffff:10.0.0.1"), "192.0.2.1"),
            (Some("1.1.1.1"), Some("192.0.2.1"), "192.0.2.1"),
            (Some("10.0.0.3, 10.0.0.2"), Some("10.0.0.1"), "10.0.0.3"),
        ] {
            let found = client_address(forwarded, peer.map(ip), &proxies());
            assert_eq!(found, Ok(ip(client)), "{forwarded:?} {peer:?}");
        }
    }

    #[test]
    fn without_listed_proxies_the_last_hop_is_the_client() {
        let none = TrustedProxies::default();
        assert_eq!(client_address(Some("1.1.1.1, 10.0.0.1"), None, &none), Ok(ip("10.0.0.1")));
        assert_eq!(client_address(Some("1.1.1.1"), Some(ip("10.0.0.1")), &none), Ok(ip("10.0.0.1")));
        assert_eq!(client_address(Some("?"), Some(ip("::ffff:10.0.0.1")), &none), Ok(ip("10.0.0.1")));
    }

    #[test]
    fn an_unreadable_hop_is_refused() {
        assert_eq!(client_address(None, None, &proxies()), Err(UnknownAddress::Missing));
        for forwarded in [
            "",
            ",",
            "192.0.2.1,",
            "192.0.2.1, ",
            "192.0.2.1, unknown",
            "192.0.2.1, _hidden, 10.0.0.1",
            "192.0.2.1:443",
            "[2001:db8::1]",
            "fe80::1%eth0",
            "192.0.2.01",
            "192.0.2.1/32",
            "192.0.2.1 10.0.0.1",
            "\"192.0.2.1\"",
        ] {
            assert_eq!(
                client_address(Some(forwarded), None, &proxies()),
                Err(UnknownAddress::Unreadable),
                "{forwarded}"
            );
        }
    }

    proptest! {
        /// Whatever a client writes to the left of its own address, it is not read.
        #[test]
        fn a_client_cannot_choose_its_address(spoofed in "\\PC*", last: u32, through in 0_usize..3) {
            let client = IpAddr::V4(last.into());
            prop_assume!(!proxies().include(client));
            let hops = format!("{spoofed},{client}{}", ", 10.0.0.1".repeat(through));
            prop_assert_eq!(client_address(Some(&hops), Some(ip("10.0.0.9")), &proxies()), Ok(client));
            prop_assert_eq!(client_address(Some(&spoofed), Some(client), &proxies()), Ok(client));
        }
    }
}
