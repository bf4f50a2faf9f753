//! TLS to Redis.

use std::fmt;

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, RedisResult, TlsCertificates,
};
use secrecy::{ExposeSecret, SecretSlice};

/// The CAs and the certificate for TLS to Redis. By default the system's CAs are trusted, and no certificate is shown.
#[derive(Clone, Default)]
pub struct RedisTls(Option<TlsCertificates>);

impl RedisTls {
    /// All in PEM. `authorities`: the only CAs that servers may be of, instead of the system's. `identity`: the
    /// certificate that this process shows, with its chain, and its key.
    #[must_use]
    pub fn new(authorities: Option<Vec<u8>>, identity: Option<(Vec<u8>, SecretSlice<u8>)>) -> Self {
        let is_empty = authorities.is_none() && identity.is_none();
        let client_tls = identity.map(|(certificate, key)| ClientTlsConfig {
            client_cert: certificate,
            client_key: key.expose_secret().to_vec(),
        });
        let certificates = TlsCertificates {
            client_tls,
            root_cert: authorities,
        };
        Self((!is_empty).then_some(certificates))
    }

    /// A client of one server. The certificates are for `rediss://` alone.
    pub(super) fn client(&self, info: ConnectionInfo) -> RedisResult<Client> {
        match (&self.0, info.addr()) {
            (Some(certificates), ConnectionAddr::TcpTls { .. }) => {
                Client::build_with_tls(info, certificates.clone())
            }
            (Some(_) | None, _) => Client::open(info),
        }
    }

    pub(super) fn certificates(&self) -> Option<&TlsCertificates> {
        self.0.as_ref()
    }
}

impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTls").finish_non_exhaustive()
    }
}
