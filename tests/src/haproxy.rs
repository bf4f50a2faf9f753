//! HAProxy with the configuration of `deploy/`.

use std::path::Path;

use crate::port;
use crate::program::{Program, Start, wait_for_port};

#[derive(Debug)]
pub struct Haproxy {
    pub url: String,
    _program: Program,
}

impl Haproxy {
    /// Balances over three gateways.
    pub async fn start(gateways: &[String; 3]) -> Self {
        let port = port::free();
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/haproxy.cfg");
        let mut start = Start::new("haproxy")
            .args(&["-f", &config.display().to_string()])
            .env("EVERGREEN_LB_BIND", format!("127.0.0.1:{port}"));
        for (number, gateway) in (1..).zip(gateways) {
            start = start.env(&format!("GATEWAY_{number}"), gateway);
        }
        let program = start.spawn();
        wait_for_port(port).await;
        Self {
            url: format!("http://127.0.0.1:{port}"),
            _program: program,
        }
    }
}
