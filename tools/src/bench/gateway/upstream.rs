//! nginx in place of GHL.

use tests::port;
use tests::program::{Program, Start, wait_for_port};
use tests::scratch::Scratch;
use tests::tls_fault_proxy::TlsFaultProxy;

use super::workload::UpstreamTransport;

const CONFIG: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/upstream.conf"));

/// About the size of GHL's response for a contact.
const SMALL_BYTES: usize = 2300;
const LARGE_BYTES: usize = 100_000;

/// The end of every response with contacts. It occurs nowhere else in the body.
pub(super) const END: &str = r#"],"total":1000}"#;

#[derive(Debug)]
pub(in crate::bench) struct Upstream {
    /// `host:port`.
    pub(in crate::bench) plain: String,
    pub(super) tls: String,
    _program: Program,
}

impl Upstream {
    pub(super) async fn start(scratch: &Scratch) -> Self {
        let www = scratch.path().join("www/contacts");
        std::fs::create_dir_all(&www).expect("a directory of our own");
        for (name, bytes) in [("small.json", SMALL_BYTES), ("large.json", LARGE_BYTES)] {
            std::fs::write(www.join(name), contacts(bytes)).expect("a file of our own");
        }
        let [plain, tls, sink] = [(); 3].map(|()| port::free());
        let config = fill(
            CONFIG,
            &[
                ("DIR", &scratch.path().display().to_string()),
                ("PLAIN", &plain.to_string()),
                ("TLS", &tls.to_string()),
                ("SINK", &sink.to_string()),
                ("CERTIFICATE", &TlsFaultProxy::certificate()),
                ("KEY", &TlsFaultProxy::key()),
            ],
        );
        let file = scratch.join("upstream.conf");
        std::fs::write(&file, config).expect("a file of our own");
        let start = Start::new("nginx").args(&["-c", &file, "-e", "stderr"]);
        let program = start.spawn();
        wait_for_port(plain).await;
        Self {
            plain: format!("127.0.0.1:{plain}"),
            tls: format!("127.0.0.1:{tls}"),
            _program: program,
        }
    }

    /// Its `host:port` for this transport.
    pub(super) fn address(&self, transport: UpstreamTransport) -> &str {
        match transport {
            UpstreamTransport::Plain => &self.plain,
            UpstreamTransport::Tls => &self.tls,
        }
    }
}

/// A configuration template with its placeholders filled in.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let with = |text: String, (name, value): &(&str, &str)| {
        text.replace(&format!("{{{{{name}}}}}"), value)
    };
    values.iter().fold(template.to_owned(), with)
}

/// JSON of exactly this size.
fn contacts(bytes: usize) -> String {
    let contact = r#"{"id":"ocQHyuzHvysMo5N5VsXc","email":"ada@example.com","tags":["tea"]}"#;
    let mut text = r#"{"contacts":["#.to_owned();
    while text.len() + contact.len() + 1 + END.len() <= bytes {
        text.push_str(contact);
        text.push(',');
    }
    text.pop();
    text.push_str(END);
    // JSON may end in any amount of whitespace.
    let space = bytes - text.len();
    text + &" ".repeat(space)
}
