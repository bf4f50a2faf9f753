//! The kind of a server, as its `INFO` shows it.

/// For people: `Redis 7.0.15`, `Valkey 8.0.1 (as Redis 7.2.4)`. A server may hide everything.
pub(super) fn flavour(info: &str) -> String {
    let field = |name: &str| {
        let lines = info.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values
            .next()
            .map(str::trim)
            .filter(|value| !value.is_empty())
    };
    let Some(redis) = field("redis_version") else {
        return "a server that does not tell its version (INFO)".to_owned();
    };
    let executable = field("executable").unwrap_or_default();
    let own = [
        ("valkey_version", "Valkey"),
        ("dragonfly_version", "Dragonfly"),
        ("kvrocks_version", "Kvrocks"),
        ("garnet_version", "Garnet"),
    ];
    let own = own
        .iter()
        .find_map(|(name, shown)| Some((*shown, field(name)?)));
    let version = match own {
        Some((name, version)) => format!("{name} {version} (as Redis {redis})"),
        None if field("server_name") == Some("valkey") => format!("Valkey (as Redis {redis})"),
        None if executable.contains("keydb") => format!("KeyDB {redis}"),
        None => format!("Redis {redis}"),
    };
    let os = field("os").unwrap_or_default();
    let managed = match os {
        os if os.contains("ElastiCache") || os.contains("Amazon") => Some("managed by Amazon"),
        _ if field("rlec_version").is_some() => Some("Redis Enterprise"),
        _ => None,
    };
    match managed {
        Some(managed) => format!("{version}, {managed}"),
        None => version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_version_are_told_apart() {
        for (info, expected) in [
            ("", "a server that does not tell its version (INFO)"),
            (
                "# Server\r\nredis_version:7.0.15\r\nos:Linux\r\n",
                "Redis 7.0.15",
            ),
            (
                "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n",
                "Valkey 8.0.1 (as Redis 7.2.4)",
            ),
            (
                "redis_version:7.2.4\r\nserver_name:valkey\r\n",
                "Valkey (as Redis 7.2.4)",
            ),
            (
                "redis_version:6.3.4\r\nexecutable:/usr/bin/keydb-server\r\n",
                "KeyDB 6.3.4",
            ),
            (
                "redis_version:7.1.0\r\nos:Amazon ElastiCache\r\n",
                "Redis 7.1.0, managed by Amazon",
            ),
            (
                "redis_version:7.4.0\r\nrlec_version:7.8.2-34\r\n",
                "Redis 7.4.0, Redis Enterprise",
            ),
        ] {
            assert_eq!(flavour(info), expected);
        }
    }
}
