//! A Lua script, called by its hash. The source is sent to servers that do not know it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs};
use store::connection::Connection;
use store::names::Names;

#[derive(Debug)]
pub(super) struct Script {
    source: Cow<'static, str>,
    hash: String,
    names: Names,
    noscript_count: AtomicU64,
}

/// A script with its keys and arguments.
pub(super) struct Call<'a> {
    script: &'a Script,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Script {
    /// `names`: those of the keys that it gets.
    pub(super) fn new(source: &'static str, names: &Names) -> Self {
        Self::of(source.into(), names)
    }

    /// A script that no other process uses. A server keeps it in memory only, and neither its disk nor its
    /// replicas have it. A server that does not know it has restarted, or has become the master.
    pub(super) fn unique(source: &str, names: &Names) -> Self {
        Self::of(
            format!("{source}-- {}\n", store::random::hex::<8>()).into(),
            names,
        )
    }

    fn of(source: Cow<'static, str>, names: &Names) -> Self {
        let hash = redis::Script::new(&source).get_hash().to_owned();
        let noscript_count = AtomicU64::new(0);
        Self {
            source,
            hash,
            names: names.clone(),
            noscript_count,
        }
    }

    /// How often a server did not know the script.
    pub(super) fn noscript_count(&self) -> u64 {
        self.noscript_count.load(Ordering::Acquire)
    }

    pub(super) fn call(&self, keys: impl IntoIterator<Item = String>) -> Call<'_> {
        Call {
            script: self,
            keys: keys.into_iter().map(|key| self.names.key(key)).collect(),
            args: Vec::new(),
        }
    }
}

impl Call<'_> {
    pub(super) fn arg(&mut self, arg: impl ToRedisArgs) -> &mut Self {
        arg.write_redis_args(&mut self.args);
        self
    }

    /// Runs the script on the server of its keys. A server that does not know it gets the source. The
    /// library's own fallback loads the script on every master of a Cluster, and fails while one of them is
    /// down.
    pub(super) async fn run<T: FromRedisValue>(&self, mut redis: Connection) -> RedisResult<T> {
        let by_name = self.command("EVALSHA", &self.script.hash);
        match by_name.query_async(&mut redis).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.script.noscript_count.fetch_add(1, Ordering::AcqRel);
                let with_source = self.command("EVAL", &self.script.source);
                with_source.query_async(&mut redis).await
            }
            answer => answer,
        }
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(verb);
        command
            .arg(script)
            .arg(self.keys.len())
            .arg(&self.keys)
            .arg(&self.args);
        command
    }
}
