//! Free ports, below the range that the kernel gives to outgoing connections.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

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
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {LAST}");
}
