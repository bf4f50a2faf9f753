//! CAs and certificates that a test makes for itself.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType, SerialNumber,
};
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, Identity};

use crate::scratch::Scratch;

/// A CA with its files: `ca.pem`, and a folder for each certificate.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    scratch: Scratch,
}

/// The files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let scratch = Scratch::new();
        fs::write(scratch.join("ca.pem"), &pem).expect("a file of our own");
        Self {
            issuer: Issuer::new(params, key),
            pem,
            scratch,
        }
    }

    /// The path of its own certificate.
    #[must_use]
    pub fn file(&self) -> String {
        self.scratch.join("ca.pem")
    }

    /// Issues a certificate for 127.0.0.1 and localhost, for servers and clients, with this serial number.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn issue(&self, name: &str, serial: u8) -> Issued {
        let directory = self.scratch.path().join(name);
        fs::create_dir_all(&directory).expect("a directory of our own");
        let files = Issued {
            certificate: directory.join("tls.crt").display().to_string(),
            key: directory.join("tls.key").display().to_string(),
        };
        self.issue_into(&files, serial, 4000);
        files
    }

    /// Issues a certificate that has expired in 2021.
    #[must_use]
    pub fn issue_expired(&self, name: &str) -> Issued {
        let files = self.issue(name, 1);
        self.issue_into(&files, 1, 2021);
        files
    }

    /// Replaces the content of these files by a new certificate and its key, until this year.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn issue_into(&self, files: &Issued, serial: u8, until: i32) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let loopback = SanType::IpAddress(IpAddr::from([127, 0, 0, 1]));
        params.subject_alt_names.push(loopback);
        params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        replace(&files.certificate, &certificate.pem());
        replace(&files.key, &key.serialize_pem());
    }

    /// An HTTP client that trusts this CA alone, and opens a connection for each request.
    ///
    /// # Panics
    /// If the certificate cannot be read.
    pub fn client(&self) -> ClientBuilder {
        // An error means that a provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let own = Certificate::from_pem(self.pem.as_bytes()).expect("a certificate");
        ClientBuilder::new()
            .tls_certs_only([own])
            .redirect(Policy::none())
            .pool_max_idle_per_host(0)
            .no_proxy()
    }
}

impl Issued {
    /// For an HTTP client.
    ///
    /// # Panics
    /// If the files cannot be read.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let read = |path| fs::read_to_string(path).expect("it was issued");
        let both = [read(&self.certificate), read(&self.key)].concat();
        Identity::from_pem(both.as_bytes()).expect("a pair")
    }
}

/// Each file changes at once.
fn replace(path: &str, content: &str) {
    let next = format!("{path}.next");
    fs::write(&next, content).expect("a file of our own");
    fs::rename(next, Path::new(path)).expect("the same directory");
}
