//! TLS of connections to other servers.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;
use tokio::sync::watch;

use super::authorities::Authorities;
use super::files::{Contents, Files, Names, Unusable};
use super::identity::Identity;
use super::reload::{InUse, Loaded, Reloaded};
use super::validity::Date;
use crate::config::Settings;
use crate::shutdown::Shutdown;

const NAMES: Names = Names {
    certificate: "EVERGREEN_CLIENT_CERT",
    key: "EVERGREEN_CLIENT_KEY",
    authorities: None,
};

/// The certificate that this process shows to servers that ask for one. Clones share it.
#[derive(Debug, Clone)]
pub struct ClientIdentity(Arc<Reloaded<Arc<CertifiedKey>>>);

impl ClientIdentity {
    /// Reads `EVERGREEN_CLIENT_CERT` and `EVERGREEN_CLIENT_KEY`. `None` if they are unset. Mistakes are collected in
    /// `settings`.
    pub fn read(settings: &mut Settings<'_>) -> Option<Self> {
        Reloaded::read(settings, NAMES, load).map(Self)
    }

    /// Follows changes of the files until the shutdown starts.
    pub async fn keep_current(self, shutdown: Shutdown) {
        self.0.run(&shutdown, |_| {}).await;
    }
}

fn load(
    files: &Files,
    contents: &Contents,
    now: Date,
) -> Result<Loaded<Arc<CertifiedKey>>, Unusable> {
    let Identity { certified, expires } = Identity::new(files.names, contents, now)?;
    Ok(Loaded {
        value: Arc::new(certified),
        expires,
    })
}

/// The configuration of connections to servers whose certificates are of the system's CAs, or of `more`. A server that
/// asks for a certificate gets `identity`.
///
/// # Errors
/// When there is no CA at all.
pub fn connections(
    more: &Authorities,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(more.certificates(), provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(Arc::new(Newest(identity.0.current()))),
    })
}

/// The newest certificate, whatever the server asks for: it says itself what it does not take.
#[derive(Debug)]
struct Newest(watch::Receiver<Arc<InUse<Arc<CertifiedKey>>>>);

impl ResolvesClientCert for Newest {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.borrow().loaded.value))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
