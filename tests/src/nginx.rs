//! nginx with the configuration of `deploy/`.

use std::fs;
use std::path::Path;

use crate::fleet::Member;
use crate::port;
use crate::program::{Program, Start, wait_for_port};
use crate::scratch::Scratch;

#[derive(Debug)]
pub struct Nginx {
    pub url: String,
    pub program: Program,
    _scratch: Scratch,
}

impl Nginx {
    /// Balances over three gateways.
    ///
    /// # Panics
    /// If there are not three, or it does not start.
    pub async fn start(gateways: &[Member]) -> Self {
        assert_eq!(gateways.len(), 3, "as in deploy/nginx.conf");
        let scratch = Scratch::new();
        let port = port::free();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nginx.conf");
        let mut text = fs::read_to_string(shipped).expect("the shipped file");
        let temporary = scratch.path().display();
        // An operator changes the addresses. The rest is only for several tests at once.
        let mut changes = vec![
            (
                "listen 8080;".to_owned(),
                format!("listen 127.0.0.1:{port};"),
            ),
            ("/tmp/".to_owned(), format!("{temporary}/")),
        ];
        for (number, gateway) in (1..).zip(gateways) {
            let named = format!("server gateway-{number}:8080 ");
            changes.push((named, format!("server {} ", gateway.address)));
        }
        for (shipped, here) in changes {
            assert!(
                text.contains(&shipped),
                "deploy/nginx.conf has no {shipped}"
            );
            text = text.replace(&shipped, &here);
        }
        let file = scratch.join("nginx.conf");
        fs::write(&file, text).expect("a directory of our own");
        // One process: workers would outlive a master that is killed.
        let directives = "daemon off; master_process off;";
        let start = Start::new("nginx").args(&["-c", &file, "-g", directives]);
        let program = start.spawn();
        wait_for_port(port).await;
        Self {
            url: format!("http://127.0.0.1:{port}"),
            program,
            _scratch: scratch,
        }
    }
}
