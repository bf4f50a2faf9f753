//! Tests of connections over real sockets.

mod closing;
mod responses;
mod server;

use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
/// Fits into the socket buffers between server and caller.
const BUFFERED: usize = 200 * 1024;
/// Does not fit into the socket buffers.
const LARGE: usize = 16 * 1024 * 1024;
