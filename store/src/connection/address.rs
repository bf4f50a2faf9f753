//! The address of a store: one server, a master behind Sentinels, or a Cluster.

use std::fmt;
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionInfo, IntoConnectionInfo, RedisError, TlsMode};
use secrecy::{ExposeSecret, SecretString};

use super::server::address as address_of;
use super::{DEAD_CONNECTION_TIMEOUT, RedisTls};
use crate::names::{Names, Prefix};

/// A parsed URL of a store, and how its keys are named. Nothing is connected yet.
pub struct Address {
    pub(super) kind: AddressKind,
    prefix: Prefix,
}

pub(super) enum AddressKind {
    /// One server.
    Single(Box<Client>),
    /// The current master of a name, found through Sentinels.
    Sentinel {
        client: Box<SentinelClient>,
        database: i64,
        /// The Sentinels and the name.
        shown: String,
    },
    /// The nodes in the URL. They report the others.
    Cluster(Vec<Client>),
}

/// The URL is not a store's address. The message shows the right form and never the URL, which may contain a
/// password.
#[derive(Debug, thiserror::Error)]
pub enum BadAddress {
    /// No address of a store.
    #[error(
        "not a Redis address: write redis://[user:password@]host:port, or behind Sentinels \
         redis-sentinel://[user:password@]host:port,host:port/master-name, or for a Cluster \
         redis-cluster://[user:password@]host:port,host:port. Over TLS they begin with rediss"
    )]
    Store(#[source] RedisError),
    /// No address of a single server, as a lock node is one.
    #[error("not a Redis address: write redis://[user:password@]host:port or rediss://…")]
    Single(#[source] RedisError),
    /// No address of Sentinels. Without a source the form of the URL is wrong.
    #[error(
        "not a Redis address: behind Sentinels write \
         redis-sentinel://[user:password@]host:port,host:port/master-name or rediss-sentinel://…"
    )]
    Sentinel(#[source] Option<RedisError>),
    /// No address of a Cluster.
    #[error(
        "not a Redis address: for a Cluster write \
         redis-cluster://[user:password@]host:port,host:port or rediss-cluster://…"
    )]
    Cluster(#[source] RedisError),
}

/// Its servers, without user and password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            AddressKind::Single(client) => f.write_str(&address_of(client)),
            AddressKind::Sentinel { shown, .. } => f.write_str(shown),
            AddressKind::Cluster(nodes) => {
                let nodes: Vec<String> = nodes.iter().map(address_of).collect();
                write!(f, "Cluster {}", nodes.join(","))
            }
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

impl Address {
    /// Reads `redis://`, `redis-sentinel://`, `redis-cluster://`, and their forms over TLS.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn parse(url: &SecretString) -> Result<Self, BadAddress> {
        Self::parse_with_tls(url, &RedisTls::default())
    }

    /// As [`Address::parse`], with certificates for the forms over TLS.
    ///
    /// # Errors
    /// When the URL or a certificate cannot be read.
    pub fn parse_with_tls(url: &SecretString, tls: &RedisTls) -> Result<Self, BadAddress> {
        let text = url.expose_secret();
        match text.split_once("://") {
            Some((scheme @ ("redis-sentinel" | "rediss-sentinel"), rest)) => {
                sentinel(scheme.trim_end_matches("-sentinel"), rest, tls)
            }
            Some((scheme @ ("redis-cluster" | "rediss-cluster"), rest)) => {
                cluster(scheme.trim_end_matches("-cluster"), rest, tls)
            }
            Some(_) | None => {
                let client = info(text).and_then(|info| tls.client(info));
                let client = client.map_err(BadAddress::Store)?;
                Ok(AddressKind::Single(Box::new(client)).into())
            }
        }
    }

    /// Whether the address is of one fixed server, which a lock node's must be.
    #[must_use]
    pub fn is_single(&self) -> bool {
        matches!(self.kind, AddressKind::Single(_))
    }

    /// The same store, with keys of this prefix.
    #[must_use]
    pub fn with_prefix(self, prefix: Prefix) -> Self {
        Self { prefix, ..self }
    }

    /// The names of the keys and channels there.
    pub(super) fn names(&self) -> Names {
        let database = match &self.kind {
            AddressKind::Single(client) => database(client),
            AddressKind::Sentinel { database, .. } => *database,
            AddressKind::Cluster(_) => 0,
        };
        Names::new(self.prefix.clone(), database)
    }
}

/// A client for one server, `redis://` or `rediss://`. Nothing is connected yet.
///
/// # Errors
/// When the URL cannot be parsed. The error never contains the URL, which may contain a password.
pub fn client(url: &SecretString) -> Result<Client, BadAddress> {
    client_with_tls(url, &RedisTls::default())
}

/// As [`client`], with certificates for `rediss://`.
///
/// # Errors
/// When the URL or a certificate cannot be read.
pub fn client_with_tls(url: &SecretString, tls: &RedisTls) -> Result<Client, BadAddress> {
    info(url.expose_secret())
        .and_then(|info| tls.client(info))
        .map_err(BadAddress::Single)
}

impl From<AddressKind> for Address {
    fn from(kind: AddressKind) -> Self {
        let prefix = Prefix::default();
        Self { kind, prefix }
    }
}

/// The number of the database that a client uses.
pub(super) fn database(client: &Client) -> i64 {
    client.get_connection_info().redis_settings().db()
}

/// `[user:password@]host:port,host:port/master-name[?sentinel_user=…&sentinel_password=…&db=…]`
fn sentinel(scheme: &str, rest: &str, tls: &RedisTls) -> Result<Address, BadAddress> {
    let failed = |error| BadAddress::Sentinel(Some(error));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let Some((authority, master)) = rest.split_once('/') else {
        return Err(BadAddress::Sentinel(None));
    };
    let master = master.trim_end_matches('/');
    if master.is_empty() {
        return Err(BadAddress::Sentinel(None));
    }
    let (mut user, mut password, mut database) = ("", "", 0);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sentinel_user", value)) => user = value,
            Some(("sentinel_password", value)) => password = value,
            Some(("db", value)) => match value.parse() {
                Ok(number) if number >= 0 => database = number,
                Ok(_) | Err(_) => return Err(BadAddress::Sentinel(None)),
            },
            Some(_) | None => return Err(BadAddress::Sentinel(None)),
        }
    }
    let (login, hosts) = split_login(authority);
    let shown = format!("Sentinels {hosts}, master {master}");
    let servers = infos(scheme, login, hosts).map_err(failed)?;
    let own = (!password.is_empty()).then(|| format!("{user}:{password}@"));
    let sentinels = infos(scheme, own.as_deref().unwrap_or(""), hosts).map_err(failed)?;
    let (Some(server), Some(first)) = (servers.first(), sentinels.first()) else {
        return Err(BadAddress::Sentinel(None));
    };
    let addresses = sentinels.iter().map(|info| info.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)
        .map_err(failed)?
        .set_client_to_redis_db(database)
        .set_client_to_redis_tcp_settings(tcp())
        .set_client_to_sentinel_tcp_settings(tcp());
    if scheme == "rediss" {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        if let Some(certificates) = tls.certificates() {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
    }
    let (server, first) = (server.redis_settings(), first.redis_settings());
    if let Some(user) = server.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = server.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = first.username() {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = first.password() {
        builder = builder.set_client_to_sentinel_password(password);
    }
    let client = builder.build().map_err(failed)?;
    let client = Box::new(client);
    let kind = AddressKind::Sentinel {
        client,
        database,
        shown,
    };
    Ok(kind.into())
}

/// `[user:password@]host:port,host:port`
fn cluster(scheme: &str, rest: &str, tls: &RedisTls) -> Result<Address, BadAddress> {
    let (login, hosts) = split_login(rest.trim_end_matches('/'));
    let nodes = infos(scheme, login, hosts)
        .and_then(|nodes| nodes.into_iter().map(|node| tls.client(node)).collect());
    let nodes = nodes.map(AddressKind::Cluster);
    nodes.map(Address::from).map_err(BadAddress::Cluster)
}

/// Separates `user:password@` from the hosts.
fn split_login(authority: &str) -> (&str, &str) {
    authority.split_at(authority.rfind('@').map_or(0, |at| at + 1))
}

fn infos(scheme: &str, login: &str, hosts: &str) -> Result<Vec<ConnectionInfo>, RedisError> {
    hosts
        .split(',')
        .map(|host| info(&format!("{scheme}://{login}{}", host.trim())))
        .collect()
}

fn info(url: &str) -> Result<ConnectionInfo, RedisError> {
    Ok(url.into_connection_info()?.set_tcp_settings(tcp()))
}

fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(DEAD_CONNECTION_TIMEOUT)
        .with_interval(Duration::from_secs(1))
        .with_retries(3);
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(DEAD_CONNECTION_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, BadAddress> {
        Address::parse(&SecretString::from(url))
    }

    #[test]
    fn every_kind_of_store_has_its_scheme() {
        for url in ["redis://host:6379", "rediss://user:secret@host"] {
            assert!(parse(url).unwrap().is_single(), "{url}");
        }
        for url in [
            "redis-sentinel://a:26379/store",
            "redis-sentinel://user:p%40ss@a:26379,b:26379,[::1]:26379/store",
            "rediss-sentinel://:secret@a,b,c/store/",
            "redis-sentinel://a/store?sentinel_user=watcher&sentinel_password=p%26ss",
        ] {
            let kind = parse(url).unwrap().kind;
            assert!(matches!(kind, AddressKind::Sentinel { .. }), "{url}");
        }
        for (url, named) in [
            ("redis-cluster://a:7000", 1),
            ("rediss-cluster://user:secret@a:7000,b:7000,c:7000/", 3),
        ] {
            match parse(url).map(|address| address.kind) {
                Ok(AddressKind::Cluster(nodes)) => assert_eq!(nodes.len(), named),
                _ => panic!("{url}"),
            }
        }
    }

    #[test]
    fn database_and_prefix_are_in_the_names() {
        for (url, channel) in [
            ("redis://a", "acme:inv"),
            ("redis://a/3", "acme:inv:3"),
            ("redis-sentinel://a/store?db=4", "acme:inv:4"),
            ("redis-cluster://a", "acme:inv"),
        ] {
            let address = parse(url).unwrap().with_prefix("acme".parse().unwrap());
            assert_eq!(address.names().invalidations(), channel, "{url}");
        }
    }

    #[test]
    fn credentials_apply_to_every_host() {
        let address = parse("redis-cluster://us%3Aer:p%40ss@a:1,b:2").unwrap();
        let AddressKind::Cluster(nodes) = address.kind else {
            panic!("a Cluster");
        };
        for (node, address) in nodes.iter().zip(["a:1", "b:2"]) {
            let info = node.get_connection_info();
            assert_eq!(info.addr().to_string(), address);
            assert_eq!(info.redis_settings().username(), Some("us:er"));
            assert_eq!(info.redis_settings().password(), Some("p@ss"));
        }
    }

    #[test]
    fn servers_are_shown_without_user_and_password() {
        for (url, shown) in [
            ("redis://user:hunter2@a:1/3", "a:1"),
            (
                "redis-sentinel://user:hunter2@a:1,b:2/store?db=3",
                "Sentinels a:1,b:2, master store",
            ),
            ("rediss-cluster://:hunter2@a:1,b:2", "Cluster a:1,b:2"),
        ] {
            assert_eq!(parse(url).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn error_shows_the_right_form_and_never_the_url() {
        for (url, hint) in [
            ("", "redis://[user"),
            ("hunter2", "redis://[user"),
            (
                "redis+sentinel://user:hunter2@host",
                "redis-sentinel://[user",
            ),
            (
                "redis+sentinel://user:hunter2@host",
                "redis-cluster://[user",
            ),
            ("http://user:hunter2@host", "redis://[user"),
            ("redis://user:hunter2@host:port", "redis://[user"),
            ("redis-sentinel://user:hunter2@a:1,b:2", "redis-sentinel://"),
            (
                "redis-sentinel://user:hunter2@a:1,b:2/",
                "redis-sentinel://",
            ),
            ("redis-sentinel://user:hunter2@/store", "redis-sentinel://"),
            (
                "redis-sentinel://user:hunter2@a:x/store",
                "redis-sentinel://",
            ),
            ("redis-sentinel://a/store?hunter2", "redis-sentinel://"),
            ("redis-sentinel://a/store?db=hunter2", "redis-sentinel://"),
            ("redis-cluster://user:hunter2@a:1,", "redis-cluster://"),
            ("redis-cluster://user:hunter2@", "redis-cluster://"),
            ("redis-cluster://user:hunter2@a:1,b:x", "redis-cluster://"),
        ] {
            let Err(error) = parse(url) else {
                panic!("{url} is read");
            };
            let message = error.to_string();
            assert!(message.contains(hint), "{url}: {message}");
            assert!(
                !format!("{error:?} {message}").contains("hunter2"),
                "{url}: {error:?}"
            );
        }
    }
}
