//! Which node of a Cluster serves which key.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use redis::{Arg, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value};

const SLOTS: u16 = 16_384;

/// Where a node is: host and port.
pub(super) type Place = (String, u16);

/// A Cluster's slots as one of its nodes knows them.
#[derive(Debug, Default)]
pub(super) struct SlotMap(Vec<(RangeInclusive<u16>, Vec<Place>)>);

impl SlotMap {
    /// Reads the answer to `CLUSTER SLOTS`, which a node at `host` gave.
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
            let nodes = fields.filter_map(|node| place(node, host)).collect();
            map.push((slots, nodes));
        }
        Ok(Self(map))
    }

    /// The master of a slot.
    pub(super) fn master(&self, slot: u16) -> Option<&Place> {
        let (_, nodes) = self.0.iter().find(|(slots, _)| slots.contains(&slot))?;
        nodes.first()
    }

    /// The masters that have slots, each once.
    pub(super) fn masters(&self) -> BTreeSet<Place> {
        let first = |(_, nodes): &(_, Vec<Place>)| nodes.first().cloned();
        self.0.iter().filter_map(first).collect()
    }

    /// Whether both name the same masters for the same slots.
    pub(super) fn has_masters_of(&self, other: &Self) -> bool {
        let masters = |map: &Self| -> Vec<_> {
            let of = |(slots, nodes): &(RangeInclusive<u16>, Vec<Place>)| {
                (slots.clone(), nodes.first().cloned())
            };
            map.0.iter().map(of).collect()
        };
        masters(self) == masters(other)
    }

    /// Each master once.
    /// Masters and replicas, each as often as it is named.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Place> {
        self.0.iter().flat_map(|(_, nodes)| nodes)
    }
}

/// A node without a host is to be found where the one that told of it is; `?` stands for unknown.
fn place(node: Value, host: &str) -> Option<Place> {
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

/// Where a node sends those who asked the wrong one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) to: Place,
    /// For this one question: the slot is on its way there.
    pub(super) is_ask: bool,
}

impl Redirect {
    /// Reads the refusal of a node at `host`.
    pub(super) fn read(error: &RedisError, host: &str) -> Option<Self> {
        let (place, _) = error.redirect_node()?;
        let (named, port) = place.rsplit_once(':')?;
        let named = if named.is_empty() { host } else { named };
        Some(Self {
            to: (named.to_owned(), port.parse().ok()?),
            is_ask: error.kind() == ErrorKind::Server(ServerErrorKind::Ask),
        })
    }
}

/// The slot of the first key that a command names.
pub(super) fn of_command(command: &Cmd) -> Option<u16> {
    let mut words = command.args_iter().map(|arg| match arg {
        Arg::Simple(word) => word,
        _ => b"",
    });
    let key = match words.next()? {
        b"EVAL" | b"EVALSHA" => words.nth(2)?,
        b"TIME" | b"PING" | b"PUBLISH" | b"WAIT" => return None,
        _ => words.next()?,
    };
    Some(of_key(key))
}

/// Of a key with a hash tag only the tag counts.
fn of_key(key: &[u8]) -> u16 {
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

/// What a slot without a node answers with.
pub(super) fn unserved() -> RedisError {
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
    fn keys_are_where_redis_puts_them() {
        // The vector of the specification, and what CLUSTER KEYSLOT says.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(of_key(b"foo"), 12182);
        assert_eq!(of_key(b"ghl:at:{foo}:install_1"), 12182);
        assert_eq!(of_key(b"foo{}{bar}"), of_key(b"foo{}{bar}"));
        assert_ne!(of_key(b"{}foo"), of_key(b"foo"));
    }

    #[test]
    fn a_command_goes_where_its_first_key_is() {
        let mut script = redis::cmd("EVALSHA");
        script
            .arg("hash")
            .arg(2)
            .arg("foo")
            .arg("{foo}b")
            .arg("bar");
        let mut get = redis::cmd("GET");
        get.arg("foo");
        assert_eq!(of_command(&script), Some(12182));
        assert_eq!(of_command(&get), Some(12182));
        assert_eq!(of_command(&redis::cmd("TIME")), None);
    }

    #[test]
    fn a_map_names_the_master_of_each_slot() {
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
