//! Ports for servers of tests and the lab: each is claimed by one process of this host until that process ends.
//!
//! A server that gets its port as an argument cannot bind port 0. A port that was free a moment ago may be in use by
//! then: by another test, or as the local port of a connection. So the ports are below the kernel's range of local
//! ports, and each is claimed by an abstract socket, whose name the kernel frees when its process ends (unix(7)).

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::sync::Mutex;

/// Below Linux's default of `net.ipv4.ip_local_port_range` (32768 to 60999), above well-known servers.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// The claims of this process, held until it ends.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A loopback address whose port no other caller gets while this process lives, and on which nobody listens now.
pub fn claim() -> io::Result<SocketAddr> {
    let mut claims = CLAIMS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    // Processes start at different positions to avoid collisions.
    let begin = std::process::id().wrapping_mul(101);
    for step in 0..u32::from(COUNT) {
        let port = FIRST + (begin.wrapping_add(step) % u32::from(COUNT)) as u16;
        let name = UnixAddress::from_abstract_name(format!("heaptide-test-port-{port}"))?;
        let Ok(claim) = UnixListener::bind_addr(&name) else {
            continue;
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            claims.push(claim);
            return Ok(address);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no free port from {FIRST} to {}", FIRST + COUNT - 1),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_claimed_twice() {
        let first = claim().expect("a port");
        let second = claim().expect("another");
        assert_ne!(first.port(), second.port());
        let name = UnixAddress::from_abstract_name(format!("heaptide-test-port-{}", first.port()));
        assert!(UnixListener::bind_addr(&name.expect("a name")).is_err());
    }

    #[test]
    fn a_port_with_a_listener_is_passed_over() {
        let next = claim().expect("a port").port() + 1;
        // If another server listens there already, the port is unusable too.
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, next));
        assert_ne!(claim().expect("a port").port(), next);
    }
}
