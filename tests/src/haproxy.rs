//! HAProxy with the configuration of `deploy/`.

use std::path::Path;
use std::time::Duration;

use crate::fleet::Member;
use crate::port;
use crate::program::{Program, Start, wait_for_port};
use crate::wait::{holds, until};

#[derive(Debug)]
pub struct Haproxy {
    pub url: String,
    program: Program,
}

impl Haproxy {
    /// Balances over three gateways.
    ///
    /// # Panics
    /// If there are not three.
    pub async fn start(gateways: &[Member]) -> Self {
        assert_eq!(gateways.len(), 3, "as in deploy/haproxy.cfg");
        let port = port::free();
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/haproxy.cfg");
        let mut start = Start::new("haproxy")
            .args(&["-f", &config.display().to_string()])
            .env("EVERGREEN_LB_BIND", format!("127.0.0.1:{port}"));
        for (number, gateway) in (1..).zip(gateways) {
            let [_, internal] = gateway.ports();
            start = start
                .env(&format!("GATEWAY_{number}"), &gateway.address)
                .env(&format!("READY_PORT_{number}"), internal);
        }
        let program = start.spawn();
        wait_for_port(port).await;
        Self {
            url: format!("http://127.0.0.1:{port}"),
            program,
        }
    }

    /// Waits until it counts a gateway, from 0, as ready or not.
    ///
    /// # Panics
    /// If it does not notice.
    pub async fn until_serving(&self, gateway: usize, is_ready: bool, patience: Duration) {
        let server = format!("Server gateways/gateway-{} is ", gateway + 1);
        until("HAProxy to notice", patience, || async {
            let log = self.program.log();
            let last = log.iter().rev().find_map(|line| line.split_once(&server));
            // It believes in a server until the first check has failed.
            let state = last.map_or("UP", |(_, rest)| rest);
            holds(
                state.starts_with(if is_ready { "UP" } else { "DOWN" }),
                state,
            )
        })
        .await;
    }
}
