//! Self-reports of servers, as far as this user may ask.

use std::collections::HashMap;

use redis::{ErrorKind, RedisResult};
use store::Timestamp;
use store::clock::Moment;
use store::connection::{Connection, RedisClient};

use super::{RedisBackend, classify, timestamp};
use crate::check::{ClockReading, Config, Facts, Info};
use crate::error::WriteError;

/// Asks every server that accepts writes. Leaves out servers that do not answer; an error if none answers.
pub(super) async fn of_masters(
    client: &RedisClient,
    replicas: usize,
) -> Result<Vec<Facts>, WriteError> {
    let answers = client.run_on_masters(ask).await.map_err(classify)?;
    let (mut facts, mut failed) = (Vec::new(), None);
    for (server, answer) in answers {
        match answer {
            Ok((info, config, clock)) => facts.push(Facts {
                server,
                info,
                config,
                clock,
                replicas_wanted: replicas,
            }),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if facts.is_empty() => Err(classify(error)),
        Some(_) | None => Ok(facts),
    }
}

async fn ask(mut redis: Connection) -> RedisResult<(Option<Info>, Option<Config>, ClockReading)> {
    let sent_at = Moment::now();
    let (local_time, server_time) = (
        Timestamp::of_this_machine(),
        redis::cmd("TIME").query_async(&mut redis).await?,
    );
    let clock = ClockReading {
        server_time: timestamp(server_time),
        local_time,
        at: sent_at,
    };
    let info: RedisResult<String> = redis::cmd("INFO").query_async(&mut redis).await;
    let info = unless_denied(info)?.map(|text| Info::parse(&text));
    let mut question = redis::pipe();
    for setting in ["appendfsync", "no-appendfsync-on-rewrite", "save"] {
        question.cmd("CONFIG").arg("GET").arg(setting);
    }
    let config: RedisResult<Vec<HashMap<String, String>>> = question.query_async(&mut redis).await;
    let config = unless_denied(config)?;
    let config = config.map(|parts| Config::of(&parts.into_iter().flatten().collect()));
    Ok((info, config, clock))
}

/// `None` if this user may not ask, or the server does not know the command.
fn unless_denied<T>(answer: RedisResult<T>) -> RedisResult<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if matches!(error.kind(), ErrorKind::Server(_)) || error.code().is_some() => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The memory that the store's data take, in bytes.
pub(super) async fn memory(backend: &RedisBackend) -> Result<Option<u64>, WriteError> {
    let mut command = redis::cmd("INFO");
    command.arg("memory");
    let info: String = backend
        .run(async |mut redis: Connection| command.query_async(&mut redis).await)
        .await?;
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    Ok(used.and_then(|bytes| bytes.trim().parse().ok()))
}
