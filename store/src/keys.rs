//! Every key name in Redis. No other file spells one.
//!
//! All keys of one installation carry its partition as a Redis Cluster hash tag, so that one
//! script can change them together. A key name holds no secret: `CLIENT TRACKING` shows names to
//! users who may not read the keys.

use crate::caller::KeyHash;
use crate::id::InstallationId;

/// Partitions, and with them the hash tags, there are.
pub const PARTITIONS: u16 = 256;

/// The channel of [`crate::Change`] messages.
pub const CHANGES: &str = "ghl:inv";

/// A set of the hashes of all caller keys ever made.
pub const CALLERS: &str = "ghl:key:all";

/// String: what brokers know together of the token endpoint: unknown outcomes in a row, and whether
/// new tokens are spent.
pub const OUTAGE: &str = "ghl:outage";

/// The breaker of the brokers with the same client credentials: a string that lives while their
/// refreshes pause.
#[must_use]
pub fn breaker(credentials: &str) -> String {
    format!("ghl:breaker:{credentials}")
}

/// A string that is there from when GHL refuses the client credentials until it takes them again.
#[must_use]
pub fn distrust(credentials: &str) -> String {
    format!("ghl:distrust:{credentials}")
}

/// Hash: the store's own id, and the version of its format.
pub const STORE: &str = "ghl:store";

/// Hash: what gateways read of an installation.
#[must_use]
pub fn access(id: &InstallationId) -> String {
    format!("ghl:at:{{{:02x}}}:{id}", id.partition())
}

/// Hash: what only brokers read of an installation.
#[must_use]
pub fn refresh(id: &InstallationId) -> String {
    format!("ghl:rt:{{{:02x}}}:{id}", id.partition())
}

/// Sorted set: installation ids by when their next refresh is due, in milliseconds.
#[must_use]
pub fn due(partition: u8) -> String {
    format!("ghl:due:{{{partition:02x}}}")
}

/// Sorted set: installation ids with an attempt under way or an unknown outcome, by when somebody
/// is to look at them, in milliseconds.
#[must_use]
pub fn doubt(partition: u8) -> String {
    format!("ghl:doubt:{{{partition:02x}}}")
}

/// Sorted set: installation ids by when their access token expires, in milliseconds.
#[must_use]
pub fn expiry(partition: u8) -> String {
    format!("ghl:exp:{{{partition:02x}}}")
}

/// String: what is written last, so that replicas can be asked how far they have come.
#[must_use]
pub fn sync(partition: u8) -> String {
    format!("ghl:sync:{{{partition:02x}}}")
}

/// String: written, read and deleted to prove that the store takes writes. Each proof has a key of
/// its own.
#[must_use]
pub fn probe(partition: u8, name: &str) -> String {
    format!("{}:probe:{name}", sync(partition))
}

/// String, for some minutes: a number that one process writes again and again, to see what a store
/// has lost.
#[must_use]
pub fn tide(partition: u8, process: &str) -> String {
    format!("ghl:tide:{{{partition:02x}}}:{process}")
}

/// String: the installation of a location or company.
#[must_use]
pub fn location(location_or_company: &str) -> String {
    format!("ghl:loc:{location_or_company}")
}

/// Hash: a caller, found by the hash of its key.
#[must_use]
pub fn caller(key: &KeyHash) -> String {
    format!("ghl:key:{key}")
}

/// String: the state of a consent that was used; it is not good a second time.
#[must_use]
pub fn consent(nonce: &str) -> String {
    format!("ghl:state:{nonce}")
}

/// String: a webhook that was seen.
#[must_use]
pub fn webhook(id: &str) -> String {
    format!("ghl:hook:{id}")
}

/// Hash: GHL's sealed answers that the store may not have yet, by attempt, on the lock nodes.
#[must_use]
pub fn escrow(id: &InstallationId) -> String {
    format!("{ESCROW}{id}")
}

/// The installation that such a key is of.
#[must_use]
pub fn escrowed(key: &str) -> Option<InstallationId> {
    key.strip_prefix(ESCROW)?.parse().ok()
}

const ESCROW: &str = "ghl:escrow:";
/// The pattern of all such keys.
pub const ESCROWED: &str = "ghl:escrow:*";

/// String: the Redlock of an installation, on the lock nodes.
#[must_use]
pub fn lock(id: &InstallationId) -> String {
    format!("ghl:lock:{id}")
}
