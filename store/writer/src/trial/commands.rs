//! The commands of each role, in groups that a person understands.

use redis::{Arg, Cmd};
use store::key_list::RingKind;
use store::names::Names;
use store::{InstallationId, KeyHash, keys, random};

use super::Role;

/// The keys expire by themselves, should they not be deleted.
const TTL_MS: u64 = 60_000;

/// A script as evergreen's: it reads the time, and writes.
const SCRIPT: &str = "redis.call('SET', KEYS[1], redis.call('TIME')[1], 'PX', ARGV[1]) \
                      return redis.call('GET', KEYS[1])";

/// As the script with which a lock is released.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// Commands that serve one purpose.
pub(super) struct Group {
    pub(super) what: &'static str,
    pub(super) is_needed: bool,
    /// The loss, or the function that does not work, without them.
    pub(super) lost: &'static str,
    pub(super) commands: Vec<Cmd>,
}

/// The first word of a command, and the second one of a command with several.
pub(super) fn name(command: &Cmd) -> String {
    let mut words = command.args_iter().filter_map(|word| match word {
        Arg::Simple(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    });
    let first = words.next().unwrap_or_default();
    match first.as_str() {
        "CONFIG" | "CLUSTER" | "SCRIPT" => format!("{first} {}", words.next().unwrap_or_default()),
        _ => first,
    }
}

/// A write that replicas are asked for.
pub(super) fn write_for_replicas(names: &Names) -> Cmd {
    let key = keys::probe(random::bytes::<1>()[0], &random::hex::<8>());
    command("SET", &names.key(key), &["1", "PX", &TTL_MS.to_string()])
}

/// All groups of a role. `fails_over`: the store is several servers.
pub(super) fn groups(role: Role, names: &Names, fails_over: bool) -> Vec<Group> {
    match role {
        Role::Broker => broker(names, fails_over),
        Role::Gateway => gateway(names),
        Role::LockNode => lock_node(names),
    }
}

fn command(words: &str, key: &str, more: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words.split(' ') {
        command.arg(word);
    }
    if !key.is_empty() {
        command.arg(key);
    }
    for word in more {
        command.arg(*word);
    }
    command
}

fn group(what: &'static str, commands: Vec<Cmd>) -> Group {
    Group {
        what,
        is_needed: true,
        lost: "evergreen cannot use this store",
        commands,
    }
}

fn broker(names: &Names, fails_over: bool) -> Vec<Group> {
    let (partition, run) = (random::bytes::<1>()[0], random::hex::<8>());
    let key = |kind: &str| names.key(keys::probe(partition, &format!("{run}:{kind}")));
    let ttl = TTL_MS.to_string();
    let expire = |key: &str| command("PEXPIRE", key, &[&ttl]);
    let (text, other, hash) = (key("text"), key("other"), key("hash"));
    let (list, set, sorted, script) = (key("list"), key("set"), key("sorted"), key("script"));
    let all = [&text, &other, &hash, &list, &set, &sorted, &script].map(String::as_str);
    let event = names.key(keys::outbox_probe(partition, &run));
    vec![
        group(
            "strings (SET, GET, EXISTS)",
            vec![
                command("SET", &text, &["1", "NX", "PX", &ttl]),
                command("SET", &text, &["2", "GET", "PX", &ttl]),
                command("SET", &other, &["1", "NX", "GET"]),
                expire(&other),
                command("GET", &text, &[]),
                command("EXISTS", &text, &[]),
            ],
        ),
        group(
            "hashes (HSET, HSETNX, HGET, HGETALL, HKEYS, HLEN, HINCRBY, HDEL)",
            vec![
                command("HSET", &hash, &["a", "1"]),
                expire(&hash),
                command("HSETNX", &hash, &["b", "1"]),
                command("HGET", &hash, &["a"]),
                command("HGETALL", &hash, &[]),
                command("HKEYS", &hash, &[]),
                command("HLEN", &hash, &[]),
                command("HINCRBY", &hash, &["a", "1"]),
                command("HDEL", &hash, &["b"]),
            ],
        ),
        group(
            "lists (RPUSH, LRANGE, LLEN, LREM)",
            vec![
                command("RPUSH", &list, &["a", "b"]),
                expire(&list),
                command("LRANGE", &list, &["0", "-1"]),
                command("LLEN", &list, &[]),
                command("LREM", &list, &["1", "a"]),
            ],
        ),
        group(
            "sets (SADD, SMEMBERS)",
            vec![
                command("SADD", &set, &["a"]),
                expire(&set),
                command("SMEMBERS", &set, &[]),
            ],
        ),
        group(
            "sorted sets (ZADD, ZRANGE, ZCARD, ZCOUNT, ZREM, ZREMRANGEBYRANK, ZREMRANGEBYSCORE)",
            vec![
                command("ZADD", &sorted, &["5", "a", "6", "b", "+inf", "c"]),
                expire(&sorted),
                command("ZADD", &sorted, &["XX", "LT", "4", "a"]),
                command("ZRANGE", &sorted, &["0", "1", "WITHSCORES"]),
                command(
                    "ZRANGE",
                    &sorted,
                    &["9", "1", "BYSCORE", "REV", "LIMIT", "0", "2", "WITHSCORES"],
                ),
                command("ZCARD", &sorted, &[]),
                command("ZCOUNT", &sorted, &["-inf", "(+inf"]),
                command("ZREM", &sorted, &["b"]),
                command("ZREMRANGEBYRANK", &sorted, &["0", "-3"]),
                command("ZREMRANGEBYSCORE", &sorted, &["-inf", "1"]),
            ],
        ),
        group(
            "Lua scripts (EVAL, EVALSHA) that write and know the time",
            vec![
                command("EVAL", "", &[SCRIPT, "1", &script, &ttl]),
                command("EVALSHA", "", &[&sha(SCRIPT), "1", &script, &ttl]),
            ],
        ),
        group(
            "the time of the store (TIME)",
            vec![command("TIME", "", &[])],
        ),
        group(
            "deletions (DEL)",
            all.iter().map(|key| command("DEL", key, &[])).collect(),
        ),
        group(
            "the keys of events, which users of older versions may not write (SET, DEL)",
            vec![
                command("SET", &event, &["1", "PX", &ttl]),
                command("DEL", &event, &[]),
            ],
        ),
        Group {
            what: "the state of a server (INFO)",
            is_needed: false,
            lost: "each restart of a server looks like a loss of data, and whether keys are evicted is not known",
            commands: vec![command("INFO", "", &["server"])],
        },
        Group {
            what: "settings of a server (CONFIG GET)",
            is_needed: false,
            lost: "nobody is warned if writes do not reach the disk at once",
            commands: vec![command("CONFIG GET", "appendfsync", &[])],
        },
        Group {
            what: "the role of a server (ROLE)",
            is_needed: fails_over,
            lost: "behind Sentinels a server that has stopped being the master cannot be told from it",
            commands: vec![command("ROLE", "", &[])],
        },
    ]
}

fn gateway(names: &Names) -> Vec<Group> {
    let id = InstallationId::random();
    let name = random::hex::<8>();
    let caller = KeyHash::of(&name);
    vec![
        group(
            "reads (GET, HGETALL, EXISTS) of what a gateway reads",
            vec![
                command("HGETALL", &names.key(keys::access(&id)), &[]),
                command("GET", &names.key(keys::location(&name)), &[]),
                command("HGETALL", &names.key(keys::location_by_app(&name)), &[]),
                command("HGETALL", &names.key(keys::caller(&caller)), &[]),
                command("HGETALL", &names.key(keys::key_list(RingKind::Access)), &[]),
                command("EXISTS", &names.key(keys::CALLERS), &[]),
            ],
        ),
        group(
            "the time of the store (TIME)",
            vec![command("TIME", "", &[])],
        ),
    ]
}

fn lock_node(names: &Names) -> Vec<Group> {
    let id = InstallationId::random();
    let (lock, escrow) = (names.key(keys::lock(&id)), names.key(keys::escrow(&id)));
    let ttl = TTL_MS.to_string();
    let pattern = names.key(keys::ESCROW_PATTERN);
    vec![
        group(
            "locks (SET, GET, EVAL, EVALSHA, SCRIPT LOAD)",
            vec![
                command("SET", &lock, &["a", "NX", "PX", &ttl]),
                command("SET", &lock, &["a", "PX", &ttl, "GET"]),
                command("GET", &lock, &[]),
                command("SCRIPT LOAD", "", &[RELEASE]),
                command("EVAL", "", &[RELEASE, "1", &lock, "b"]),
                command("EVALSHA", "", &[&sha(RELEASE), "1", &lock, "a"]),
                command("DEL", &lock, &[]),
            ],
        ),
        group(
            "escrow (HSET, PEXPIRE, HGETALL, HDEL, SCAN)",
            vec![
                command("HSET", &escrow, &["a", "1"]),
                command("PEXPIRE", &escrow, &[&ttl]),
                command("HGETALL", &escrow, &[]),
                command("SCAN", "", &["0", "MATCH", &pattern, "COUNT", "10"]),
                command("HDEL", &escrow, &["a"]),
            ],
        ),
    ]
}

fn sha(script: &str) -> String {
    redis::Script::new(script).get_hash().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The commands that a user of this file may send, in upper case.
    fn allowed(file: &str, user: &str) -> BTreeSet<String> {
        let lines = file
            .lines()
            .skip_while(|line| !line.starts_with(&format!("user {user} ")));
        let of_user = lines.take_while(|line| !line.is_empty());
        let words = of_user.flat_map(str::split_whitespace);
        let rights = words.filter_map(|word| word.strip_prefix('+'));
        rights
            .map(|right| right.to_uppercase().replace('|', " "))
            .collect()
    }

    #[test]
    fn each_command_that_a_user_may_send_is_tried() {
        let (store, locks) = (
            include_str!("../../../../deploy/users.acl"),
            include_str!("../../../../deploy/lock-users.acl"),
        );
        // By the connection, by another trial, or only of a Cluster.
        let elsewhere = [
            "PING",
            "HELLO",
            "CLIENT SETNAME",
            "CLIENT ID",
            "SUBSCRIBE",
            "UNSUBSCRIBE",
            "PUBLISH",
            "WAIT",
            "CLUSTER SLOTS",
            "ASKING",
        ];
        for (role, file, user) in [
            (Role::Broker, store, "broker"),
            (Role::Gateway, store, "gateway"),
            (Role::LockNode, locks, "locker"),
        ] {
            let groups = groups(role, &Names::default(), false);
            let tried = groups.iter().flat_map(|group| &group.commands).map(name);
            let mut tried: BTreeSet<String> = tried.collect();
            tried.extend(elsewhere.map(str::to_owned));
            // Behind Sentinels only.
            tried.insert("ROLE".to_owned());
            let mut untried = allowed(file, user);
            untried.retain(|right| !tried.contains(right));
            assert!(untried.is_empty(), "{user}: {untried:?}");
        }
    }
}
