//! Tests with real certificates in real files.

mod handshakes;
mod identities;
mod reloads;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::ListenerTls;
use crate::config::Settings;

const SOON: Duration = Duration::from_secs(10);

/// A CA of its own.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: KeyPair,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// For `localhost`, from one year to another.
    fn issue(&self, from: i32, until: i32) -> Pair {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 2);
        params.not_after = rcgen::date_time_ymd(until, 3, 4);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            certificate: certificate.pem(),
            key,
        }
    }
}

impl Pair {
    fn key(&self) -> String {
        self.key.serialize_pem()
    }
}

/// A directory of files, removed at the end.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let unique = KeyPair::generate().unwrap().serialize_der();
        let name: String = unique[40..56]
            .iter()
            .map(|it| format!("{it:02x}"))
            .collect();
        let path = std::env::temp_dir().join(format!("evergreen-tls-{name}"));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.0.join(name), content).unwrap();
        self.path(name)
    }

    fn write_pair(&self, pair: &Pair) {
        self.write("cert", &pair.certificate);
        self.write("key", &pair.key());
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The TLS of these settings, or the mistakes in them.
fn listener(settings: &[(&str, &str)]) -> Result<Option<ListenerTls>, String> {
    let settings = settings.iter();
    let source: HashMap<String, String> = settings
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let mut settings = Settings::new(&source);
    let read = ListenerTls::read(&mut settings);
    settings.finish(read).map_err(|it| it.to_string())
}
