//! The id of the store, and the servers that hold it.

use std::collections::HashMap;

use redis::{AsyncCommands, Cmd, ErrorKind, ServerErrorKind};
use store::connection::{CommandError, Connection, RedisClient};
use store::keys;

use super::{RedisBackend, classify};
use crate::error::WriteError;
use crate::identity::{FORMAT, Servers, StoreId, StoreMark};

const ID: &str = "id";
const VERSION: &str = "format";

pub(super) async fn mark(backend: &RedisBackend) -> Result<Option<StoreMark>, WriteError> {
    let key = backend.key(keys::STORE);
    let mut fields: HashMap<String, String> = backend
        .run(async |mut redis: Connection| redis.hgetall(key).await)
        .await?;
    let format = fields.get(VERSION).and_then(|format| format.parse().ok());
    Ok(fields.remove(ID).map(|id| StoreMark {
        id: StoreId::from_text(id),
        // The process that wrote the id ended before it wrote the format, and only the first format did so.
        format: format.unwrap_or(FORMAT),
    }))
}

pub(super) async fn make_mark(
    backend: &RedisBackend,
    mark: &StoreMark,
) -> Result<StoreMark, WriteError> {
    let key = backend.key(keys::STORE);
    let mut set = redis::pipe();
    set.hset_nx(&key, ID, mark.id.as_str()).ignore();
    set.hset_nx(&key, VERSION, mark.format).ignore();
    backend
        .run::<(), _>(async |mut redis: Connection| set.query_async(&mut redis).await)
        .await?;
    let made = self::mark(backend).await?;
    Ok(made.unwrap_or_else(|| mark.clone()))
}

/// Longer than any outage whose lost writes are worth measuring.
const CANARY_TTL_MS: u64 = 10 * 60 * 1000;

/// Writes a number and returns the previous one.
pub(super) fn write_canary(key: &str, number: i64) -> Cmd {
    let mut set = redis::cmd("SET");
    set.arg(key).arg(number);
    set.arg("GET").arg("PX").arg(CANARY_TTL_MS);
    set
}

/// The run id and replication id of every server that answers. Other servers are unavailable now. They come
/// back with the same ids or with new ones.
pub(super) async fn servers(client: &RedisClient) -> Result<Option<Servers>, WriteError> {
    let mut ask = redis::pipe();
    for section in ["server", "replication"] {
        ask.cmd("INFO").arg(section);
    }
    type ServerInfo = Result<(String, String), CommandError>;
    let answers: Vec<(String, ServerInfo)> = client
        .run_on_masters(|mut redis: Connection| {
            let ask = ask.clone();
            async move { ask.query_async(&mut redis).await }
        })
        .await
        .map_err(classify)?;
    let (mut servers, mut failed) = (Vec::new(), None);
    for (_, answer) in answers {
        match answer {
            Ok((server, replication)) => servers.push(Servers::one(
                field(&server, "run_id:"),
                field(&replication, "master_replid:"),
            )),
            Err(CommandError::Redis(error))
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) =>
            {
                return Ok(None);
            }
            Err(error) => failed = Some(classify(error)),
        }
    }
    match failed {
        Some(error) if servers.is_empty() => Err(error),
        Some(_) | None => Ok(Some(servers.into_iter().collect())),
    }
}

fn field<'a>(info: &'a str, name: &str) -> &'a str {
    let value = info.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_of_info_is_found_among_others() {
        let info = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\ntcp_port:1\r\n";
        assert_eq!(field(info, "run_id:"), "abc");
        assert_eq!(field(info, "master_replid:"), "");
    }
}
