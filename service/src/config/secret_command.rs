//! Runs a command whose standard output is a secret, such as the client of a key management service.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use secrecy::SecretString;

use super::without_mark;

/// Longer than any sensible answer of a key management service, and short enough for a supervisor.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How long a killed command's standard error may take to close.
const CLOSING_TIME: Duration = Duration::from_millis(200);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Far above the size of any ring of keys.
const MAX_OUTPUT: u64 = 64 * 1024;
/// The part of the standard error that a mistake quotes.
const QUOTED_LINES: usize = 3;
const QUOTED_CHARS: usize = 200;

/// Why a command gave no secret. Completes "KEY …". Quotes neither the standard output nor the arguments.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error("is not a command line: a quote is not closed, or it is empty")]
    Unsplittable,
    #[error("cannot be run: {0}")]
    NotStarted(io::Error),
    #[error("did not end within {} s{stderr}", .limit.as_secs())]
    TimedOut { limit: Duration, stderr: Quoted },
    #[error("failed: {}{stderr}", describe(.status))]
    Failed { status: ExitStatus, stderr: Quoted },
    #[error("ended well, but its standard output {0}")]
    Unusable(&'static str),
}

/// The first lines of the standard error.
#[derive(Debug)]
pub(super) struct Quoted(String);

impl std::fmt::Display for Quoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str(", without a word on its standard error");
        }
        write!(f, "; its standard error begins: {}", self.0)
    }
}

/// Runs a program with its arguments, split as a shell would, and returns its trimmed standard output.
pub(super) fn run(command_line: &str) -> Result<SecretString, CommandError> {
    run_within(command_line, TIME_LIMIT)
}

fn run_within(command_line: &str, limit: Duration) -> Result<SecretString, CommandError> {
    let words = shlex::split(command_line).unwrap_or_default();
    let [program, args @ ..] = words.as_slice() else {
        return Err(CommandError::Unsplittable);
    };
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(CommandError::NotStarted)?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let ended = wait_until(&mut child, deadline).map_err(CommandError::NotStarted)?;
    let Some(status) = ended else {
        let stderr = quoted(&stderr, Instant::now() + CLOSING_TIME);
        return Err(CommandError::TimedOut { limit, stderr });
    };
    if !status.success() {
        let stderr = quoted(&stderr, deadline);
        return Err(CommandError::Failed { status, stderr });
    }
    let output = match receive(&stdout, deadline) {
        Ok(output) => output,
        // A process that it left behind holds the pipe.
        Err(RecvTimeoutError::Timeout) => {
            let stderr = quoted(&stderr, deadline);
            return Err(CommandError::TimedOut { limit, stderr });
        }
        Err(RecvTimeoutError::Disconnected) => return Err(CommandError::Unusable("was not read")),
    };
    if output.len() as u64 > MAX_OUTPUT {
        return Err(CommandError::Unusable("is longer than 64 KiB"));
    }
    let text = String::from_utf8(output).map_err(|_| CommandError::Unusable("is not UTF-8"))?;
    match without_mark(&text).trim() {
        "" => Err(CommandError::Unusable("is empty")),
        secret => Ok(secret.into()),
    }
}

/// Reads a pipe to its end on a thread of its own, so that a full pipe does not stop the command.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let (Some(mut pipe), mut output) = (pipe, Vec::new()) else {
            return;
        };
        if pipe
            .by_ref()
            .take(MAX_OUTPUT + 1)
            .read_to_end(&mut output)
            .is_ok()
        {
            // The command would fail if nobody read the rest.
            let _ = io::copy(&mut pipe, &mut io::sink());
            // Nobody waits for it after the time limit.
            let _ = sender.send(output);
        }
    });
    receiver
}

fn receive(from: &Receiver<Vec<u8>>, deadline: Instant) -> Result<Vec<u8>, RecvTimeoutError> {
    from.recv_timeout(deadline.saturating_duration_since(Instant::now()))
}

/// `None` if it had to be killed.
fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            // It may have ended just now.
            let _ = child.kill();
            let _ = child.wait();
            return Ok(None);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn quoted(stderr: &Receiver<Vec<u8>>, deadline: Instant) -> Quoted {
    let output = receive(stderr, deadline).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.take(QUOTED_LINES).map(|line| {
        let shown = line.chars().take(QUOTED_CHARS);
        shown
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    });
    Quoted(lines.collect::<Vec<String>>().join(" / "))
}

fn describe(status: &ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        // "signal: 9 (SIGKILL)"
        None => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn failure(command_line: &str) -> String {
        let limit = Duration::from_millis(300);
        run_within(command_line, limit).unwrap_err().to_string()
    }

    #[test]
    fn trimmed_output_is_the_secret_and_arguments_are_split_without_a_shell() {
        let given = run("printf '%s\\n' 'a b:$HOME'").unwrap();
        assert_eq!(given.expose_secret(), "a b:$HOME");
        let given = run(r#"sh -c "echo one; echo noise >&2""#).unwrap();
        assert_eq!(given.expose_secret(), "one");
    }

    #[test]
    fn failure_names_the_exit_code_and_the_standard_error_but_no_output() {
        let said = failure("sh -c 'echo hunter2; echo denied >&2; echo twice >&2; exit 3'");
        assert_eq!(
            said,
            "failed: exit code 3; its standard error begins: denied / twice"
        );
        assert_eq!(
            failure("sh -c 'echo hunter2; exit 1'"),
            "failed: exit code 1, without a word on its standard error"
        );
        assert!(failure("sh -c 'kill -9 $$'").contains("signal: 9"));
        let said = failure("/nowhere/kms hunter2");
        assert!(
            said.starts_with("cannot be run: ") && !said.contains("hunter2"),
            "{said}"
        );
        assert!(failure("sh -c 'true").starts_with("is not a command line"));
    }

    #[test]
    fn command_that_does_not_end_is_killed() {
        let said = failure("sh -c 'echo waiting >&2; exec sleep 60'");
        assert_eq!(
            said,
            "did not end within 0 s; its standard error begins: waiting"
        );
        // A process that it leaves behind holds its output open.
        let said = failure("sh -c 'sleep 2 & exit 0'");
        assert!(said.starts_with("did not end within"), "{said}");
    }

    #[test]
    fn unusable_output_is_refused() {
        assert!(failure("true").ends_with("is empty"));
        assert!(failure(r"printf '\377'").ends_with("is not UTF-8"));
        let long = failure("head -c 70000 /dev/zero");
        assert!(long.ends_with("is longer than 64 KiB"), "{long}");
    }
}
