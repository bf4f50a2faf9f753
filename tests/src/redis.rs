//! A real redis-server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::port;
use crate::program::{Program, Start, wait_for_port};
use crate::scratch::Scratch;

/// A server that can be killed, paused, and started again on the same port and data.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    scratch: Scratch,
    args: Vec<String>,
    program: Option<Program>,
}

impl Redis {
    /// With the durability settings of `deploy/`.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With additional redis.conf settings on the command line.
    pub async fn start_with(args: &[&str]) -> Self {
        Self::start_at(port::free(), args).await
    }

    /// As [`Redis::start_with`], on a given port.
    pub async fn start_at(port: u16, args: &[&str]) -> Self {
        let mut redis = Self {
            port,
            scratch: Scratch::new(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            program: None,
        };
        redis.restart().await;
        redis
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    ///
    /// # Panics
    /// If it is not running.
    #[must_use]
    pub fn program(&self) -> &Program {
        self.program.as_ref().expect("it runs")
    }

    /// The directory of its files.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.scratch.path().to_owned()
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        if let Some(program) = self.program.take() {
            program.kill().await;
        }
    }

    /// Deletes all data while it is not running.
    ///
    /// # Panics
    /// If the files cannot be removed.
    pub fn delete_data(&self) {
        let files = self.scratch.path().join("appendonlydir");
        std::fs::remove_dir_all(files).expect("the files of a server that ran");
    }

    /// A copy of its current data.
    ///
    /// # Panics
    /// If they cannot be copied.
    #[must_use]
    pub fn copy_data(&self) -> Scratch {
        let copy = Scratch::new();
        copy_files(self.scratch.path(), copy.path()).expect("a copy of the data");
        copy
    }

    /// Restores a copy while it is not running.
    ///
    /// # Panics
    /// If it cannot be put in place.
    pub fn restore_data(&self, copy: &Scratch) {
        self.delete_data();
        copy_files(copy.path(), self.scratch.path()).expect("the copy");
    }

    /// Kills it, and starts it with other arguments and the same data.
    pub async fn restart_with(&mut self, args: &[&str]) {
        self.kill().await;
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.restart().await;
    }

    /// Starts it with the same data.
    pub async fn restart(&mut self) {
        let port = self.port.to_string();
        let start = Start::new("redis-server")
            .args(&["--port", &port, "--bind", "127.0.0.1", "--save", ""])
            .args(&["--appendonly", "yes", "--appendfsync", "always"])
            .args(&["--dir", &self.scratch.path().display().to_string()])
            .args(&self.args);
        let program = start.spawn();
        wait_for_port(self.port).await;
        program
            .wait_for_line(&["Ready to accept connections"], Duration::from_secs(20))
            .await;
        self.program = Some(program);
    }

    /// Runs a command with `redis-cli`. Returns its output.
    ///
    /// # Panics
    /// If there is no response, or it is an error.
    pub async fn cli(&self, login: &Login, command: &[&str]) -> String {
        cli(self.port, Some(login), command).await
    }

    /// Pauses the process: it accepts connections and does not answer.
    ///
    /// # Panics
    /// If it is not running.
    pub fn hang(&self) {
        self.program().signal(19);
    }

    /// Resumes the process.
    ///
    /// # Panics
    /// If it is not running.
    pub fn resume(&self) {
        self.program().signal(18);
    }
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir_all(&target)?;
            copy_files(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A user of a Redis server.
#[derive(Debug)]
pub struct Login {
    pub user: String,
    pub password: String,
}

/// As [`Redis::cli`], for the server at this port.
///
/// # Panics
/// If there is no response, or it is an error.
pub async fn cli(port: u16, login: Option<&Login>, command: &[&str]) -> String {
    let mut start = Start::new("redis-cli").args(&["-p", &port.to_string()]);
    if let Some(Login { user, password }) = login {
        start = start
            .env("REDISCLI_AUTH", password)
            .args(&["--user", user, "--no-auth-warning"]);
    }
    let output = start.args(&["-e"]).args(command).run().await;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(
        output.status.success(),
        "{command:?} at {port}: {text} {output:?}"
    );
    text
}

impl Drop for Redis {
    fn drop(&mut self) {
        // A paused process would outlive SIGTERM.
        if let Some(program) = &self.program {
            program.signal(18);
        }
    }
}
