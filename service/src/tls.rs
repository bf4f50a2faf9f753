//! TLS: of this process's listeners, and of its connections to other servers.
//!
//! All of it is in files: certificates, keys, and the certificates of CAs. Certificates of this process are read again
//! when their files change (`reload`), since they are renewed while it runs.

mod authorities;
mod connect;
mod files;
mod identity;
mod listener;
mod reload;
#[cfg(test)]
mod tests;
mod validity;

pub use authorities::Authorities;
pub use connect::{ClientIdentity, connections};
pub use files::Unusable;
pub use identity::{PemPair, first_expiry, read_pem_pair};
pub use listener::{Callers, ListenerTls};

pub(crate) use listener::{Access, TlsAcceptor};
