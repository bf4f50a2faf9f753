//! Free ports, below the range that the kernel gives to outgoing connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpSocket;

const FIRST: u16 = 18_000;
const LAST: u16 = 32_000;

/// A port without a listener, given to no other test of this process.
///
/// # Panics
/// If there is none left.
pub fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Concurrent processes start at different offsets.
    let start = std::process::id().wrapping_mul(97) % u32::from(LAST - FIRST);
    let start = u16::try_from(start).unwrap_or(0);
    for _ in FIRST..LAST {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start + offset) % (LAST - FIRST);
        if is_free(port) {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {LAST}");
}

/// Binds without listening. A program that another test starts at this moment has a copy of the socket until it is
/// executed, and a copy that listened would keep the port from its owner.
fn is_free(port: u16) -> bool {
    let bind = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    bind().is_ok()
}
