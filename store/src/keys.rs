//! Every key name in Redis, as it is with the default prefix: see [`crate::names`]. No other file contains one.
//!
//! All keys of one installation carry its partition as a Redis Cluster hash tag. One script can therefore
//! change them together. A key name contains no secret, because `CLIENT TRACKING` shows names to users who
//! may not read the keys.

use ring::digest;

use crate::app::AppName;
use crate::caller::KeyHash;
use crate::id::InstallationId;
use crate::key_list::RingKind;
use crate::random;

/// The number of partitions and of hash tags.
pub const PARTITIONS: u16 = 256;

/// The beginning of each name here, and of each key in Redis unless a deployment has another one.
pub(crate) const PREFIX: &str = "ghl";

/// The channel of [`crate::Invalidation`] messages.
pub const INVALIDATIONS: &str = "ghl:inv";

/// Sorted set: the entries of the audit log, by their time in milliseconds.
pub const AUDIT: &str = "ghl:audit";

/// Sorted set: the entries of the audit log about fetched tokens.
pub const AUDIT_FETCHES: &str = "ghl:audit:fetches";

/// Sorted set: the entries of the audit log about strangers that were refused.
pub const AUDIT_STRANGERS: &str = "ghl:audit:strangers";

/// Hash: the day of the last use of each caller key, by the hash of the key.
pub const KEYS_USED: &str = "ghl:key:used";

/// Set: the hashes of all caller keys ever created.
pub const CALLERS: &str = "ghl:key:all";

/// Hash: the id at GHL of each app, by its name. A name stands for one app.
pub const APPS: &str = "ghl:apps";

/// String: the brokers' shared view of an outage of the token endpoint. It holds the number of unknown
/// outcomes in a row, and whether new tokens are spent.
pub const OUTAGE: &str = "ghl:outage";

/// String: the circuit breaker of all brokers with these client credentials. It exists while refreshes pause.
#[must_use]
pub fn breaker(credentials: &str) -> String {
    format!("ghl:breaker:{credentials}")
}

/// String: exists from when GHL refuses the client credentials until it accepts them again.
#[must_use]
pub fn refused_credentials(credentials: &str) -> String {
    format!("ghl:distrust:{credentials}")
}

/// Hash: the store's own id and the version of its format.
pub const STORE: &str = "ghl:store";

/// Hash: the keys of a ring that the store's records may be sealed with: see [`crate::key_list`].
#[must_use]
pub fn key_list(ring: RingKind) -> String {
    format!("ghl:seal:{}", ring.as_str())
}

/// String: the rotation of the sealing keys that a broker carries out.
pub const ROTATION: &str = "ghl:seal:rotation";

/// String: the broker that counts all installations for metrics.
pub const FLEET_COUNT: &str = "ghl:sync:count";

/// Hash, about a day: how often each thing happened within five minutes. `bucket`: the number of five minutes since 1970.
#[must_use]
pub fn counts(bucket: u32) -> String {
    // All have one length, so that their order is that of the times.
    format!("{STATS}{bucket:010}")
}

/// Hash: when each broker and gateway was seen last, as JSON by its kind and name.
pub const SEEN: &str = "ghl:stats:seen";

/// String: the last count of all installations by state, as JSON.
pub const LAST_FLEET_COUNT: &str = "ghl:stats:fleet";

const STATS: &str = "ghl:stats:";

/// Whether a key holds numbers for the overview alone. A copy of a store is whole without them.
#[must_use]
pub fn is_statistic(key: &str) -> bool {
    key.starts_with(STATS)
}

/// Hash: the part of an installation's record that gateways read.
#[must_use]
pub fn access(id: &InstallationId) -> String {
    format!("ghl:at:{{{:02x}}}:{id}", id.partition())
}

/// Hash: the part of an installation's record that only brokers read.
#[must_use]
pub fn refresh(id: &InstallationId) -> String {
    format!("ghl:rt:{{{:02x}}}:{id}", id.partition())
}

/// Sorted set: ids of an app's installations by the time of their next refresh, in milliseconds.
#[must_use]
pub fn due(partition: u8, app: &AppName) -> String {
    of_app(format!("ghl:due:{{{partition:02x}}}"), app)
}

/// Sorted set: ids of an app's installations with an open intent, by the time of the next check, in milliseconds. An
/// attempt is in progress, or its outcome is unknown.
#[must_use]
pub fn open_intents(partition: u8, app: &AppName) -> String {
    of_app(format!("ghl:doubt:{{{partition:02x}}}"), app)
}

/// The keys of the default app have no suffix. They are older than the others.
fn of_app(key: String, app: &AppName) -> String {
    match app.is_default() {
        true => key,
        false => format!("{key}:{app}"),
    }
}

/// Sorted set: installation ids by the expiry of their access token, in milliseconds.
#[must_use]
pub fn expiry(partition: u8) -> String {
    format!("ghl:exp:{{{partition:02x}}}")
}

/// Hash: the installations of a partition that belong together, by id. `family` is the id of an agency's installation,
/// for its locations, or [`AGENCIES`].
#[must_use]
pub fn family(partition: u8, family: &str) -> String {
    format!("ghl:kin:{{{partition:02x}}}:{family}")
}

/// The [`family`] of all installations of agencies.
pub const AGENCIES: &str = "agencies";

/// String: the rate limit of the calls that brokers make for an agency. GHL limits each app alone.
#[must_use]
pub fn agency_rate(app: &AppName, company: &str) -> String {
    of_app(format!("ghl:rate:{company}"), app)
}

/// String: written after other writes, so that `WAIT` can confirm how far replicas are.
#[must_use]
pub fn replication_marker(partition: u8) -> String {
    format!("ghl:sync:{{{partition:02x}}}")
}

/// String: written, read and deleted to prove that the store accepts writes. Each probe uses its own key.
#[must_use]
pub fn probe(partition: u8, name: &str) -> String {
    format!("{}:probe:{name}", replication_marker(partition))
}

/// String with a TTL of minutes: a growing number that one process writes, to detect lost writes.
#[must_use]
pub fn canary(partition: u8, process: &str) -> String {
    format!("ghl:tide:{{{partition:02x}}}:{process}")
}

/// String: the installation id of a location or company under the default app.
#[must_use]
pub fn location(location_or_company: &str) -> String {
    format!("ghl:loc:{location_or_company}")
}

/// Hash: the installation ids of a location or company under all other apps, by the name of the app.
#[must_use]
pub fn location_by_app(location_or_company: &str) -> String {
    format!("ghl:loc:{location_or_company}:apps")
}

/// Hash: the record of a caller's key, by the hash of the key.
#[must_use]
pub fn caller(key: &KeyHash) -> String {
    format!("ghl:key:{key}")
}

/// String: a consent state that was used, by its name. A state is valid once.
#[must_use]
pub fn consent(name: &str) -> String {
    format!("ghl:state:{name}")
}

/// String: a webhook that was processed.
#[must_use]
pub fn webhook(id: &str) -> String {
    format!("ghl:hook:{id}")
}

/// String: what GHL's webhooks have told about an installation that is not stored yet.
#[must_use]
pub fn early_details(id: &InstallationId) -> String {
    webhook(&format!("details:{id}"))
}

/// Sorted set: the events of a partition as JSON, by the time of their write in milliseconds.
#[must_use]
pub fn events(partition: u8) -> String {
    outbox(partition, "log")
}

/// Hash: in the file, the place of the last event ([`LAST_EVENT_FIELD`]).
pub const LAST_EVENT: &str = "ghl:out:last";
/// The field of [`LAST_EVENT`].
pub const LAST_EVENT_FIELD: &str = "position";

/// Sorted set: events and webhooks that an endpoint has not taken within days, by when they were given up, in
/// milliseconds.
#[must_use]
pub fn dead_letters(partition: u8, endpoint: &str) -> String {
    outbox(partition, &format!("{DEAD_LETTERS}{endpoint}"))
}

const DEAD_LETTERS: &str = "dead:";

/// Hash: how many messages wait for an endpoint, in the field [`WAITING_FIELD`].
#[must_use]
pub fn deliveries_waiting(partition: u8, endpoint: &str) -> String {
    outbox(partition, &format!("waiting:{endpoint}"))
}

/// The field of [`deliveries_waiting`].
pub const WAITING_FIELD: &str = "n";

/// Sorted set: subjects with messages for an endpoint, by when the next attempt is due, in milliseconds.
#[must_use]
pub fn deliveries_due(partition: u8, endpoint: &str) -> String {
    outbox(partition, &format!("due:{endpoint}"))
}

/// Hash: the failed attempts of the first message of each subject.
#[must_use]
pub fn delivery_attempts(partition: u8, endpoint: &str) -> String {
    outbox(partition, &format!("tries:{endpoint}"))
}

/// List: the messages about a subject for an endpoint, the oldest first.
#[must_use]
pub fn delivery_queue(partition: u8, endpoint: &str, subject: &str) -> String {
    outbox(partition, &format!("queue:{endpoint}:{subject}"))
}

/// String: written and deleted to prove that the store's user may write the keys of the outbox, which it could not before
/// there were events.
#[must_use]
pub fn outbox_probe(partition: u8, name: &str) -> String {
    outbox(partition, &format!("probe:{name}"))
}

fn outbox(partition: u8, name: &str) -> String {
    format!("ghl:out:{{{partition:02x}}}:{name}")
}

/// The partition of a text that is no installation id.
#[must_use]
pub fn partition_of(text: &str) -> u8 {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[0]
}

/// The kinds of content that a copy of a whole store distinguishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The half of this installation's record that gateways read.
    Access(InstallationId),
    /// The half of this installation's record that only brokers read.
    Refresh(InstallationId),
    /// The store's own id.
    Store,
    /// The hashes of all caller keys.
    Callers,
    /// The record of a caller's key.
    Caller,
    /// An installation of a location or company.
    Location,
    /// A list of the audit log.
    Audit,
    /// The events of a partition.
    Events,
    /// The messages about a subject for an endpoint.
    Queue,
    /// The messages that an endpoint has not taken.
    DeadLetters,
    /// Anything else.
    Other,
}

/// The content of this key.
#[must_use]
pub fn content(key: &str) -> Content {
    let of_partition = |prefix: &str| Some(key.strip_prefix(prefix)?.split_once("}:")?.1);
    let id = |prefix| of_partition(prefix).and_then(|id| id.parse().ok());
    if let Some(id) = id("ghl:at:{") {
        return Content::Access(id);
    }
    if let Some(id) = id("ghl:rt:{") {
        return Content::Refresh(id);
    }
    match of_partition("ghl:out:{") {
        Some("log") => return Content::Events,
        Some(name) if name.starts_with(DEAD_LETTERS) => return Content::DeadLetters,
        Some(name) if name.starts_with("queue:") => return Content::Queue,
        Some(_) | None => {}
    }
    match key {
        STORE => Content::Store,
        CALLERS => Content::Callers,
        AUDIT | AUDIT_FETCHES | AUDIT_STRANGERS => Content::Audit,
        KEYS_USED => Content::Other,
        _ if key.starts_with("ghl:key:") => Content::Caller,
        _ if key.starts_with("ghl:loc:") => Content::Location,
        _ => Content::Other,
    }
}

/// Hash on the lock nodes: GHL's sealed responses that the store may not have yet, by intent id.
#[must_use]
pub fn escrow(id: &InstallationId) -> String {
    format!("{ESCROW}{id}")
}

/// The installation of an [`escrow`] key; `None` for any other key.
#[must_use]
pub fn escrow_installation(key: &str) -> Option<InstallationId> {
    key.strip_prefix(ESCROW)?.parse().ok()
}

const ESCROW: &str = "ghl:escrow:";
/// The pattern that matches every [`escrow`] key.
pub const ESCROW_PATTERN: &str = "ghl:escrow:*";

/// String on the lock nodes: the Redlock of an installation.
#[must_use]
pub fn lock(id: &InstallationId) -> String {
    format!("ghl:lock:{id}")
}

/// String on the lock nodes: a key of this broker that shows whether a node has lost its data.
#[must_use]
pub fn lock_node_probe(broker: &str) -> String {
    format!("ghl:lock:probe:{broker}:{}", random::hex::<4>())
}

/// String on the lock nodes: a lock that opens connections in advance.
#[must_use]
pub fn lock_warm_up() -> String {
    format!("ghl:lock:warm:{}", random::hex::<4>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_told_by_their_names_and_are_in_the_order_of_their_times() {
        assert!(counts(99) < counts(100) && counts(u32::MAX).as_str() < SEEN);
        for key in [&counts(7), SEEN, LAST_FLEET_COUNT] {
            assert!(is_statistic(key), "{key}");
        }
        assert!(!is_statistic(FLEET_COUNT) && !is_statistic(STORE));
    }

    #[test]
    fn content_of_a_key_is_told_by_its_name() {
        let id = InstallationId::random();
        let app = AppName::default();
        for (key, content) in [
            (access(&id), Content::Access(id.clone())),
            (refresh(&id), Content::Refresh(id.clone())),
            (delivery_queue(7, "crm", id.as_str()), Content::Queue),
            (events(7), Content::Events),
            (dead_letters(7, "crm"), Content::DeadLetters),
            (deliveries_waiting(7, "dead"), Content::Other),
            (location("L1"), Content::Location),
            (location_by_app("L1"), Content::Location),
            (caller(&KeyHash::of("evg_1")), Content::Caller),
            (CALLERS.to_owned(), Content::Callers),
            (AUDIT_FETCHES.to_owned(), Content::Audit),
            (STORE.to_owned(), Content::Store),
            (KEYS_USED.to_owned(), Content::Other),
            (due(7, &app), Content::Other),
            (deliveries_due(7, "queue"), Content::Other),
            (family(7, AGENCIES), Content::Other),
        ] {
            assert_eq!(super::content(&key), content, "{key}");
        }
    }
}
