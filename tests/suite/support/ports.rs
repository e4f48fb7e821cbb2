//! Free ports on the loopback address.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use rand::TryRng as _;
use rand::rngs::SysRng;

/// The range of ports for servers on a system that does not publish its range of outgoing ports.
const LOWEST: u16 = 10_000;
const HIGHEST: u16 = 32_767;

/// Returns a loopback port that no program listens on.
///
/// The port is below the range of outgoing ports of the system. Otherwise an outgoing connection of another test could
/// take the port before the server starts, or while the server is stopped.
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
