//! What all proxies are measured over: an upstream, a store full of installations, a caller's key.

use secrecy::{ExposeSecret, SecretString};
use tests::bed::Bed;
use tests::scratch::Scratch;

use super::upstream::Upstream;

/// Nothing falls due meanwhile.
const LIFETIME: &str = "24h";

#[derive(Debug)]
pub(super) struct Yard {
    pub(super) bed: Bed,
    pub(super) upstream: Upstream,
    pub(super) scratch: Scratch,
    pub(super) key: SecretString,
    /// A file of installation ids, one a line.
    pub(super) ids: String,
    /// One of them.
    pub(super) first: String,
}

impl Yard {
    pub(super) async fn start(installations: usize) -> Self {
        let scratch = Scratch::new();
        let bed = Bed::start(0, LIFETIME).await;
        eprintln!("{}", bed.seed(installations as u64, "0s").await);
        let ids = bed.installations(installations).await;
        let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let file = scratch.join("ids");
        std::fs::write(&file, lines).expect("a file of our own");
        let key = key(&bed).await;
        Self {
            upstream: Upstream::start(&scratch).await,
            bed,
            scratch,
            key,
            ids: file,
            first: ids.first().expect("installations").to_string(),
        }
    }

    /// A request for the first installation, with this in its `Connection` header.
    pub(super) fn request(&self, connection: &str) -> String {
        format!(
            "GET /ghl/contacts/small.json HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\
             X-Installation-Id: {}\r\nConnection: {connection}\r\n\r\n",
            self.key.expose_secret(),
            self.first
        )
    }
}

/// A key that opens all installations, made as an operator would.
async fn key(bed: &Bed) -> SecretString {
    let create = bed.evergreen(&["keys", "create", "--name", "bench"]);
    let made = create.run().await;
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let shown = String::from_utf8(made.stdout).expect("text");
    shown.trim_end().into()
}
