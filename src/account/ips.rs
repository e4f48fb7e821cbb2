//! The IP addresses and networks from which an account may be used: their validation and text form.

use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use thiserror::Error;

/// The networks from which an account may be used, or any address. Networks have no host bits, and each is held once.
///
/// Any address must be asked for: with [`AllowedIps::any`], or with an empty list in [`AllowedIps::from_networks`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedIps {
    networks: BTreeSet<IpNet>,
    any: bool,
}

/// The error for a text that is not an IP address or network in canonical form (RFC 5952 for IPv6).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} {fault}")]
pub struct InvalidIp {
    text: String,
    /// What is wrong, without the text.
    pub fault: IpFault,
}

/// What is wrong with a text that is not an IP address or network in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IpFault {
    /// Neither an address nor a network. Includes IPv4 octets with leading zeros, which some programs read as octal.
    #[error(
        "is no IP address or CIDR; write it like 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32, without leading zeros or a zone"
    )]
    Malformed,
    /// An IPv4-mapped IPv6 address, which a dual-stack server may or may not match.
    #[error("is an IPv4-mapped IPv6 address; write the IPv4 address itself, {ipv4}")]
    Ipv4Mapped {
        /// What to write instead.
        ipv4: String,
    },
    /// Bits are set after the prefix, so the text may mean one address or the whole network.
    #[error("has bits set after its prefix; write {network} for the network or {address} for the one address")]
    HostBits {
        /// The network.
        network: String,
        /// The single address.
        address: String,
    },
    /// A valid address or network, but not in canonical form.
    #[error("is not in canonical form; write {canonical}")]
    NotCanonical {
        /// What to write instead.
        canonical: String,
    },
}

impl AllowedIps {
    /// The most entries in a list.
    pub const MAX_ENTRIES: usize = 256;

    /// Returns the set that allows any address.
    pub fn any() -> Self {
        Self { networks: BTreeSet::new(), any: true }
    }

    /// Returns whether any address is allowed.
    pub fn is_any(&self) -> bool {
        self.any
    }

    /// Returns the set of these networks, or [`AllowedIps::any`] if there are none.
    pub fn from_networks(networks: impl IntoIterator<Item = AllowedIp>) -> Self {
        let only = Self::only(networks);
        if only.networks.is_empty() { Self::any() } else { only }
    }

    /// Returns the set of these networks. An empty set allows no address.
    pub fn only(networks: impl IntoIterator<Item = AllowedIp>) -> Self {
        Self { networks: networks.into_iter().map(|ip| ip.0).collect(), any: false }
    }

    /// Returns the canonical CIDR texts in order, as the database stores them. A single address has the full prefix
    /// length.
    pub fn cidrs(&self) -> BTreeSet<String> {
        self.networks.iter().map(ToString::to_string).collect()
    }
}

/// One entry of the list: an address, or a network without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AllowedIp(IpNet);

impl AllowedIp {
    /// Returns whether the network contains the address. No IPv4 network contains an IPv4-mapped IPv6 address: convert
    /// such an address with [`IpAddr::to_canonical`] first.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Reads an address or a CIDR in canonical form.
    ///
    /// # Errors
    /// The text is malformed, ambiguous or not canonical. The error says what to write instead.
    pub fn parse(text: &str) -> Result<Self, InvalidIp> {
        Self::read(text).map_err(|fault| InvalidIp { text: text.to_owned(), fault })
    }

    /// Reads a text that [`AllowedIps::cidrs`] writes. Returns `None` for any other text, such as an address without a
    /// prefix length.
    pub fn from_cidr(text: &str) -> Option<Self> {
        if text.contains('/') { Self::read(text).ok() } else { None }
    }

    /// Returns whether the text is a network as [`AllowedIp::from_cidr`] reads it and contains the address. Only a network
    /// that contains the address is read in full.
    pub fn covers(text: &str, address: IpAddr) -> bool {
        text.parse::<IpNet>().is_ok_and(|network| network.contains(&address)) && Self::from_cidr(text).is_some()
    }

    fn read(text: &str) -> Result<Self, IpFault> {
        let address = |text: &str| text.parse::<IpAddr>().map_err(|_| IpFault::Malformed);
        let (address, prefix) = match text.split_once('/') {
            None => (address(text)?, None),
            Some((text, prefix)) => (address(text)?, Some(parse_prefix(prefix).ok_or(IpFault::Malformed)?)),
        };
        if let IpAddr::V6(v6) = address
            && let Some(v4) = v6.to_ipv4_mapped()
        {
            return Err(IpFault::Ipv4Mapped {
                ipv4: match prefix {
                    Some(bits) if (96..128).contains(&bits) => format!("{v4}/{}", bits - 96),
                    _ => v4.to_string(),
                },
            });
        }
        let network = match prefix {
            None => IpNet::from(address),
            Some(bits) => IpNet::new(address, bits).map_err(|_| IpFault::Malformed)?,
        };
        if network.trunc() != network {
            return Err(IpFault::HostBits { network: network.trunc().to_string(), address: address.to_string() });
        }
        // Only IPv6 has several texts for one address.
        if address.is_ipv6() {
            let canonical = match prefix {
                None => address.to_string(),
                Some(_) => network.to_string(),
            };
            if canonical != text {
                return Err(IpFault::NotCanonical { canonical });
            }
        }
        Ok(Self(network))
    }
}

/// Reads a prefix length in decimal digits, without a sign or leading zeros.
fn parse_prefix(text: &str) -> Option<u8> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_canonical_networks_with_a_prefix_length_are_read_as_cidrs() {
        for (text, is_one) in [
            ("203.0.113.7/32", true),
            ("2001:db8::/32", true),
            ("203.0.113.7", false),
            ("::1", false),
            ("10.0.0.1/8", false),
        ] {
            assert_eq!(AllowedIp::from_cidr(text).is_some(), is_one, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_network_covers_the_addresses_that_it_contains(
            (a, b, c) in (0_u8..3, 0_u8..3, 0_u8..3), bits in 0_u8..34, address in (0_u8..3, 0_u8..3, 0_u8..3),
            form in "(::ffff:)?IP/BITS|IP|IP/0BITS| IP/BITS|IP/",
        ) {
            let text = form.replace("IP", &format!("{a}.{b}.{c}.0")).replace("BITS", &bits.to_string());
            let address: IpAddr = [address.0, address.1, address.2, 1].into();
            let contains = AllowedIp::from_cidr(&text).is_some_and(|network| network.contains(address));
            prop_assert_eq!(AllowedIp::covers(&text, address), contains, "{}", text);
        }
    }

    #[test]
    fn addresses_and_networks_become_cidrs() {
        let ips = ["203.0.113.7", "10.0.0.0/8", "2001:db8::1", "2001:db8::/32", "0.0.0.0/0"];
        let ips = AllowedIps::from_networks(ips.iter().map(|t| AllowedIp::parse(t).unwrap()));
        let cidrs: Vec<_> = ips.cidrs().into_iter().collect();
        assert_eq!(cidrs, ["0.0.0.0/0", "10.0.0.0/8", "2001:db8::/32", "2001:db8::1/128", "203.0.113.7/32"]);
        assert!(!ips.is_any());
    }

    #[test]
    fn one_address_written_twice_is_one_entry() {
        let twice = ["203.0.113.7", "203.0.113.7/32"].map(|t| AllowedIp::parse(t).unwrap());
        assert_eq!(AllowedIps::from_networks(twice).cidrs().len(), 1);
    }

    #[test]
    fn an_invalid_text_is_refused_with_what_to_write() {
        let of = |text: &str| AllowedIp::parse(text).unwrap_err().to_string();
        assert!(of("192.168.0.1/16").contains("write 192.168.0.0/16 for the network or 192.168.0.1 for"));
        assert!(of("2001:DB8::1").ends_with("write 2001:db8::1"));
        assert!(of("2001:db8:0:0::/32").ends_with("write 2001:db8::/32"));
        assert!(of("::ffff:1.2.3.4").ends_with("write the IPv4 address itself, 1.2.3.4"));
        assert!(of("::ffff:1.2.3.0/120").ends_with("write the IPv4 address itself, 1.2.3.0/24"));
        for malformed in [
            "",
            " ",
            "01.2.3.4",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "fe80::1%eth0",
            "1.2.3.4/33",
            "::/129",
            "1.2.3.4/",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "/8",
            "10.0.0.0/8/8",
            "localhost",
            "1.2.3.4 ",
            "0x1.2.3.4",
        ] {
            assert!(of(malformed).contains("is no IP address or CIDR"), "{malformed:?}");
        }
    }

    proptest! {
        #[test]
        fn a_written_network_is_parsed_back(bits: u128, v4: bool, prefix in 0u8..=128) {
            let address = if v4 {
                IpAddr::V4(u32::try_from(bits >> 96).unwrap().into())
            } else {
                IpAddr::V6(bits.into())
            };
            let network = IpNet::new(address, if v4 { prefix % 33 } else { prefix }).unwrap().trunc();
            let mapped = matches!(network, IpNet::V6(n) if n.addr().to_ipv4_mapped().is_some());
            prop_assume!(!mapped);
            let text = network.to_string();
            prop_assert_eq!(AllowedIp::parse(&text).map(|ip| ip.0.to_string()), Ok(text));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            if let Ok(ip) = AllowedIp::parse(&text) {
                prop_assert!(!AllowedIps::from_networks([ip]).is_any());
            }
        }
    }
}
