//! Limits of connections.

use std::time::Duration;

/// How long a connection may be idle between two requests. This is longer than the 90 s of common clients. So the
/// client closes, and no request is sent on a connection that the server is closing.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// How long the head of a request may take, from its first byte.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a TLS handshake may take, from the beginning of the connection. Enough for some lost packets, since nobody
/// types it.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection without a request stays open after a stop. Its caller may be sending one.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(1);

/// The default limit for a whole response.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// The size of a connection's read and write buffers in bytes, and so the largest head. It applies to both sides of
/// the proxy. With hyper's default of 400 kB each body in flight takes a megabyte, and is faster only without a
/// network in between.
pub const BUFFER_BYTES: usize = 64 * 1024;
