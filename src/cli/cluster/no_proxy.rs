//! Parses `NO_PROXY` by the rules of Go's `net/http`, as kubectl and most Kubernetes programs do.

use ipnet::IpNet;
use std::net::IpAddr;

/// The hosts that are reached without a proxy.
#[derive(Debug, PartialEq, Eq)]
pub enum NoProxy {
    /// All hosts.
    Everything,
    /// The hosts that match an entry.
    Entries(Vec<Entry>),
}

/// One entry of the list.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// A network.
    Network(IpNet),
    /// An address, on this port or on any.
    Address(IpAddr, Option<u16>),
    /// A domain: all hosts that end in `.domain`, and the domain itself unless the entry begins with a dot.
    Domain {
        /// The domain with a leading dot.
        suffix: String,
        /// Whether the domain itself matches too.
        itself: bool,
        /// The port. `None`: any port.
        port: Option<u16>,
    },
    /// An entry that matches no host, for example because its port is no number.
    Nothing,
}

impl NoProxy {
    /// Parses the list. As in Go, invalid entries match no host.
    pub fn parse(text: &str) -> Self {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let mut parsed = Vec::new();
        for entry in entries {
            if entry == "*" {
                return Self::Everything;
            }
            parsed.push(Entry::parse(&entry.to_lowercase()));
        }
        Self::Entries(parsed)
    }

    /// Returns whether this host and port are reached without a proxy. The local machine always is.
    pub fn is_direct(&self, host: &str, port: u16) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        match self {
            Self::Everything => true,
            Self::Entries(entries) => entries.iter().any(|entry| entry.matches(&host, address, port)),
        }
    }
}

impl Entry {
    fn parse(entry: &str) -> Self {
        if let Ok(network) = entry.parse::<IpNet>() {
            return Self::Network(network);
        }
        let (host, port) = match host_and_port(entry) {
            (host, None) => (host, None),
            (host, Some(port)) => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => return Self::Nothing,
            },
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return Self::Address(address.to_canonical(), port);
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        match host.strip_prefix('.') {
            _ if host.is_empty() => Self::Nothing,
            Some(_) => Self::Domain { suffix: host.to_owned(), itself: false, port },
            None => Self::Domain { suffix: format!(".{host}"), itself: true, port },
        }
    }

    fn matches(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let is_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match (self, address) {
            (Self::Network(network), Some(address)) => network.contains(&address),
            (Self::Address(wanted, wanted_port), Some(address)) => *wanted == address && is_port(wanted_port),
            (Self::Domain { suffix, itself, port: wanted }, None) => {
                (host.ends_with(suffix) || (*itself && host == &suffix[1..])) && is_port(wanted)
            }
            _ => false,
        }
    }
}

/// Splits an entry into the host, without the brackets of an IPv6 address, and the port.
fn host_and_port(entry: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = entry.strip_prefix('[').and_then(|entry| entry.split_once(']')) {
        return (host, rest.strip_prefix(':').filter(|port| !port.is_empty()));
    }
    match entry.split_once(':') {
        // More than one colon: an IPv6 address.
        Some((host, port)) if !port.contains(':') => (host, Some(port).filter(|port| !port.is_empty())),
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list and the expected results are those of Go's own test (golang.org/x/net/http/httpproxy), with further
    /// entries.
    #[test]
    fn hosts_match_as_in_go() {
        let list = "foobar.com, .barbaz.net, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, 2001:db8::52:0:1, \
                    [2001:db8::52:0:2]:443, [2002:db8:a::45]:80, 2001:db8:5::/48, *.wild.example, ported.example:8443, \
                    .dotted.example:8443, nowhere:x, :81";
        let list = NoProxy::parse(list);
        for (host, port, is_direct) in [
            // This machine.
            ("localhost", 443, true),
            ("LOCALHOST", 443, true),
            ("127.0.0.1", 443, true),
            ("127.0.0.2", 443, true),
            ("[::1]", 443, true),
            ("[::2]", 443, false),
            ("[::ffff:127.0.0.1]", 443, true),
            // Addresses.
            ("192.168.1.1", 443, true),
            ("192.168.1.1", 80, true),
            ("192.168.1.2", 80, false),
            ("192.168.1.2", 81, true),
            ("192.168.1.3", 80, true),
            ("192.168.1.3", 443, false),
            ("192.168.1.4", 80, false),
            ("[::ffff:192.168.1.1]", 443, true),
            ("10.0.0.0", 443, true),
            ("10.0.0.3", 443, true),
            ("10.0.0.4", 443, false),
            ("[2001:db8::52:0:1]", 443, true),
            ("[2001:db8::52:0:2]", 443, true),
            ("[2001:db8::52:0:2]", 80, false),
            ("[2001:db8::52:0:3]", 443, false),
            ("[2002:db8:a::45]", 80, true),
            ("[2002:db8:a::45]", 443, false),
            ("[2001:db8:5::1]", 443, true),
            ("[2001:db8:6::1]", 443, false),
            // Domains.
            ("foobar.com", 443, true),
            ("FooBAR.COM", 443, true),
            ("www.foobar.com", 443, true),
            ("foofoobar.com", 443, false),
            ("foobar.com.evil", 443, false),
            ("barbaz.net", 443, false),
            ("www.barbaz.net", 443, true),
            ("baz.com", 443, false),
            ("wild.example", 443, false),
            ("a.wild.example", 443, true),
            ("ported.example", 8443, true),
            ("a.ported.example", 8443, true),
            ("ported.example", 443, false),
            ("a.dotted.example", 8443, true),
            ("a.dotted.example", 443, false),
            ("dotted.example", 8443, false),
            ("nowhere", 443, false),
            ("other.example", 81, false),
        ] {
            assert_eq!(list.is_direct(host, port), is_direct, "{host}:{port}");
        }
    }

    #[test]
    fn a_star_is_every_host_and_an_empty_list_only_the_local_machine() {
        for list in ["*", "foo.com, *", " * ,foo.com"] {
            assert!(
                NoProxy::parse(list).is_direct("192.0.2.1", 443) && NoProxy::parse(list).is_direct("foo", 1),
                "{list}"
            );
        }
        for list in ["", " ", ",", " , ,", "\n"] {
            assert!(!NoProxy::parse(list).is_direct("192.0.2.1", 443), "{list}");
            assert!(!NoProxy::parse(list).is_direct("foo", 443), "{list}");
            assert!(NoProxy::parse(list).is_direct("127.0.0.1", 443), "{list}");
        }
    }

    #[test]
    fn the_address_of_a_clusters_own_service_is_reached_as_platforms_write_it() {
        for (list, host) in [
            (".svc,.cluster.local,10.96.0.0/12", "10.96.0.1"),
            ("10.96.0.1", "10.96.0.1"),
            (".svc", "kubernetes.default.svc"),
            ("svc", "kubernetes.default.svc"),
            ("kubernetes.default.svc\n", "kubernetes.default.svc"),
            ("fd00:10:96::/112", "[fd00:10:96::1]"),
        ] {
            assert!(NoProxy::parse(list).is_direct(host, 443), "{list}: {host}");
        }
        assert!(!NoProxy::parse("10.96.*,10.96.").is_direct("10.96.0.1", 443), "Go knows no such pattern either");
    }
}
