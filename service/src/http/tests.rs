//! Requests, and what a connection makes of them.

mod answers;
mod ends;
mod server;

use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
/// As much as lies between a server that has sent it and a caller that has not read it.
const SOME: usize = 200 * 1024;
/// More than that.
const LARGE: usize = 16 * 1024 * 1024;
