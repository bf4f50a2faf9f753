//! A program as a child process, with its log.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::client::KEY;
use crate::wait::{self, until};

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// Of its output.
    readers: Vec<JoinHandle<()>>,
}

/// How a program is started.
#[derive(Debug, Clone)]
pub struct Start {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: HashMap<String, String>,
}

impl Start {
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: HashMap::new(),
        }
    }

    /// The `evergreen` binary of this build, with an empty environment. Data directories are temporary, which on
    /// some machines means a tmpfs.
    #[must_use]
    pub fn evergreen(command: &[&str]) -> Self {
        Self::new(evergreen())
            .args(command)
            .env("EVERGREEN_ALLOW_TMPFS", true)
            // Tests connect many customers from one address.
            .env("EVERGREEN_ANONYMOUS_RATE", "100000/1s")
            .env("EVERGREEN_CONSENT_RATE", "100000/1s")
    }

    /// The binary of this build, which has crash points, even if `EVERGREEN_BIN` names another one.
    #[must_use]
    pub fn evergreen_with_crash_points(command: &[&str]) -> Self {
        Self::new(built())
            .args(command)
            .env("EVERGREEN_ALLOW_TMPFS", true)
            // Tests connect many customers from one address.
            .env("EVERGREEN_ANONYMOUS_RATE", "100000/1s")
            .env("EVERGREEN_CONSENT_RATE", "100000/1s")
    }

    #[must_use]
    pub fn args<S: AsRef<str>>(mut self, args: &[S]) -> Self {
        self.args
            .extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub fn env(mut self, key: &str, value: impl Display) -> Self {
        self.env.insert(key.to_owned(), value.to_string());
        self
    }

    /// Starts it through another program that takes a command as its last arguments, such as `taskset -c 0`.
    #[must_use]
    pub fn under(mut self, outer: &[&str]) -> Self {
        if let [program, args @ ..] = outer {
            let inner = std::mem::replace(&mut self.program, program.into());
            let inner = [inner.display().to_string()];
            let args = args.iter().map(|arg| (*arg).to_owned()).chain(inner);
            self.args.splice(0..0, args);
        }
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.env)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Starts it and collects its output. A process with a data directory finds [`KEY`] there as its administrator's.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(&self) -> Program {
        self.write_admin_key().expect("a data directory");
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let stdout = stdout.map(|stream| collect(stream, log.clone()));
        let stderr = stderr.map(|stream| collect(stream, log.clone()));
        let file = self.program.file_name().unwrap_or_default().display();
        Program {
            name: format!("{file} {}", self.args.first().cloned().unwrap_or_default()),
            child,
            log,
            readers: stdout.into_iter().chain(stderr).collect(),
        }
    }

    fn write_admin_key(&self) -> std::io::Result<()> {
        let serves = |arg: &String| matches!(arg.as_str(), "up" | "broker");
        if !self.args.iter().any(serves) {
            return Ok(());
        }
        let flag = self.args.iter().position(|arg| arg == "--data-dir");
        let flag = flag.and_then(|at| self.args.get(at + 1));
        let Some(directory) = flag.or_else(|| self.env.get("EVERGREEN_DATA_DIR")) else {
            return Ok(());
        };
        write_admin_key(Path::new(directory))
    }

    /// Runs it and waits for its end.
    ///
    /// # Panics
    /// If it cannot be started, or does not end within 30 s.
    pub async fn run(&self) -> std::process::Output {
        self.run_within(Duration::from_secs(30)).await
    }

    /// As [`run`](Self::run), with another time limit.
    ///
    /// # Panics
    /// If it cannot be started, or does not end within `patience`.
    pub async fn run_within(&self, patience: Duration) -> std::process::Output {
        let output = self.command().output();
        tokio::time::timeout(patience, output)
            .await
            .unwrap_or_else(|_| panic!("{} does not end", self.program.display()))
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()))
    }
}

/// Makes a data directory whose administrator's key is [`KEY`], unless it has one.
///
/// # Errors
/// If it cannot be written.
pub fn write_admin_key(directory: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    match options.open(directory.join("admin.key")) {
        Ok(mut file) => file.write_all(KEY.as_bytes()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn collect(
    stream: impl tokio::io::AsyncRead + Send + Unpin + 'static,
    log: Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            log.lock().expect("not poisoned").push(line);
        }
    })
}

/// The binary that was built with this test, or the one that `EVERGREEN_BIN` names.
#[must_use]
pub fn evergreen() -> PathBuf {
    match std::env::var_os("EVERGREEN_BIN") {
        Some(named) => named.into(),
        None => built(),
    }
}

fn built() -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    // A test is at target/<profile>/deps/<test>, a program at target/<profile>/<program>.
    let beside = test.ancestors().skip(1).take(2);
    let mut built = beside.map(|directory| directory.join("evergreen"));
    built
        .find(|program| program.is_file())
        .expect("`evergreen` is missing: build it with `cargo build -p evergreen-cli`")
}

impl Program {
    /// The lines written so far.
    ///
    /// # Panics
    /// Never in a test that has not panicked before.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("not poisoned").clone()
    }

    /// The first line that contains all of these words.
    #[must_use]
    pub fn line(&self, words: &[&str]) -> Option<String> {
        let log = self.log();
        log.into_iter()
            .find(|line| words.iter().all(|word| line.contains(word)))
    }

    /// Waits for a line that contains all of these words.
    pub async fn wait_for_line(&self, words: &[&str], patience: Duration) -> String {
        until(
            &format!("{words:?} in the log of {}", self.name),
            patience,
            || async {
                self.line(words).ok_or_else(|| {
                    let log = self.log();
                    log[log.len().saturating_sub(5)..].join("\n")
                })
            },
        )
        .await
    }

    /// # Panics
    /// If it has ended already.
    #[must_use]
    pub fn id(&self) -> i32 {
        let id = self.child.id().expect("it runs");
        i32::try_from(id).expect("a process id")
    }

    /// Sends a signal to this process only.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&self, signal: i32) {
        let sent = std::process::Command::new("kill")
            .args([format!("-{signal}"), self.id().to_string()])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "{} is gone",
            self.name
        );
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Whether it is stopped by a signal.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let id = self.child.id().unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses.
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('T'))
    }

    /// Kills it with `kill -9`. Returns its log.
    pub async fn kill(mut self) -> Vec<String> {
        let _ = self.child.kill().await;
        self.whole_log().await
    }

    /// Sends SIGTERM and waits for the exit code.
    ///
    /// # Panics
    /// If it does not end within `patience`.
    pub async fn terminate(self, patience: Duration) -> (Option<i32>, Vec<String>) {
        self.signal(15);
        self.wait_for_exit(patience).await
    }

    /// Waits for the exit code of a program that ends without a signal.
    ///
    /// # Panics
    /// If it does not end within `patience`.
    pub async fn wait_for_exit(mut self, patience: Duration) -> (Option<i32>, Vec<String>) {
        let exited = tokio::time::timeout(patience, self.child.wait()).await;
        let status = exited
            .unwrap_or_else(|_| panic!("{} does not end: {:#?}", self.name, self.log()))
            .expect("its exit status");
        (status.code(), self.whole_log().await)
    }

    /// All lines of a program that has ended. Its last lines can still be in the pipe when its exit is known.
    async fn whole_log(&mut self) -> Vec<String> {
        for reader in self.readers.drain(..) {
            // A program that it started, and that lives on, keeps the pipe open.
            let _ = tokio::time::timeout(Duration::from_secs(5), reader).await;
        }
        self.log()
    }

    /// The CPU time that it has used so far.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()));
        let stat = stat.expect("it runs");
        // The name, in parentheses, may contain anything. utime and stime are fields 14 and 15.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields = after_name.split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        // Linux reports 100 ticks a second to user space, whatever the kernel's timer frequency is.
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory, in kB.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let digits = line.and_then(|line| line.trim().strip_suffix("kB"));
        digits
            .and_then(|digits| digits.trim().parse().ok())
            .expect("a size in kB")
    }
}

/// Waits until something accepts connections at the port.
pub async fn wait_for_port(port: u16) {
    until(
        &format!("a listener on port {port}"),
        Duration::from_secs(60),
        || async {
            let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            wait::holds(connected.is_ok(), connected.err())
        },
    )
    .await;
}
