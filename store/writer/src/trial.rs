//! Tries a store before it is used: each command, script and channel that evergreen needs, on keys of its own that
//! expire within a minute.

mod commands;
mod flavour;

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind};
use store::connection::{Address, BadAddress, CommandError, Connection, RedisClient};
use store::{Generation, InstallationId, Invalidation};
use tokio::time::timeout;

use crate::backend::Backend;
use crate::backend::redis::RedisBackend;
use crate::check::{ClockHistory, Finding, evaluate};
use crate::error::WriteError;
use commands::Group;
use flavour::flavour;

/// How long an announcement may take to arrive.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(2);
/// How long replicas may take to have a write, in milliseconds. Less than a command may take.
const WAIT_MS: u64 = 800;

/// The process whose commands are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A broker, which writes to the store.
    Broker,
    /// A gateway, which reads some of it.
    Gateway,
    /// A broker at a lock node.
    LockNode,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Its name for people.
    pub what: &'static str,
    /// The result.
    pub result: Found,
}

/// The result of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It works, with a detail for people, which may be empty.
    There(String),
    /// It does not work. evergreen works without it.
    Lost {
        /// The answer of the server.
        reason: String,
        /// The loss without it.
        lost: &'static str,
    },
    /// It does not work, and evergreen needs it.
    Missing {
        /// The answer of the server.
        reason: String,
        /// The function that does not work without it.
        lost: &'static str,
    },
}

/// The report about a store.
#[derive(Debug)]
pub struct Report {
    /// Each server that accepts writes, and its kind and version.
    pub servers: Vec<String>,
    /// Everything that was tried.
    pub tried: Vec<Tried>,
    /// The effects of the servers' settings on tokens. Only a broker asks for them.
    pub findings: Vec<Finding>,
}

/// Why a store was not tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The URL is malformed.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// The store does not answer, or refuses the user.
    #[error("the store does not answer, or refuses the user and its password")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Tries a store. `replicas`: how many must have a write.
///
/// # Errors
/// When the URL is malformed, or the store does not answer.
pub async fn run(address: Address, role: Role, replicas: usize) -> Result<Report, TrialError> {
    let can_fail_over = !address.is_single();
    let client = RedisClient::open(address)?;
    let ping =
        client.run(async |mut redis: Connection| redis::cmd("PING").query_async(&mut redis).await);
    let () = ping
        .await
        .map_err(|error| TrialError::Unavailable(error.into()))?;
    let mut tried = Vec::new();
    for group in commands::groups(role, client.names(), can_fail_over) {
        tried.push(group_of_commands(&client, group).await);
    }
    if role != Role::LockNode {
        tried.push(channel(&client, role).await);
    }
    if role == Role::Broker {
        tried.push(replication(&client, can_fail_over, replicas).await);
    }
    let (mut findings, mut servers) = (Vec::new(), Vec::new());
    if role == Role::Broker {
        let facts = RedisBackend::new(client.clone(), 0)?.facts().await;
        let facts = facts.map_err(|error: WriteError| TrialError::Unavailable(error.into()))?;
        findings = evaluate(&facts);
        findings.extend(ClockHistory::default().compare(&facts));
        servers = versions(&client).await;
    }
    Ok(Report {
        servers,
        tried,
        findings,
    })
}

/// Sends each command alone, so that all that are missing are named.
async fn group_of_commands(client: &RedisClient, group: Group) -> Tried {
    let mut refused: Vec<String> = Vec::new();
    for command in &group.commands {
        let answer = client.run(async |mut redis: Connection| {
            command.query_async::<redis::Value>(&mut redis).await
        });
        if let Err(error) = answer.await
            && !is_unknown_script(&error)
        {
            // A command can be in a group several times.
            let line = format!("{}: {}", commands::name(command), reason(&error));
            if !refused.contains(&line) {
                refused.push(line);
            }
        }
    }
    Tried {
        what: group.what,
        result: match (refused.is_empty(), group.is_needed) {
            (true, _) => Found::There(String::new()),
            (false, is_needed) => absent(refused.join("; "), is_needed, group.lost),
        },
    }
}

fn absent(reason: String, is_needed: bool, lost: &'static str) -> Found {
    match is_needed {
        true => Found::Missing { reason, lost },
        false => Found::Lost { reason, lost },
    }
}

/// `EVALSHA` of a script that nobody has loaded is allowed.
fn is_unknown_script(error: &CommandError) -> bool {
    matches!(error, CommandError::Redis(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

/// One line, without what the client adds.
fn reason(error: &CommandError) -> String {
    let text = match error {
        CommandError::Redis(error) => error.to_string(),
        CommandError::TimedOut | CommandError::NoMaster(_) => error.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

/// Subscribes to the announcements. A broker also publishes one, about an installation that does not exist.
async fn channel(client: &RedisClient, role: Role) -> Tried {
    const LOST: &str = "gateways serve old tokens, and revoked keys go on working";
    let is_sender = role == Role::Broker;
    let result = match timeout(2 * ANNOUNCED_WITHIN, listen(client, is_sender)).await {
        Ok(Ok(true)) => Found::There(String::new()),
        Ok(Ok(false)) => absent("an announcement did not arrive".to_owned(), true, LOST),
        Ok(Err(error)) => absent(reason(&error), true, LOST),
        Err(_) => absent("no answer".to_owned(), true, LOST),
    };
    let what = match is_sender {
        true => "pub/sub (SUBSCRIBE, UNSUBSCRIBE, PUBLISH)",
        false => "pub/sub (SUBSCRIBE, UNSUBSCRIBE)",
    };
    Tried { what, result }
}

async fn listen(client: &RedisClient, is_sender: bool) -> Result<bool, CommandError> {
    let name = client.names().invalidations();
    let mut channel = client.server().await.get_async_pubsub().await?;
    channel.subscribe(&name).await?;
    let mut arrives = true;
    if is_sender {
        let change = Invalidation::Installation {
            id: InstallationId::random(),
            generation: Generation::FIRST,
        };
        let message = change.to_message().unwrap_or_default();
        let publish = Cmd::publish(&name, &message);
        client
            .run(async |mut redis: Connection| publish.query_async::<()>(&mut redis).await)
            .await?;
        let mut messages = channel.on_message();
        let heard = async {
            while let Some(heard) = messages.next().await {
                if heard
                    .get_payload::<String>()
                    .is_ok_and(|text| text == message)
                {
                    return true;
                }
            }
            false
        };
        arrives = timeout(ANNOUNCED_WITHIN, heard).await.unwrap_or(false);
    }
    channel.unsubscribe(&name).await?;
    Ok(arrives)
}

/// Asks how many replicas have a write. `wanted`: how many must have it.
async fn replication(client: &RedisClient, can_fail_over: bool, wanted: usize) -> Tried {
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    // In one request, so that a Cluster asks the master that has the write.
    let mut both = redis::pipe();
    both.add_command(commands::write_for_replicas(client.names()))
        .ignore();
    // With 0 it answers before a replica can.
    both.cmd("WAIT").arg(wanted.max(1)).arg(WAIT_MS);
    let answer: Result<(u64,), CommandError> = client
        .run(async |mut redis: Connection| both.query_async(&mut redis).await)
        .await;
    let result = match answer.map(|(replicas,)| replicas) {
        Ok(replicas) if replicas < wanted => Found::Missing {
            reason: format!("{replicas} have a write, and EVERGREEN_REDIS_REPLICAS is {wanted}"),
            lost: "no refresh token is spent until as many replicas have each write",
        },
        Ok(1) => Found::There("one replica".to_owned()),
        Ok(replicas) => Found::There(format!("{replicas} replicas")),
        Err(error) => absent(
            reason(&error),
            can_fail_over || wanted > 0,
            "nobody can tell whether a replica has a write, so a failover can lose refresh tokens. \
             EVERGREEN_REDIS_REPLICAS must be 0, and the store one server",
        ),
    };
    let what = "replicas (WAIT)";
    Tried { what, result }
}

/// The kind and the version of each server, as far as they say.
async fn versions(client: &RedisClient) -> Vec<String> {
    let ask = |mut redis: Connection| async move {
        let answer: RedisResult<String> = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut redis)
            .await;
        Ok::<_, RedisError>(answer.unwrap_or_default())
    };
    let answers = client.run_on_masters(ask).await.unwrap_or_default();
    let named = answers.into_iter().map(|(server, answer)| {
        let info = answer.unwrap_or_default();
        format!("{server} is {}", flavour(&info))
    });
    named.collect()
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what;
        match &self.result {
            Found::There(detail) if detail.is_empty() => write!(f, "ok       {what}"),
            Found::There(detail) => write!(f, "ok       {what}: {detail}"),
            Found::Lost { reason, lost } => write!(f, "lost     {what}: {reason}\n         {lost}"),
            Found::Missing { reason, lost } => {
                write!(f, "MISSING  {what}: {reason}\n         {lost}")
            }
        }
    }
}
