//! The common setup of all proxies: an upstream, a store with installations, and an API key.

use secrecy::ExposeSecret;
use tests::scratch::Scratch;
use tests::testbed::Testbed;

use super::upstream::Upstream;
use crate::bench::wrk::Callers;

/// Long enough that no refresh falls due during the run.
const LIFETIME: &str = "24h";

#[derive(Debug)]
pub(in crate::bench) struct BenchSetup {
    pub(in crate::bench) testbed: Testbed,
    pub(in crate::bench) upstream: Upstream,
    pub(super) scratch: Scratch,
    pub(in crate::bench) callers: Callers,
}

impl BenchSetup {
    pub(in crate::bench) async fn start(installations: usize) -> Self {
        let scratch = Scratch::new();
        let testbed = Testbed::start(0, LIFETIME).await;
        eprintln!("{}", testbed.seed(installations as u64, "0s").await);
        let callers = Callers::of(&testbed, &scratch, installations).await;
        Self {
            upstream: Upstream::start(&scratch).await,
            testbed,
            scratch,
            callers,
        }
    }

    /// A request for the first installation, with this `Connection` header.
    pub(super) fn request(&self, connection: &str) -> String {
        format!(
            "GET /ghl/contacts/small.json HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\
             X-Installation-Id: {}\r\nConnection: {connection}\r\n\r\n",
            self.callers.key.expose_secret(),
            self.callers.ids[0]
        )
    }
}
