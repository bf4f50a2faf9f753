//! Resolves the names of endpoints, and keeps the addresses that may be reached.
//!
//! A name is resolved for each connection, and the connection goes to exactly the addresses that were checked. So a name
//! whose address changes after a check (DNS rebinding) gains nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

use super::address::{PrivateAddresses, RefusedAddress};

/// The addresses of a name.
pub(super) type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
/// Asks for the addresses of a name.
pub(super) type Lookup = Arc<dyn Fn(String) -> Addresses + Send + Sync>;

/// A resolver that never yields an address that may not be reached. Cheap to clone.
#[derive(Clone)]
pub(super) struct GuardedResolver {
    private_addresses: PrivateAddresses,
    lookup: Lookup,
}

/// Why a name has no address that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error(transparent)]
    Refused(RefusedAddress),
    #[error("the name cannot be resolved: {0}")]
    Lookup(io::Error),
    #[error("the name has no address")]
    NoAddress,
}

impl GuardedResolver {
    /// Asks the system's resolver.
    pub(super) fn of_the_system(private_addresses: PrivateAddresses) -> Self {
        let lookup = |name: String| -> Addresses {
            Box::pin(async move {
                let found = lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        };
        Self::new(private_addresses, Arc::new(lookup))
    }

    pub(super) fn new(private_addresses: PrivateAddresses, lookup: Lookup) -> Self {
        Self {
            private_addresses,
            lookup,
        }
    }

    /// The addresses of a name that may be reached, at least one.
    async fn allowed(&self, name: String) -> Result<Vec<IpAddr>, ResolveError> {
        let found = (self.lookup)(name).await.map_err(ResolveError::Lookup)?;
        let mut refused = None;
        let mut allowed = Vec::with_capacity(found.len());
        for address in found {
            match self.private_addresses.check(address) {
                Ok(()) => allowed.push(address),
                Err(error) => refused = Some(error),
            }
        }
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(refused)) => Err(ResolveError::Refused(refused)),
            (true, None) => Err(ResolveError::NoAddress),
        }
    }

    /// Refuses a name if one of its addresses may not be reached. Accepts a name that cannot be resolved here.
    pub(super) async fn check_all(&self, name: String) -> Result<(), RefusedAddress> {
        let found = (self.lookup)(name).await.unwrap_or_default();
        let mut found = found.into_iter();
        found.try_for_each(|it| self.private_addresses.check(it))
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let allowed = resolver.allowed(name.as_str().to_owned()).await?;
            // Port 0 stands for that of the URL.
            let allowed = allowed.into_iter().map(|it| SocketAddr::new(it, 0));
            Ok(Box::new(allowed) as Addrs)
        })
    }
}

impl fmt::Debug for GuardedResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedResolver")
            .field("private_addresses", &self.private_addresses)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(policy: PrivateAddresses, addresses: &'static [&'static str]) -> GuardedResolver {
        let lookup = move |_| -> Addresses {
            let parsed = addresses.iter().map(|it| it.parse().unwrap());
            let parsed: Vec<IpAddr> = parsed.collect();
            Box::pin(async move { Ok(parsed) })
        };
        GuardedResolver::new(policy, Arc::new(lookup))
    }

    #[tokio::test]
    async fn only_allowed_addresses_are_connected_to() {
        let mixed = &["10.0.0.1", "8.8.8.8", "::1"];
        let guarded = resolver(PrivateAddresses::Refused, mixed);
        let found = guarded.resolve("example.com".parse().unwrap()).await;
        let found: Vec<SocketAddr> = found.unwrap().collect();
        assert_eq!(found, ["8.8.8.8:0".parse().unwrap()]);
        let open = resolver(PrivateAddresses::Allowed, mixed);
        assert_eq!(
            open.allowed("example.com".to_owned()).await.unwrap().len(),
            3
        );
    }

    #[tokio::test]
    async fn name_of_private_addresses_alone_is_refused() {
        let guarded = resolver(PrivateAddresses::Refused, &["10.0.0.1"]);
        let error = guarded.allowed("example.com".to_owned()).await.unwrap_err();
        assert!(matches!(&error, ResolveError::Refused(it) if it.0 == "10.0.0.1"));
        let empty = resolver(PrivateAddresses::Refused, &[]);
        let error = empty.allowed("example.com".to_owned()).await.unwrap_err();
        assert!(matches!(error, ResolveError::NoAddress), "{error}");
    }

    #[tokio::test]
    async fn behind_a_proxy_one_private_address_is_enough_to_refuse() {
        let check = async |addresses: &'static [&'static str]| {
            let resolver = resolver(PrivateAddresses::Refused, addresses);
            resolver.check_all("example.com".to_owned()).await.is_ok()
        };
        assert!(check(&["8.8.8.8"]).await);
        assert!(check(&[]).await);
        assert!(!check(&["8.8.8.8", "10.0.0.1"]).await);
    }
}
