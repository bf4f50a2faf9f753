//! Which node of a Cluster serves which key.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use redis::{Arg, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value};

const SLOTS: u16 = 16_384;

/// A node's host and port.
pub(super) type NodeAddress = (String, u16);

/// The slots of a Cluster, as one of its nodes reports them.
#[derive(Debug, Default)]
pub(super) struct SlotMap(Vec<(RangeInclusive<u16>, Vec<NodeAddress>)>);

impl SlotMap {
    /// Parses the answer to `CLUSTER SLOTS` from a node at `host`.
    pub(super) fn read(answer: Value, host: &str) -> Result<Self, RedisError> {
        let ranges: Vec<Vec<Value>> = FromRedisValue::from_redis_value(answer)?;
        let mut map = Vec::with_capacity(ranges.len());
        for range in ranges {
            let mut fields = range.into_iter();
            let (Some(first), Some(last)) = (fields.next(), fields.next()) else {
                continue;
            };
            let slots = RangeInclusive::new(
                FromRedisValue::from_redis_value(first)?,
                FromRedisValue::from_redis_value(last)?,
            );
            let nodes = fields.filter_map(|node| address(node, host)).collect();
            map.push((slots, nodes));
        }
        Ok(Self(map))
    }

    /// The master of a slot.
    pub(super) fn master(&self, slot: u16) -> Option<&NodeAddress> {
        let (_, nodes) = self.0.iter().find(|(slots, _)| slots.contains(&slot))?;
        nodes.first()
    }

    /// The masters of all slots, each once.
    pub(super) fn masters(&self) -> BTreeSet<NodeAddress> {
        let first = |(_, nodes): &(_, Vec<NodeAddress>)| nodes.first().cloned();
        self.0.iter().filter_map(first).collect()
    }

    /// Whether both maps name the same masters for the same slots.
    pub(super) fn has_masters_of(&self, other: &Self) -> bool {
        let masters = |map: &Self| -> Vec<_> {
            let of = |(slots, nodes): &(RangeInclusive<u16>, Vec<NodeAddress>)| {
                (slots.clone(), nodes.first().cloned())
            };
            map.0.iter().map(of).collect()
        };
        masters(self) == masters(other)
    }

    /// Masters and replicas. A node appears once for each of its ranges.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeAddress> {
        self.0.iter().flat_map(|(_, nodes)| nodes)
    }
}

/// A node without a host has the host of the node that reported it. A host of `?` is unknown.
fn address(node: Value, host: &str) -> Option<NodeAddress> {
    let Value::Array(fields) = node else {
        return None;
    };
    let mut fields = fields.into_iter();
    let (named, port) = (fields.next()?, fields.next()?);
    let named: Option<String> = FromRedisValue::from_redis_value(named).ok()?;
    let port = FromRedisValue::from_redis_value(port).ok()?;
    match named.unwrap_or_default().as_str() {
        "?" => None,
        "" => Some((host.to_owned(), port)),
        named => Some((named.to_owned(), port)),
    }
}

/// The node that a command must be sent to instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) to: NodeAddress,
    /// An `ASK` redirect: it applies to this request only, because the slot is being migrated.
    pub(super) is_ask: bool,
}

impl Redirect {
    /// Parses the error of a node at `host`.
    pub(super) fn read(error: &RedisError, host: &str) -> Option<Self> {
        let (address, _) = error.redirect_node()?;
        let (named, port) = address.rsplit_once(':')?;
        let named = if named.is_empty() { host } else { named };
        Some(Self {
            to: (named.to_owned(), port.parse().ok()?),
            is_ask: error.kind() == ErrorKind::Server(ServerErrorKind::Ask),
        })
    }
}

/// The slot of the first key of a command; `None` for commands without a key.
pub(super) fn slot_of_command(command: &Cmd) -> Option<u16> {
    let mut words = command.args_iter().map(|arg| match arg {
        Arg::Simple(word) => word,
        _ => b"",
    });
    let key = match words.next()? {
        b"EVAL" | b"EVALSHA" => words.nth(2)?,
        b"TIME" | b"PING" | b"PUBLISH" | b"WAIT" => return None,
        _ => words.next()?,
    };
    Some(slot_of_key(key))
}

/// The slot of a key. If the key has a hash tag, only the tag counts.
fn slot_of_key(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then_some(&rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
}

/// The error for a slot without a known node.
pub(super) fn no_node_error() -> RedisError {
    RedisError::from((
        ErrorKind::Server(ServerErrorKind::ClusterDown),
        "no node is known for the key",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), text("id")])
    }

    #[test]
    fn key_slots_match_redis() {
        // The test vector of the Redis Cluster specification, and values of CLUSTER KEYSLOT.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of_key(b"foo"), 12182);
        assert_eq!(slot_of_key(b"ghl:at:{foo}:install_1"), 12182);
        // An empty tag is none: the whole key counts.
        assert_eq!(slot_of_key(b"foo{}{bar}"), 8363);
        assert_ne!(slot_of_key(b"{}foo"), slot_of_key(b"foo"));
    }

    #[test]
    fn command_goes_to_the_slot_of_its_first_key() {
        let mut script = redis::cmd("EVALSHA");
        script
            .arg("hash")
            .arg(2)
            .arg("foo")
            .arg("{foo}b")
            .arg("bar");
        let mut get = redis::cmd("GET");
        get.arg("foo");
        assert_eq!(slot_of_command(&script), Some(12182));
        assert_eq!(slot_of_command(&get), Some(12182));
        assert_eq!(slot_of_command(&redis::cmd("TIME")), None);
    }

    #[test]
    fn map_names_the_master_of_each_slot() {
        let range = |first, last, nodes: [Value; 2]| {
            let mut fields = vec![Value::Int(first), Value::Int(last)];
            fields.extend(nodes);
            Value::Array(fields)
        };
        let answer = Value::Array(vec![
            range(0, 99, [node(text("a"), 1), node(text("b"), 2)]),
            range(100, 16383, [node(Value::Nil, 3), node(text("?"), 4)]),
        ]);
        let map = SlotMap::read(answer, "teller").unwrap();
        assert_eq!(map.master(99), Some(&("a".to_owned(), 1)));
        assert_eq!(map.master(100), Some(&("teller".to_owned(), 3)));
        assert_eq!(map.nodes().count(), 3);
        let masters = [("a".to_owned(), 1), ("teller".to_owned(), 3)];
        assert_eq!(map.masters(), BTreeSet::from(masters));
        assert_eq!(SlotMap::default().master(0), None);
    }
}
