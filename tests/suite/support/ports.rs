//! Loopback ports for servers.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use rand::TryRng as _;
use rand::rngs::SysRng;

/// The range that every system leaves to servers, where Linux does not say otherwise.
const LOWEST: u16 = 10_000;
const HIGHEST: u16 = 32_767;

/// A loopback port that nothing listens on.
///
/// It lies below the ports that the system gives to outgoing connections: from among those, a connection that some
/// other test makes could take the port before the server does, or while a server that is to come back on it is
/// stopped.
pub fn free_port() -> u16 {
    let highest = lowest_outgoing_port().map_or(HIGHEST, |outgoing| outgoing.saturating_sub(1).min(HIGHEST));
    let choices = u32::from(highest.saturating_sub(LOWEST)).max(1);
    for _ in 0..1000 {
        let random = SysRng.try_next_u32().expect("the system gives random numbers");
        let port = LOWEST + u16::try_from(random % choices).expect("the range fits a port");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free loopback port found between {LOWEST} and {highest}");
}

fn lowest_outgoing_port() -> Option<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}
