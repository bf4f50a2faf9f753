//! Runs the real programs: `evergreen`, `redis-server` (also as a Sentinel), `haproxy` and others. All listen on free
//! loopback ports. Everything that a test starts ends with it.

pub mod alertmanager;
pub mod certificates;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod deployed;
pub mod fleet;
pub mod haproxy;
pub mod hosts;
pub mod load;
pub mod manual;
pub mod nginx;
pub mod packages;
pub mod port;
pub mod program;
pub mod prometheus;
pub mod propagation;
pub mod raw_server;
pub mod receiver;
pub mod redis;
pub mod redis_fault_proxy;
pub mod rows;
pub mod sandbox;
pub mod scratch;
pub mod seed;
pub mod sentinel;
pub mod small_disk;
pub mod split_store;
pub mod testbed;
pub mod tls_fault_proxy;
pub mod up;
pub mod wait;
pub mod wall_clock;

use std::time::Duration;

/// The duration of a load test: ten minutes with `EVERGREEN_LONG=1`, otherwise its short form.
#[must_use]
pub fn length(short: Duration) -> Duration {
    match std::env::var("EVERGREEN_LONG").as_deref() {
        Ok("1") => Duration::from_secs(600),
        _ => short,
    }
}
